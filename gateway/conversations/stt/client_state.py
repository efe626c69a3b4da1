"""What a session's client has asked for, what it is owed, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.actions import Action, Close, Pause, Resume, SendToClient
from gateway.conversations.stt.report import Report
from gateway.upstreams.errors import Failure

ASLEEP_S: Final = 5.0
"""A caller who has sent no audio for so long is muted: a line that ends is not replaced before
there is something to hear."""

END_S: Final = 5.0
"""livekit-agents 1.5 sends no session.close: so long after its finalize, the session is over."""

FINALIZES_MAX: Final = 64
"""Unanswered finalizes that are counted; more get no answer of their own."""

AHEAD_S: Final = 2.0
"""A client that has sent so much more than time has passed sends a recording."""

PAUSE_SHARE: Final = 0.8
RESUME_SHARE: Final = 0.4
"""Of the audio that may be kept: with so much unsent, the client is read no further; until so
little is."""


class ClientState:
    """The client's side. `out` takes the actions of the event that is being handled."""

    def __init__(self, session_id: str, report: Report, now: float, *, ends_itself: bool) -> None:
        self.id = session_id
        self.report = report
        self.out: list[Action] = []
        self.over = False
        self.heard_at = self.audio_at = now
        self.first_audio_at: float | None = None
        self.finalizes = 0  # that wait for an answer
        self.acks = 0  # of these, how many the flush under way answers
        self.finalized_at: float | None = None  # if it was the last thing that was heard
        self.closing_by: float | None = None
        self._ends_itself = ends_itself
        self._paused = False

    def tell(self, texts: Iterable[str]) -> None:
        self.out += [SendToClient(text) for text in texts]

    def say(self, kind: str) -> None:
        """A message that has only a type."""
        self.out.append(SendToClient(protocol.simple(kind, self.id)))

    def finalize(self, now: float) -> None:
        """One more answer is owed."""
        self.finalizes = min(self.finalizes + 1, FINALIZES_MAX)
        self.finalized_at = now

    def acknowledge(self) -> None:
        """The flush under way is done."""
        for _ in range(self.acks):
            self.say("session.finalized")
        self.finalizes -= self.acks
        self.acks = 0

    def is_muted(self, now: float) -> bool:
        return now - self.audio_at >= ASLEEP_S

    def runs_ahead(self, sent_s: float, now: float) -> bool:
        """Whether it sends faster than anybody speaks."""
        return self.first_audio_at is not None and sent_s - (now - self.first_audio_at) > AHEAD_S

    def slow_down(self, share: float, *, asleep: bool) -> None:
        """Hold back a client that is ahead of what can be sent. `share`: of what may be kept."""
        if not self._paused and share >= PAUSE_SHARE and not asleep:
            self._paused = True
            self.out.append(Pause())
        elif self._paused and share <= RESUME_SHARE:
            self._paused = False
            self.out.append(Resume())

    def end_at(self, *, utterance_open: bool) -> float | None:
        """When a client that does not say so is done."""
        if not self._ends_itself or self.finalized_at is None or self.finalizes or utterance_open:
            return None
        return self.finalized_at + END_S

    def refuse(self, failure: Failure) -> None:
        """Its mistake, or its end."""
        self.report.failure = failure
        self.out.append(SendToClient(protocol.error(failure, self.id)))
        self.end(1008 if failure.status < 500 else 1011, failure.message)

    def close_well(self) -> None:
        """It has all that it will get."""
        self.acks = self.finalizes
        self.acknowledge()
        self.say("session.closed")
        self.end(1000)

    def end(self, code: int, reason: str = "") -> None:
        self.out.append(Close(code, reason))
        self.over = True
