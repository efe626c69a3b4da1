"""/bargein, WebSocket and HTTP: authenticate, build the session, drive it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.conversations.bargein import protocol
from gateway.conversations.bargein.session import (
    Action,
    Answered,
    Ask,
    BargeinSession,
    Close,
    Event,
    SendToClient,
)
from gateway.engines.batcher import Timing
from gateway.engines.interruption.decision import first_detection
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.interruption.model import Question
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats
from gateway.runtime.loop import Inbox, drive
from gateway.server.admission import Admission, RequestContext, new_id
from gateway.server.asgi import (
    BodyTooLargeError,
    ClientLeftError,
    ClientSocket,
    Receive,
    Scope,
    Send,
    answer,
    query,
    read_body,
    refuse,
)
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.errors import Failure, Kind

EVENTS_MAX: Final = 8
"""Windows of one session that wait to be looked at; then its socket is read no further."""

ANSWER_S_MAX: Final = 2.0
"""An HTTP request is refused as overload after so long; the client gives up after 0.7 s."""


class BargeinEndpoint:
    """The route. One for each process."""

    def __init__(
        self, limits: LimitsConfig, door: Admission, engine: BargeinEngine, metrics: Metrics
    ) -> None:
        self._limits = limits
        self._door = door
        self._engine = engine
        self._metrics = metrics
        self._audio_in = metrics.audio_seconds.labels("bargein", "in")
        self._verdicts = {
            name: metrics.detections.labels(name) for name in ("interruption", "none", "stale")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.admit(scope, "bargein")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            if scope["type"] == "http":
                await self._http(scope, receive, send, visit)
            else:
                await self._websocket(receive, send, visit)

    async def _websocket(self, receive: Receive, send: Send, visit: RequestContext) -> None:
        socket = ClientSocket(receive, send)
        if not await socket.accept():
            visit.outcome = "left"
            return
        session_id = new_id("bargein")
        visit.note(session_id=session_id)
        session = BargeinSession(
            self._engine.card,
            self._engine.default_threshold,
            session_id,
            self._limits.session_idle_s,
            time.monotonic(),
        )
        inbox: Inbox[Event] = Inbox(EVENTS_MAX)
        track = self._engine.model.track()
        frame_s = self._engine.card.frame_samples / self._engine.card.sample_rate

        def answered(question: Question, floats: Floats | None, timing: Timing | None) -> None:
            inbox.post(
                Answered(question.created_at, floats, timing.run_s if timing is not None else 0.0)
            )

        place = self._engine.batcher.place(answered)

        async def perform(action: Action) -> bool:
            match action:
                case SendToClient(text, verdict):
                    if verdict is not None:
                        self._verdicts[verdict].inc()
                    await socket.say(text)
                case Ask(created_at, window):
                    place.ask(Question(track, window, created_at))
                case Close(code, reason):
                    await socket.close(code, reason)
                    return False
            return True

        listening = asyncio.create_task(socket.listen(inbox))
        try:
            await drive(session, inbox, perform)
        finally:
            place.leave()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            audio_s = track.frames_run * frame_s
            self._audio_in.inc(audio_s)
            report = session.report
            visit.note(
                audio_s=round(audio_s, 2),
                windows=report.windows,
                detected=report.detected,
                stale=report.stale,
            )
            if report.failure is not None:
                visit.fail(report.failure)
            elif report.left:
                visit.outcome = "left"

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, visit: RequestContext
    ) -> None:
        asked = protocol.read_query(query(scope))
        rate = self._engine.card.sample_rate
        if not isinstance(asked, Failure):
            try:
                body = await read_body(receive, self._limits.message_bytes)
            except ClientLeftError:
                visit.outcome = "left"
                return
            except BodyTooLargeError:
                asked = Failure(
                    Kind.TOO_LARGE, f"the body has more than {self._limits.message_bytes} bytes"
                )
            else:
                asked = protocol.check_window(len(body), rate, INTERRUPTION_WINDOW_S_MAX) or asked
        if isinstance(asked, Failure):
            visit.fail(asked)
            await refuse(scope, send, asked)
            return
        floats, run_s = await self._ask_once(body)
        if floats is None:
            failure = Failure(Kind.OVERLOADED, "the interruption model is overloaded")
            visit.fail(failure)
            await refuse(scope, send, failure)
            return
        threshold = asked.threshold
        if threshold is None:
            threshold = self._engine.default_threshold
        found = first_detection(floats, threshold, asked.min_frames) is not None
        self._verdicts["interruption" if found else "none"].inc()
        self._audio_in.inc(len(body) / 2 / rate)
        await answer(
            send, 200, protocol.http_answer(asked.created_at, found, run_s, floats).encode()
        )

    async def _ask_once(self, window: bytes) -> tuple[Floats | None, float]:
        """The probabilities of a window that stands alone, or None if there was no time for it;
        and how long the model took."""
        waiter: asyncio.Future[tuple[Floats | None, float]]
        waiter = asyncio.get_running_loop().create_future()

        def answered(question: Question, floats: Floats | None, timing: Timing | None) -> None:
            if not waiter.done():
                waiter.set_result((floats, timing.run_s if timing is not None else 0.0))

        place = self._engine.batcher.place(answered)
        place.ask(Question(self._engine.model.track(), window))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await waiter
        except TimeoutError:
            return None, 0.0
        finally:
            place.leave()
