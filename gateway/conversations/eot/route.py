"""WebSocket /eot: what the host does not do for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.conversations.eot.protocol import SAMPLE_RATE
from gateway.conversations.eot.session import (
    Action,
    Ask,
    Claimed,
    Close,
    EotSession,
    Event,
    Predicted,
    SendToClient,
)
from gateway.engines.batcher import Timing
from gateway.engines.interruption.learning import LearningKeeper
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.turn_detection.model import Question
from gateway.engines.types import Prediction
from gateway.server.admission import RequestContext
from gateway.server.host import BLOCKED_S, SocketLink
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import RUNS_MAX, EngineRun, EotCounts, Outcome, SpeechUsage
from gateway.upstreams.errors import Failure

EVENTS_MAX: Final = 32
"""Messages of one session that wait to be looked at; then its socket is read no further."""


class EotRoute:
    """The route. One for each process."""

    name: Final = "eot"
    events_max: Final = EVENTS_MAX
    blocked_s: Final = BLOCKED_S

    def __init__(
        self,
        engine: EotEngine,
        metrics: Metrics,
        idle_s: float,
        learning: LearningKeeper | None = None,
    ) -> None:
        """`learning`: who wants to know when turns are over."""
        self.engine = engine
        self.learning = learning
        self.verdicts = {
            name: metrics.turn_answers.labels("audio", name)
            for name in ("finished", "unfinished", "none")
        }
        self._idle_s = idle_s

    def open(self, request: RequestContext, link: SocketLink[Event]) -> EotConversation | Failure:
        if self.engine.failure is not None:
            return self.engine.failure
        model = self.engine.model
        assert model is not None
        began, began_ns = time.monotonic(), time.time_ns()
        session = EotSession(
            self.engine.thresholds,
            2 * model.card.window_samples,
            self._idle_s,
            began,
            lambda now: began_ns + int((now - began) * 1e9),
        )
        turn_over = None
        if self.learning is not None:
            turn_over = self.learning.turns(request.call, request.caller.key)
        return EotConversation(self, session, link, turn_over)


class EotConversation:
    """One session's I/O: performs what it decides."""

    def __init__(
        self,
        route: EotRoute,
        session: EotSession,
        link: SocketLink[Event],
        turn_over: Callable[[float], None] | None = None,
    ) -> None:
        self.session = session
        self._turn_over = turn_over
        self._route = route
        self._client = link.client
        self._inbox = link.inbox
        self._runs: list[EngineRun] = []
        self._place = route.engine.batcher.place(self._answered)
        listen = route.engine.listen
        self._listener = listen(self._claimed) if listen is not None else None

    def _answered(
        self, question: Question, prediction: Prediction | None, timing: Timing | None
    ) -> None:
        if timing is not None and len(self._runs) < RUNS_MAX:
            facts = {"queued_s": round(timing.queued_s, 4), "batch": timing.batch}
            now = time.monotonic()
            began = now - timing.queued_s - timing.run_s
            failed = prediction is None
            self._runs.append(EngineRun("turn", began, now, facts, failed))
        self._inbox.post(Predicted(question.number, prediction))

    def _claimed(self, number: int, claim: float | None) -> None:
        self._inbox.post(Claimed(number, claim))

    async def perform(self, action: Action) -> bool:
        match action:
            case SendToClient(data, verdict):
                if verdict is not None:
                    self._route.verdicts[verdict].inc()
                    if verdict == "finished" and self._turn_over is not None:
                        self._turn_over(time.monotonic())
                await self._client.say_binary(data)
            case Ask(number, samples):
                # the smaller model first: its answer is there when the other's is
                if self._listener is not None:
                    self._listener.ask(number, samples)
                self._place.ask(Question(samples, number))
            case Close(code, reason):
                await self._client.close(code, reason)
                return False
        return True

    async def close(self) -> Outcome:
        self._place.leave()
        if self._listener is not None:
            self._listener.leave()
        report = self.session.report
        return Outcome(
            failure=report.failure,
            left=report.left,
            speech=SpeechUsage(report.audio_bytes / 2 / SAMPLE_RATE),
            counts=EotCounts(report.predictions, report.finished, report.none, report.late),
            runs=tuple(self._runs),
        )
