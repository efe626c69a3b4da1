"""When a shutdown does what, and which sockets are closed before their clients would. Pure.

What clients do when an open socket is closed, whatever the code (read from livekit-agents 1.5 to
1.8.9 and Node 1.9.0; 1.5.17, 1.8.8, 1.8.9 and Node were tried):

- /stt: they connect again at once; what is said meanwhile is lost.
- /tts, Python: an idle one is replaced at the next sentence, after 0.1 s. Node writes the sentence
  to the closed socket and waits 10 s for its audio.
- /bargein, Python 1.6 to 1.8.8: connected again after 0.1 s, three times in a call. 1.8.9 gives it
  up for the rest of the call: it asks for no retry. Node 1.9: AgentSession connects again after 2
  s, but notices a close no sooner than at the next overlap; it does notice an error message whose
  code is no 4xx. So there is one before the close (`OpenSocket.last_words`).
- /eot: given up for the rest of the call, for the detector that the agent carries.
- /realtime: connected again after 0.1 s, with the settings and the whole conversation; what is said
  meanwhile is lost.

So only idle /tts sockets of Python's client are closed early in a drain; all others are left alone
for as long as the grace lasts, and then closed when nobody speaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind

SPREAD_S_MAX: Final = 60.0
"""Idle sockets are closed spread over so long at most: their clients open new ones, elsewhere."""

LAST_S_MAX: Final = 10.0
"""Before the end of the grace: how long a moment is looked for in which nobody speaks."""

LAST_SHARE: Final = 0.25
"""The same, as a share of a short grace."""

OVERRUN_S: Final = 60.0
"""How long the same moment is looked for once a session has lasted long enough."""

RESTARTING: Final = 1012
"""Close code: the service restarts."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One shutdown; times on the clock of `now`, in seconds. `delay_s`: how long new connections
    are still taken; `grace_s`: how long open ones are, counted from `began` too."""

    began: float
    delay_s: float
    grace_s: float

    @property
    def ends_at(self) -> float:
        return self.began + self.grace_s

    @property
    def listens_until(self) -> float:
        return self.began + min(self.delay_s, self.grace_s)

    def listens(self, now: float) -> bool:
        """Whether new connections are taken."""
        return now < self.listens_until

    def is_over(self, now: float, open_requests: int) -> bool:
        """Whether the server may end."""
        return now >= self.ends_at or (not self.listens(now) and open_requests == 0)

    def closes_idle_at(self, spread: float) -> float:
        """When an idle socket is closed; `spread`, 0 to 1, puts those of many apart."""
        left_s = self.ends_at - self.listens_until
        return self.listens_until + spread * min(SPREAD_S_MAX, left_s / 2)

    @property
    def looks_for_calm_at(self) -> float:
        """From when on sockets are closed at the first moment in which nobody speaks."""
        return self.ends_at - min(LAST_S_MAX, LAST_SHARE * self.grace_s)


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """What is known of a client's open WebSocket.

    `ends_at`: when the session has lasted long enough. `spread`: 0 to 1, its place among the idle
    ones. `replaces`: its client opens another at no loss when an idle one is closed. `may_end`:
    whether nobody speaks at a time given as `now`. `last_words`: what its client is told before the
    close; "" is nothing.
    """

    ends_at: float
    spread: float
    replaces: bool
    may_end: Callable[[float], bool]
    last_words: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a socket is closed. `failure`: what is counted and logged; None: nothing went wrong."""

    code: int
    reason: str
    failure: Failure | None = None


DRAINED: Final = Ending(RESTARTING, "this server is shutting down")

TOO_LONG: Final = Ending(
    RESTARTING,
    "limits.session_s_max: the session has lasted too long, connect again",
    Failure(
        Kind.SESSION_TOO_LONG,
        "the session has lasted longer than limits.session_s_max",
        bound=Bound.SESSION_TIME,
    ),
)


def ending(socket: OpenSocket, drain: Drain | None, now: float) -> Ending | None:
    """How `socket` is to be closed now, or None: it is not."""
    if now >= socket.ends_at and (now >= socket.ends_at + OVERRUN_S or socket.may_end(now)):
        return TOO_LONG
    if drain is None:
        return None
    early = socket.replaces and now >= drain.closes_idle_at(socket.spread)
    if (early or now >= drain.looks_for_calm_at) and socket.may_end(now):
        return DRAINED
    return None
