"""One /bargein WebSocket: every window gets exactly one answer. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from gateway.conversations.bargein import protocol
from gateway.conversations.bargein.protocol import CloseSession, Create, Settings
from gateway.engines.interruption.decision import first_detection
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats, FrameModelCard
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text

_CREATED_AT = struct.Struct("<Q")

CALM_S: Final = 2.0
"""Without a window for so long, no overlap is going on: clients send one every 100 ms."""

BAD_WINDOWS_MAX: Final = 8
"""After so many windows that cannot be read, the session is closed: the client is broken."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The engine's word on a window: probabilities float32 [frames], or None if it was overtaken
    by a newer window or could not be run."""

    created_at: int
    probabilities: Floats | None
    prediction_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Send a text message to the client; `verdict` is "interruption", "none" or "stale" where it
    answers a window, and `decided_s`, with the first interruption of an overlap, the time since its
    first window."""

    text: str
    verdict: str | None = None
    decided_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the engine about a window of s16le samples."""

    created_at: int
    window: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket, and be done."""

    code: int
    reason: str = ""


CONNECT_AGAIN: Final = Failure(
    Kind.SHUTTING_DOWN, "the server closes this connection: connect again"
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """The caller spoke over the agent from `began` to `ended`, on the session's clock. `decision`:
    "interruption", told when it is decided, or "held", once it is over."""

    began: float
    ended: float
    decision: str


Action = SendToClient | Ask | Overlap | Close
Event = Text | Binary | ClientLeft | Answered


@dataclass(slots=True)
class Report:
    """What happened, for logs and metrics."""

    windows: int = 0
    detected: int = 0
    stale: int = 0
    overlaps: int = 0
    interruptions: int = 0
    failure: Failure | None = None
    left: bool = False


class BargeinSession:
    """Events in, actions out. `default_threshold` is what a client without one gets."""

    def __init__(
        self,
        card: FrameModelCard,
        default_threshold: float,
        session_id: str,
        idle_s: float,
        now: float,
    ) -> None:
        self._card = card
        self._default_threshold = default_threshold
        self._id = session_id
        self._idle_s = idle_s
        self._settings: Settings | None = None
        self._known = "[]"
        self._known_detected = False
        self._bad_windows = 0
        self._over = False
        self._idle_at = now + idle_s
        self._window_at = now - CALM_S
        self._overlap_at = now
        self._decided = True  # this overlap is an interruption, or over
        self.report = Report()
        self.last_words = protocol.error(CONNECT_AGAIN, session_id)
        """Before the server closes the connection: see server/drain.py for which clients."""

    @property
    def deadline(self) -> float | None:
        """When it wants `DeadlinePassed`."""
        return self._idle_at if self._decided else min(self._idle_at, self._window_at + CALM_S)

    @property
    def threshold(self) -> float:
        """What the client asked for, or goes by without."""
        asked = self._settings.threshold if self._settings is not None else None
        return self._default_threshold if asked is None else asked

    def may_end(self, now: float) -> bool:
        """Whether no overlap is going on."""
        return now >= self._window_at + CALM_S

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        if self._over:
            return []
        match event:
            case Binary(data):
                self._idle_at = now + self._idle_s
                held = self._held() if (begins := self.may_end(now)) else []
                self._window_at = now
                return [*held, *self._window(data, begins, now)]
            case Answered():
                return self._answer(event, now)
            case Text(text):
                self._idle_at = now + self._idle_s
                return self._text(text)
            case ClientLeft(code):
                self._over = True
                self.report.left = code not in (1000, 1005)
                return [*self._held(), Close(1000)]
            case DeadlinePassed() if now < self._idle_at:
                return self._held() if self.may_end(now) else []
            case DeadlinePassed():
                why = f"nothing was heard for {self._idle_s:g} s"
                return self._end(Failure(Kind.IDLE, why, bound=Bound.SESSION_IDLE), 1000)

    def _text(self, text: str) -> list[Action]:
        match protocol.read_message(text):
            case Failure() as failure:
                return self._end(failure, 1008)
            case Create(settings=settings):
                if self._settings is not None:
                    failure = Failure(Kind.BAD_REQUEST, "session.create was sent before")
                    return self._end(failure, 1008)
                self._settings = settings
                return [SendToClient(protocol.session_created(self._default_threshold))]
            case CloseSession():
                self._over = True
                return [SendToClient(protocol.SESSION_CLOSED), *self._held(), Close(1000)]

    def _window(self, data: bytes, begins: bool, now: float) -> list[Action]:
        if self._settings is None:
            failure = Failure(Kind.BAD_REQUEST, "audio before session.create")
            return self._end(failure, 1008)
        if len(data) < protocol.HEADER_BYTES:
            wrong: Failure | None = Failure(
                Kind.BAD_REQUEST,
                f"the message has {len(data)} bytes: expected 8 bytes of created_at, then samples",
            )
        else:
            wrong = protocol.check_window(
                len(data) - protocol.HEADER_BYTES, self._card.sample_rate, INTERRUPTION_WINDOW_S_MAX
            )
        if wrong is not None:
            self._bad_windows += 1
            if self._bad_windows >= BAD_WINDOWS_MAX:
                return self._end(replace(wrong, bound=Bound.BAD_WINDOWS), 1008)
            self.report.failure = wrong
            return [SendToClient(protocol.error(wrong, self._id))]
        self.report.windows += 1
        if begins or not self.report.overlaps:
            self.report.overlaps += 1
            self._overlap_at, self._decided = now, False
            self._known, self._known_detected = "[]", False  # of the overlap before
        (created_at,) = _CREATED_AT.unpack_from(data)
        return [Ask(created_at, data[protocol.HEADER_BYTES :])]

    def _held(self) -> list[Action]:
        """The overlap is over; it was no interruption, if that was not decided before."""
        if self._decided:
            return []
        self._decided = True
        return [Overlap(self._overlap_at, self._window_at, "held")]

    def _answer(self, event: Answered, now: float) -> list[Action]:
        assert self._settings is not None
        stale = event.probabilities is None
        if event.probabilities is None:
            self.report.stale += 1
        else:
            found = first_detection(event.probabilities, self.threshold, self._settings.min_frames)
            self._known_detected = found is not None
            self._known = protocol.probabilities_json(event.probabilities)
        decided_s = None
        overlap: list[Action] = []
        if self._known_detected:
            self.report.detected += 1
            if not self._decided:
                self._decided = True
                self.report.interruptions += 1
                decided_s = now - self._overlap_at
                overlap.append(Overlap(self._overlap_at, now, "interruption"))
        told = SendToClient(
            protocol.verdict(
                event.created_at, self._known_detected, event.prediction_s, self._known
            ),
            "stale" if stale else "interruption" if self._known_detected else "none",
            decided_s,
        )
        return [told, *overlap]

    def _end(self, failure: Failure, code: int) -> list[Action]:
        self._over = True
        self.report.failure = failure
        return [SendToClient(protocol.error(failure, self._id)), Close(code, failure.message)]
