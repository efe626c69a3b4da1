"""What a speech-to-text session asks to be done; `endpoint` does it."""

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
    """Open a connection; what it says comes back with this number."""

    number: int
    dial: Dial | LocalTarget
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send messages on the connection with this number."""

    number: int
    frames: list[Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection with this number."""

    number: int


class Pause:
    """Read no more from the client."""


class Resume:
    """Read from the client again."""


@dataclass(frozen=True, slots=True)
class Linger:
    """Say nothing for so long, unless the client goes before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the client's WebSocket, and be done."""

    code: int
    reason: str = ""


Action = SendToClient | Open | Send | Drop | Pause | Resume | Linger | Close
