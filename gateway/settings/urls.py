"""What is wrong with a URL, and how it is shown. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit, urlunsplit

UPSTREAM_SCHEMES: Final = ("http", "https", "ws", "wss")


def problem(url: str, schemes: Collection[str], *, host: bool = True, query: bool = True) -> str:
    """What is wrong with `url`, as words that begin with "expected"; "" if nothing is.

    `host` says that it must name one, `query` that it may have one.
    """
    names = [f"{scheme}://" for scheme in schemes]
    expected = f"expected a URL that starts with {', '.join(names[:-1])} or {names[-1]}"
    if any(char.isspace() or not char.isprintable() for char in url):
        return f"{expected}, without spaces or line breaks"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        if "port" in str(error).lower():
            return "expected a port from 1 to 65535 in the URL"
        return "expected a host name or an address in the URL, an IPv6 one in [brackets]"
    if parts.scheme not in schemes or "://" not in url:
        return expected
    if host and not parts.hostname:
        return f"expected a host after {parts.scheme}://"
    if parts.hostname and not _is_host(parts.hostname):
        return "expected a host name or an address in the URL"
    if "://" in parts.path or (parts.netloc.endswith(":") and parts.path.startswith("//")):
        return "expected a URL with one scheme"
    if port == 0:
        return "expected a port from 1 to 65535 in the URL"
    if not query and (parts.query or parts.fragment):
        return "expected a URL without ? and #: paths are put behind it"
    return ""


def _is_host(name: str) -> bool:
    if any(char in '"<>\\^`{|}' for char in name):
        return False
    try:
        return ":" in name or bool(name.encode("idna"))
    except UnicodeError:
        return False


def shown(url: str) -> str:
    """`url` without the user and password that may stand in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
