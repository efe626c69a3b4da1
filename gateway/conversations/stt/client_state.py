"""What a session's client has asked for, what it is owed, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.actions import Action, Close, Linger, Pause, Resume, SendToClient
from gateway.conversations.stt.report import Report
from gateway.upstreams.errors import Failure

MUTED_S: Final = 5.0
"""A client that has sent no audio for this long is muted: a connection that ends is replaced only
when there is audio again."""

END_S: Final = 5.0
"""livekit-agents 1.5 sends no session.close: this long after its finalize the session is over."""

LINGER_S: Final = 0.25
"""Nothing is sent for this long after session.close: @livekit/agents 1.9 closes its socket right
behind it, and any message that comes in between kills its process."""

FINALIZES_MAX: Final = 64
"""Unanswered finalizes that are counted; more get no answer of their own."""

AHEAD_S: Final = 2.0
"""A client that has sent this much more audio than time has passed sends a recording."""

PAUSE_SHARE: Final = 0.8
RESUME_SHARE: Final = 0.4
"""Shares of the audio that may be kept: the client is not read while more than the first is unsent,
until no more than the second is."""


class ClientState:
    """The client's side of a session. What it is told is appended to `out`."""

    def __init__(
        self, session_id: str, report: Report, out: list[Action], now: float, *, ends_itself: bool
    ) -> None:
        self.id = session_id
        self.report = report
        self.over = False
        self.closing = False  # session.close came
        self._finalizes = 0  # that wait for an answer
        self._out = out
        self._flushed = 0  # of these, how many the flush under way answers
        self.audio_at = now  # when it last sent audio
        self.first_audio_at: float | None = None
        self._finalized_at: float | None = None
        self.ends_itself = ends_itself  # it sends no session.close
        self._paused = False

    # -- what it has done

    def finalize(self, now: float) -> None:
        """It wants finals for what it has said; one more answer is owed."""
        self._finalizes = min(self._finalizes + 1, FINALIZES_MAX)
        self._finalized_at = now

    def close(self) -> None:
        """It wants the last finals, and the end."""
        self.closing = True
        self._out.append(Linger(LINGER_S))

    def is_muted(self, now: float) -> bool:
        """Whether it sends no audio, of its own accord."""
        return not self._paused and now - self.audio_at >= MUTED_S

    def runs_ahead(self, sent_s: float, now: float) -> bool:
        """Whether it sends faster than anybody speaks; `sent_s`: the audio that it has sent."""
        first = self.first_audio_at
        return first is not None and sent_s - (now - first) > AHEAD_S

    def ends_at(self, *, utterance_open: bool) -> float | None:
        """When a client that sends no session.close is done."""
        at = self._finalized_at
        if at is None or self.audio_at > at or self._finalizes or utterance_open:
            return None
        return at + END_S

    # -- what it is told

    def tell(self, texts: Iterable[str]) -> None:
        """Send it these messages."""
        self._out += [SendToClient(text) for text in texts]

    def say(self, kind: str) -> None:
        """Send it a message that has only a type."""
        self._out.append(SendToClient(protocol.simple(kind, self.id)))

    def flushing(self) -> None:
        """A flush begins, which answers all finalizes so far."""
        self._flushed = self._finalizes

    def flush_failed(self) -> None:
        """The flush under way gets no answer: another one has to follow."""
        self._flushed = 0

    @property
    def wants_flush(self) -> bool:
        """Whether there are finalizes that no flush answers so far."""
        return self._finalizes > self._flushed

    @property
    def wants_answers(self) -> bool:
        """Whether there are finalizes without an answer."""
        return self._finalizes > 0

    def acknowledge(self) -> None:
        """The flush is over: its finalizes are answered."""
        for _ in range(self._flushed):
            self.say("session.finalized")
        self._finalizes -= self._flushed
        self._flushed = 0

    def slow_down(self, share: float) -> None:
        """Stop or start reading its audio. `share`: unsent audio, of what may be kept."""
        if not self._paused and share >= PAUSE_SHARE and not self.closing:
            self._paused = self.report.ahead = True
            self._out.append(Pause())
        elif self._paused and share <= RESUME_SHARE:
            self._paused = False
            self._out.append(Resume())

    def refuse(self, failure: Failure) -> None:
        """Its mistake, or a failure that ends the session."""
        self.report.failure = failure
        self._out.append(SendToClient(protocol.error(failure, self.id)))
        self.end(1008 if failure.status < 500 else 1011, failure.message)

    def refuse_update(self, failure: Failure) -> None:
        """A change of settings is not made; the session goes on as it was. LiveKit's clients end
        their stream at any `error`, and read over types that they do not know."""
        self._out.append(SendToClient(protocol.error(failure, self.id, protocol.UPDATE_REFUSED)))

    def close_well(self) -> None:
        """It has all that it will get."""
        self.flushing()
        self.acknowledge()
        self.say("session.closed")
        self.end(1000)

    def end(self, code: int, reason: str = "") -> None:
        """Close its WebSocket."""
        self._out.append(Close(code, reason))
        self.over = True
