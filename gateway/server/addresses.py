"""Who calls: the peer of a connection, or whom a trusted proxy names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

Networks = Sequence[IPv4Network | IPv6Network]

HOPS_MAX: Final = 16
"""Proxies in a row; what stands before so many names in X-Forwarded-For is not read."""


def client_address(peer: str, forwarded: Iterable[str], trusted: Networks) -> str:
    """The address of the caller behind `peer`.

    `forwarded`: the values of all X-Forwarded-For headers, in order. Each proxy appends the
    address that it was called from, so only what stands to the right is known to be true: the
    answer is the right-most entry that is not in `trusted`, and that only while `peer` is. Where
    an entry is no address, whoever wrote it is the caller. Whoever has no known address is "".
    """
    caller = peer
    if not within(peer, trusted):
        return caller
    entries = ",".join(forwarded).rsplit(",", HOPS_MAX)[-HOPS_MAX:]
    for entry in reversed(entries):
        named = _parse(_without_port(entry.strip()))
        if named is None:
            break
        caller = str(named)
        if not within(caller, trusted):
            break
    return caller


def endpoint(info: Any) -> tuple[str, int] | None:
    """Host and port, of an address as a socket has it; None for one without, as of a file."""
    return (str(info[0]), int(info[1])) if isinstance(info, tuple) else None


def within(address: str, networks: Networks) -> bool:
    """Whether `address` lies in one of `networks`; what is no address does not."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # a socket that listens for both sees IPv4 so
    return address


def _without_port(text: str) -> str:
    """Some proxies write `1.2.3.4:567` and `[2001:db8::1]:567`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
