"""WebSocket /eot: authenticate, build the session, drive it."""

from __future__ import annotations

import asyncio
import time
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
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.turn_detection.model import Question
from gateway.engines.types import Prediction
from gateway.runtime.loop import Inbox, drive
from gateway.server.admission import Admission, RequestContext
from gateway.server.asgi import ClientSocket, Receive, Scope, Send, refuse
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.errors import Failure

EVENTS_MAX: Final = 32
"""Messages of one session that wait to be looked at; then its socket is read no further."""


class EotEndpoint:
    """The route. One for each process."""

    def __init__(
        self, limits: LimitsConfig, door: Admission, engine: EotEngine, metrics: Metrics
    ) -> None:
        self._limits = limits
        self._door = door
        self._engine = engine
        self._audio_in = metrics.audio_seconds.labels("eot", "in")
        self._verdicts = {
            name: metrics.turn_answers.labels("audio", name)
            for name in ("finished", "unfinished", "none")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.admit(scope, "eot")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            if self._engine.failure is not None:
                visit.fail(self._engine.failure)
                await refuse(scope, send, self._engine.failure)
                return
            await self._websocket(receive, send, visit)

    async def _websocket(self, receive: Receive, send: Send, visit: RequestContext) -> None:
        socket = ClientSocket(receive, send)
        if not await socket.accept():
            visit.outcome = "left"
            return
        model = self._engine.model
        assert model is not None
        began, began_ns = time.monotonic(), time.time_ns()
        session = EotSession(
            self._engine.thresholds,
            2 * model.card.window_samples,
            self._limits.session_idle_s,
            began,
            lambda now: began_ns + int((now - began) * 1e9),
        )
        inbox: Inbox[Event] = Inbox(EVENTS_MAX)

        def answered(
            question: Question, prediction: Prediction | None, timing: Timing | None
        ) -> None:
            inbox.post(Predicted(question.number, prediction))

        def claimed(number: int, claim: float | None) -> None:
            inbox.post(Claimed(number, claim))

        place = self._engine.batcher.place(answered)
        listen = self._engine.listen
        listener = listen(claimed) if listen is not None else None

        async def perform(action: Action) -> bool:
            match action:
                case SendToClient(data, verdict):
                    if verdict is not None:
                        self._verdicts[verdict].inc()
                    await socket.say_binary(data)
                case Ask(number, samples):
                    # the smaller model first: its answer is there when the other's is
                    if listener is not None:
                        listener.ask(number, samples)
                    place.ask(Question(samples, number))
                case Close(code, reason):
                    await socket.close(code, reason)
                    return False
            return True

        listening = asyncio.create_task(socket.listen(inbox))
        try:
            await drive(session, inbox, perform)
        finally:
            place.leave()
            if listener is not None:
                listener.leave()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            report = session.report
            self._audio_in.inc(report.audio_bytes / 2 / SAMPLE_RATE)
            visit.note(
                predictions=report.predictions,
                finished=report.finished,
                none=report.none,
                late=report.late,
            )
            if report.failure is not None:
                visit.fail(report.failure)
            elif report.left:
                visit.outcome = "left"
