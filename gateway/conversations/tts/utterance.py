"""What one utterance consists of: segments in one style each, and how far they are. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.audio.envelope import Envelope
from gateway.conversations.tts.protocol import Style
from gateway.routing.failover import Failover
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, Plan

LOOK_UP_S_MAX: Final = 0.25
"""A clip that is not there by then is taken for missing: a provider would soon have spoken."""


@dataclass(slots=True)
class LookUpPending:
    """The cache was asked for a text; the answer is waited for until `until`."""

    key: str
    until: float


@dataclass(slots=True)
class Segment:
    """Texts in one style.

    `plan` is in the order of the configuration, so `plan[0]` is what was asked for, whoever is
    asked first today. `next` is the index of the first text that no synthesis was given yet,
    `looked_up` that of the first the cache was not asked for. `closed`: no more texts come.
    `retry_at`: a pause before the next round of its plan; None: there is none.
    """

    style: Style
    plan: Plan
    failover: Failover
    texts: list[str] = field(default_factory=list)
    next: int = 0
    looked_up: int = 0
    closed: bool = False
    lookup: LookUpPending | None = None
    retry_at: float | None = None
    failure: Failure | None = None
    """The last one, for the client if nobody is left."""

    @property
    def unsaid(self) -> bool:
        """Whether a text waits that no synthesis was given."""
        return self.next < len(self.texts)

    @property
    def waits_until(self) -> float | None:
        """When the next synthesis may start, if it may not yet."""
        return self.retry_at if self.lookup is None else self.lookup.until

    def served_by(self, attempt: Attempt, now: float) -> None:
        """`attempt` has spoken to the end: it is the first to be asked for the next text, then
        all others of the plan."""
        self.failover.served(attempt)
        others = (other for other in self.plan if other != attempt)
        self.failover.replan((attempt, *others), now)

    def replan(self, now: float) -> None:
        """Begin anew with the whole plan."""
        self.failover.replan(self.plan, now)


@dataclass(slots=True)
class Utterance:
    """`clock` is in samples sent, `plays_until` when a listener who plays at once has heard them
    all. `envelope` is of the current synthesis, `loudness_db` of a voice that broke off (who goes
    on shall be as loud), `last` who spoke last, to the end. `admitted`: the quota knows of it."""

    began: float
    segments: deque[Segment] = field(default_factory=deque)
    flushed: bool = False
    chars: int = 0
    clock: int = 0
    plays_until: float = 0.0
    first_audio_at: float | None = None
    provider: str | None = None
    loudness_db: float | None = None
    last_sample: int = 0
    envelope: Envelope | None = None
    last: Attempt | None = None
    admitted: bool = False
