"""One /eot WebSocket: hears continuously, answers every inference_start exactly once. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.conversations.eot import protocol
from gateway.conversations.eot.protocol import (
    Audio,
    ClientMessage,
    CloseSession,
    Create,
    Flush,
    Start,
    Stats,
    Stop,
    Unknown,
)
from gateway.conversations.eot.recent import RecentAudio
from gateway.engines.types import FINISHED, Prediction, Thresholds
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text

PENDING_MAX: Final = 4
"""Questions that wait for the engine. It holds one of a session and runs another, and a newer one
overtakes an older; a client that asks faster than this is answered without the engine."""


ANSWER_S_MAX: Final = 0.7
"""After so long a request is answered without a prediction, whatever the engine does: the clients
leave this server for the whole session after 1 s, and the way back takes its time."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """The engine's word on question `number`: None if it was overtaken, stale or failed."""

    number: int
    prediction: Prediction | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The interruption model's word on the audio of question `number`: the probability that it
    claims the floor, or None if that could not be told."""

    number: int
    claim: float | None


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Send a binary message to the client; `verdict` is "finished", "unfinished" or "none" where
    it answers a request."""

    data: bytes
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the engine about s16le samples."""

    number: int
    samples: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket, and be done."""

    code: int
    reason: str = ""


Action = SendToClient | Ask | Close
Event = Binary | Text | ClientLeft | Predicted | Claimed


@dataclass(slots=True)
class Report:
    """What happened, for logs and metrics."""

    audio_bytes: int = 0
    predictions: int = 0
    finished: int = 0
    none: int = 0
    late: int = 0
    failure: Failure | None = None
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that waits for its prediction."""

    request_id: str
    client_ns: int
    asked_at: float
    earliest_ns: int
    latest_ns: int


class EotSession:
    """Events in, actions out. `window_bytes` is how much audio the model looks at.

    `wall_ns` gives the Unix time in nanoseconds of a moment given as `now`.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        window_bytes: int,
        idle_s: float,
        now: float,
        wall_ns: Callable[[float], int],
    ) -> None:
        self._thresholds = thresholds
        self._idle_s = idle_s
        self._wall_ns = wall_ns
        self._audio = RecentAudio(window_bytes)
        self._created = False
        self._over = False
        self._asked = 0
        self._pending: dict[int, _Pending] = {}
        self._claims: dict[int, float] = {}  # of what is pending
        self._idle_at = now + idle_s
        self.report = Report()

    @property
    def deadline(self) -> float | None:
        for pending in self._pending.values():  # the oldest comes first
            return min(self._idle_at, pending.asked_at + ANSWER_S_MAX)
        return self._idle_at

    def may_end(self, now: float) -> bool:
        """Whether no prediction is waited for."""
        return not self._pending

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        if self._over:
            return []
        match event:
            case Binary(data):
                self._idle_at = now + self._idle_s
                return self._said(protocol.read_message(data), now)
            case Predicted(number, prediction):
                return self._predicted(number, prediction, now)
            case Claimed(number, claim):
                if number in self._pending and claim is not None:
                    self._claims[number] = claim
                return []
            case Text():
                failure = Failure(
                    Kind.BAD_REQUEST, "a text message: expected binary livekit.agent.ClientMessage"
                )
                return self._end(failure, 1008, now)
            case ClientLeft(code):
                self._over = True
                self.report.left = code not in (1000, 1005)
                return [Close(1000)]
            case DeadlinePassed() if now < self._idle_at:
                return self._late(now)
            case DeadlinePassed():
                why = f"nothing was heard for {self._idle_s:g} s"
                return self._end(Failure(Kind.IDLE, why, bound=Bound.SESSION_IDLE), 1000, now)

    def _said(self, said: ClientMessage | Failure, now: float) -> list[Action]:
        match said:
            case Failure():
                return self._end(said, 1008, now)
            case Create(created_ns):
                if self._created:
                    failure = Failure(Kind.BAD_REQUEST, "session_create was sent before")
                    return self._end(failure, 1008, now)
                self._created = True
                created = protocol.session_created(self._thresholds, created_ns, self._wall_ns(now))
                return [SendToClient(created)]
            case CloseSession(created_ns):
                self._over = True
                return [
                    SendToClient(protocol.session_closed(created_ns, self._wall_ns(now))),
                    Close(1000),
                ]
            case Unknown():
                return []
        if not self._created:
            failure = Failure(Kind.BAD_REQUEST, "the first message: expected session_create")
            return self._end(failure, 1008, now)
        match said:
            case Audio(samples, created_ns):
                self.report.audio_bytes += len(samples)
                self._audio.append(samples, created_ns)
                return []
            case Start():
                return self._start(said, now)
            case Flush():
                self._audio.clear()
                return []
            case Stop(request_id, created_ns):
                for number, pending in list(self._pending.items()):
                    if pending.request_id == request_id:
                        del self._pending[number]
                        self._claims.pop(number, None)
                stopped = protocol.inference_stopped(request_id, created_ns, self._wall_ns(now))
                return [SendToClient(stopped)]

    def _start(self, start: Start, now: float) -> list[Action]:
        pending = _Pending(
            start.request_id,
            start.created_ns,
            now,
            self._audio.earliest_ns,
            self._audio.latest_ns,
        )
        if not len(self._audio) or len(self._pending) >= PENDING_MAX:
            return [self._answer(pending, None, None, now)]
        self._asked += 1
        self._pending[self._asked] = pending
        return [Ask(self._asked, self._audio.samples())]

    def _predicted(self, number: int, prediction: Prediction | None, now: float) -> list[Action]:
        pending = self._pending.pop(number, None)
        claim = self._claims.pop(number, None)
        return [] if pending is None else [self._answer(pending, prediction, claim, now)]

    def _late(self, now: float) -> list[Action]:
        """Answers to requests that have waited too long; what the engine says later is dropped."""
        late = [n for n, one in self._pending.items() if now >= one.asked_at + ANSWER_S_MAX]
        self.report.late += len(late)
        return [action for number in late for action in self._predicted(number, None, now)]

    def _answer(
        self, pending: _Pending, prediction: Prediction | None, claim: float | None, now: float
    ) -> SendToClient:
        self.report.predictions += 1
        probability, preprocess_s, inference_s = FINISHED, 0.0, 0.0
        backchannel, verdict = 0.0, "none"
        if prediction is None:
            self.report.none += 1
        else:
            probability = prediction.probability
            preprocess_s, inference_s = prediction.preprocess_s, prediction.inference_s
            finished = probability >= self._thresholds.default
            self.report.finished += finished
            verdict = "finished" if finished else "unfinished"
            if claim is not None:  # it is not waited for
                backchannel = 1.0 - claim
        server_s = now - pending.asked_at
        # what the client's clock says until it asked, and ours since: its clock may differ
        heard_s = max(0, pending.client_ns - pending.earliest_ns) / 1e9
        known = pending.earliest_ns > 0 and pending.client_ns > 0
        stats = Stats(
            pending.earliest_ns,
            pending.latest_ns or pending.client_ns,
            server_s + (heard_s if known else 0.0),
            server_s,
            preprocess_s,
            inference_s,
        )
        return SendToClient(
            protocol.prediction(
                pending.request_id,
                probability,
                backchannel,
                stats,
                pending.client_ns,
                self._wall_ns(now),
            ),
            verdict,
        )

    def _end(self, failure: Failure, code: int, now: float) -> list[Action]:
        self._over = True
        self.report.failure = failure
        return [
            SendToClient(protocol.error(failure, self._wall_ns(now))),
            Close(code, failure.message),
        ]
