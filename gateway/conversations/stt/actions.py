"""What a speech-to-text session asks to be done; `route` does it. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Plan
from gateway.upstreams.stt import LocalTarget


class SendToClient(NamedTuple):
    """Send a text message to the client."""

    text: str


class Heard(NamedTuple):
    """The caller has said so many `words` of an utterance, from `since` to `until` on the session's
    clock."""

    words: int
    since: float
    until: float


class Open(NamedTuple):
    """Open a connection to a provider; events about it carry this number."""

    number: int
    dial: Dial | LocalTarget
    timeout_s: float


class Send(NamedTuple):
    """Send messages to the provider, on the connection with this number."""

    number: int
    frames: list[Any]


class Drop(NamedTuple):
    """Close the connection with this number."""

    number: int


class Pause:
    """Stop reading from the client."""


class Resume:
    """Read from the client again."""


class Linger(NamedTuple):
    """Send the client nothing for this long, unless it leaves before."""

    seconds: float


class Close(NamedTuple):
    """Close the client's WebSocket; the session is over."""

    code: int
    reason: str = ""


class Admit(NamedTuple):
    """Ask what of a plan may be used, for a session under the name `asked` (None: the operator's
    choice). Admitted answers. `is_new`: it begins with this."""

    asked: str | None
    plan: Plan
    is_new: bool


class Meter:
    """Count what was used so far, and reserve what comes next. Metered answers."""


# Events: answers to the last two


class Admitted(NamedTuple):
    """What of the plan may be used, or why nothing."""

    plan: Plan | Failure


class Metered(NamedTuple):
    """Why the session has to end soon, if something is used up."""

    failure: Failure | None


Action = SendToClient | Heard | Open | Send | Drop | Pause | Resume | Linger | Close | Admit | Meter
