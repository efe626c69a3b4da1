"""What a speech-to-text session asks to be done; `route` does it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Plan
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


@dataclass(frozen=True, slots=True)
class Admit:
    """Ask what of a plan may be used, for a session under the name `asked` (None: the operator's
    choice). Admitted answers. `count`: it is a new session."""

    asked: str | None
    plan: Plan
    count: bool


@dataclass(frozen=True, slots=True)
class Meter:
    """Count what was used so far, and reserve what comes next. Metered answers."""


# Events: answers to the last two


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of the plan may be used, or why nothing."""

    plan: Plan | Failure


@dataclass(frozen=True, slots=True)
class Metered:
    """Why the session has to end soon, if something is used up."""

    failure: Failure | None


Action = SendToClient | Open | Send | Drop | Pause | Resume | Linger | Close | Admit | Meter
