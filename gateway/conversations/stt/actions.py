"""What a speech-to-text session asks to be done; `route` does it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.upstreams.dial import Dial
from gateway.upstreams.stt import LocalTarget


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Send a text message to the client."""

    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """Open a connection to a provider; events about it carry this number."""

    number: int
    dial: Dial | LocalTarget
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send messages to the provider, on the connection with this number."""

    number: int
    frames: list[Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection with this number."""

    number: int


class Pause:
    """Stop reading from the client."""


class Resume:
    """Read from the client again."""


@dataclass(frozen=True, slots=True)
class Linger:
    """Send the client nothing for this long, unless it leaves before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the client's WebSocket; the session is over."""

    code: int
    reason: str = ""


Action = SendToClient | Open | Send | Drop | Pause | Resume | Linger | Close
