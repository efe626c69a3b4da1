"""Who calls, as proxies tell it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.server.addresses import HOPS_MAX, client_address, endpoint, within

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # a header from outside
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1"], "198.51.100.1"),  # the first is made up
        ("10.0.0.1", ["127.0.0.1", "198.51.100.1"], "198.51.100.1"),  # two headers are one
        ("10.0.0.1", ["198.51.100.1, 10.2.2.2"], "198.51.100.1"),  # two proxies
        ("10.0.0.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, _hidden, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [", ,"], "10.0.0.1"),
        ("10.0.0.1", ["x" * 100_000], "10.0.0.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_caller_is_the_last_whom_no_trusted_proxy_is(
    peer: str, forwarded: list[str], caller: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == caller


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address("10.0.0.1", ["198.51.100.1"], []) == "10.0.0.1"


def test_a_long_row_of_proxies_is_read_only_so_far() -> None:
    row = ",".join(["198.51.100.1", *["10.1.1.1"] * HOPS_MAX])

    assert client_address("10.0.0.1", [row], TRUSTED) == "10.1.1.1"


def test_what_is_no_address_lies_in_no_network() -> None:
    assert not within("x", [ip_network("0.0.0.0/0")])


def test_an_address_of_a_socket_has_a_host_and_a_port_where_it_is_of_the_network() -> None:
    assert endpoint(("127.0.0.1", 80)) == ("127.0.0.1", 80)
    assert endpoint(("::1", 80, 0, 0)) == ("::1", 80)
    assert endpoint("/run/parley.sock") is None
    assert endpoint(None) is None
