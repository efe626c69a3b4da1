"""Where and how to reach a provider, as data: what an adapter says, what `connect` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Dial:
    """One connection to open or one HTTP request to make.

    `headers` hold credentials and so stay out of the repr. `body` is for HTTP alone. A scheme
    of ws/wss in `url` means a WebSocket; `subprotocols` and `ping_interval_s` are for those.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"
    body: bytes = field(default=b"", repr=False)
    subprotocols: tuple[str, ...] = ()
    ping_interval_s: float | None = None


def join_url(base: str, path: str) -> str:
    """`path` appended to `base`, whatever slashes either has."""
    return f"{base.rstrip('/')}/{path.lstrip('/')}"


def path_segment(name: str) -> str:
    """A name that callers give, as one segment of a path, whatever it holds. `.` and `..` would be
    steps in the path even when they are quoted: they become a name that nothing has."""
    quoted = quote(name, safe="")
    return quoted.replace(".", "%252E") if quoted in (".", "..") else quoted


def websocket_url(base: str) -> str:
    """`base` with its http scheme turned into the WebSocket one."""
    return "ws" + base[4:] if base.startswith("http") else base
