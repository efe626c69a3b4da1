"""/bargein, WebSocket and HTTP: what the host does not do for them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
from prometheus_client import Counter

from gateway.conversations.bargein import protocol
from gateway.conversations.bargein.session import (
    Action,
    Answered,
    Ask,
    BargeinSession,
    Close,
    Event,
    Overlap,
    SendToClient,
)
from gateway.engines.batcher import Timing
from gateway.engines.interruption.decision import claim, eager, first_detection
from gateway.engines.interruption.engine import BargeinEngine, Version
from gateway.engines.interruption.learning import LearningKeeper, Overlaps
from gateway.engines.interruption.loose_tracks import Kept, LooseTracks
from gateway.engines.interruption.model import Question
from gateway.engines.interruption.own_voice import Voice
from gateway.engines.interruption.voice_keeper import VoiceKeeper
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats
from gateway.runtime.loop import Performed
from gateway.server.admission import RequestContext, new_id
from gateway.server.asgi import query
from gateway.server.host import BLOCKED_S, SocketLink
from gateway.telemetry.agreement import Agreements
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import (
    SAMPLES_MAX,
    BargeinCounts,
    EngineRun,
    Outcome,
    SpeechUsage,
    quantiles,
)
from gateway.upstreams.errors import Failure

EVENTS_MAX: Final = 8
"""Windows of one session that wait to be looked at; then its socket is read no further."""

ANSWER_S_MAX: Final = 0.5
"""An HTTP request is answered with what is known after so long; the client gives up after 0.7 s."""


def _verdicts(metrics: Metrics) -> dict[str, Counter]:
    return {name: metrics.detections.labels(name) for name in ("interruption", "none", "stale")}


def _voice_of(voices: VoiceKeeper | None, call: str) -> Callable[[], Voice | None] | None:
    """What the agent of that call says, if anybody keeps it and the caller names its call."""
    return partial(voices.of, call) if voices is not None and call else None


class BargeinRoute:
    """The WebSocket route. One for each process."""

    name: Final = "bargein"
    events_max: Final = EVENTS_MAX
    blocked_s: Final = BLOCKED_S

    def __init__(
        self,
        engine: BargeinEngine,
        metrics: Metrics,
        idle_s: float,
        voices: VoiceKeeper | None = None,
        agreements: Agreements | None = None,
        learning: LearningKeeper | None = None,
    ) -> None:
        """`voices`: what the agents of the same calls say; `agreements`: what their callers do;
        `learning`: who keeps what is worth learning from."""
        self._learning = learning
        self._engine = engine
        self._metrics = metrics
        self._agreements = agreements
        self._voices = voices
        self._verdicts = _verdicts(metrics)
        self._idle_s = idle_s

    def open(self, request: RequestContext, link: SocketLink[Event]) -> BargeinConversation:
        session_id = new_id("bargein")
        version = self._engine.version_of(request.call)
        session = BargeinSession(
            version.card,
            self._engine.default_threshold,
            session_id,
            self._idle_s,
            time.monotonic(),
        )
        eagerness = self._engine.eagerness_of(request.caller.key)
        return BargeinConversation(
            session_id,
            session,
            version,
            eagerness,
            self._metrics,
            self._verdicts,
            link,
            _voice_of(self._voices, request.call),
            partial(self._decided, request.call),
            None
            if self._learning is None
            else self._learning.overlaps(request.call_ids, version.name),
        )

    def _decided(self, call: str, overlap: Overlap) -> None:
        if self._agreements is not None:
            self._agreements.decided(call, overlap.began, overlap.ended, overlap.decision)


class BargeinConversation:
    """One session's I/O: performs what it decides."""

    def __init__(
        self,
        session_id: str,
        session: BargeinSession,
        version: Version,
        eagerness: float,
        metrics: Metrics,
        verdicts: Mapping[str, Counter],
        link: SocketLink[Event],
        voice: Callable[[], Voice | None] | None,
        decided: Callable[[Overlap], None],
        overlaps: Overlaps | None = None,
    ) -> None:
        version.open += 1
        self._version = version
        self._metrics = metrics
        self._overlaps = overlaps
        self.session = session
        self._decided = decided
        self._client = link.client
        self._inbox = link.inbox
        self._id = session_id
        self._eagerness = eagerness
        self._verdicts = verdicts
        self._decision = metrics.decision
        self._decision_of_version = metrics.bargein_version_decision.labels(version.name)
        self._began = time.monotonic()
        self._took: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._decided_s: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._track = version.model.track(voice)
        self._place = version.batcher.place(self._answered)
        self._frame_s = version.card.frame_samples / version.card.sample_rate

    def _answered(self, question: Question, floats: Floats | None, timing: Timing | None) -> None:
        run_s = timing.run_s if timing is not None else 0.0
        if timing is not None:
            self._took.append(timing.queued_s + timing.run_s)
        if floats is not None:
            floats = eager(floats, self._eagerness)
            if self._overlaps is not None:
                sure = claim(floats)
                detected = sure >= self.session.threshold
                self._overlaps.answered(sure, detected=detected)
        self._inbox.post(Answered(question.created_at, floats, run_s))

    def perform(self, action: Action) -> Performed:
        match action:
            case SendToClient(text, verdict, decided_s):
                if verdict is not None:
                    self._verdicts[verdict].inc()
                if decided_s is not None:
                    self._decision.observe(decided_s)
                    self._decision_of_version.observe(decided_s)
                    self._decided_s.append(decided_s)
                return self._client.say_now(text)
            case Ask(created_at, window):
                now = time.monotonic()
                if self._overlaps is not None:
                    self._overlaps.threshold = self.session.threshold
                    self._overlaps.heard(window, now)
                self._place.ask(Question(self._track, window, created_at, now))
            case Overlap():
                self._decided(action)
            case Close(code, reason):
                return self._end(code, reason)
        return None

    async def _end(self, code: int, reason: str) -> bool:
        await self._client.close(code, reason)
        return False

    async def close(self) -> Outcome:
        self._place.leave()
        self._version.leave()
        report = self.session.report
        of_version = self._metrics.bargein_version_overlaps
        of_version.labels(self._version.name, "interruption").inc(report.interruptions)
        of_version.labels(self._version.name, "held").inc(report.overlaps - report.interruptions)
        facts = {
            "windows": report.windows,
            "stale": report.stale,
            **quantiles(self._took, "answer"),
            **quantiles(self._decided_s, "decision"),
        }
        run = EngineRun("interruption", self._began, time.monotonic(), facts)
        return Outcome(
            failure=report.failure,
            left=report.left,
            session_id=self._id,
            speech=SpeechUsage(self._track.frames_run * self._frame_s),
            counts=BargeinCounts(
                report.windows,
                report.detected,
                report.stale,
                report.overlaps,
                report.interruptions,
            ),
            runs=(run,) if report.windows else (),
        )


class BargeinWindowRoute:
    """POST /bargein: a window at a time, of callers who open no connection for it. One for each
    process. A window that there is no time for is answered with what is known: a late answer, and
    any error, ends the client's detector for the rest of the call."""

    name: Final = "bargein"
    anonymous: Final = ()

    def __init__(
        self,
        engine: BargeinEngine,
        metrics: Metrics,
        body_bytes_max: int,
        voices: VoiceKeeper | None = None,
    ) -> None:
        self._engine = engine
        self._voices = voices
        self._verdicts = _verdicts(metrics)
        self._tracks = LooseTracks()
        self.body_bytes_max = body_bytes_max

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        card = self._engine.card
        asked = protocol.read_query(query(request.scope))
        if isinstance(asked, Failure):
            return asked
        wrong = protocol.check_window(len(body), card.sample_rate, INTERRUPTION_WINDOW_S_MAX)
        if wrong is not None:
            return wrong
        # who says of no call which one it is shares an address's, and is known by its sound
        who = request.call or f"{request.caller.key}\n{request.address}"
        version = self._engine.version_of(request.call)
        who = f"{version.name}\n{who}"  # another one cannot go on with this one's tracks
        kept = self._tracks.take(who, body, time.monotonic())
        if kept is None:
            track = version.model.track(_voice_of(self._voices, request.call))
        else:
            track = kept.track
        before = track.frames_run
        answer = await self._ask(version, Question(track, body, heard_at=time.monotonic()))
        floats = run_s = None
        if answer is not None:  # else the track may be in use still
            floats, timing = answer
            if floats is not None:
                floats = eager(floats, self._engine.eagerness_of(request.caller.key))
                kept = Kept(track, floats, body, time.monotonic())
            if timing is not None:
                run_s = timing.run_s
            if kept is not None and (floats is not None or timing is None):
                self._tracks.keep(who, kept)
        if kept is None:  # nothing is known of this caller yet
            said: Floats = np.zeros(len(body) // 2 // card.frame_samples, np.float32)
        else:
            said = kept.said
        threshold = asked.threshold
        if threshold is None:
            threshold = self._engine.default_threshold
        found = first_detection(said, threshold, asked.min_frames) is not None
        verdict = "stale" if floats is None else "interruption" if found else "none"
        self._verdicts[verdict].inc()
        frame_s = card.frame_samples / card.sample_rate
        heard_s = (track.frames_run - before) * frame_s if floats is not None else 0.0
        request.outcome = Outcome(
            speech=SpeechUsage(heard_s), counts=BargeinCounts(1, int(found), int(floats is None))
        )
        return protocol.http_answer(asked.created_at, found, run_s or 0.0, said).encode()

    async def _ask(
        self, version: Version, question: Question
    ) -> tuple[Floats | None, Timing | None] | None:
        """The probabilities of a window, None where the model failed, and how its run went, None
        where it was not run; nothing if there was no time to wait for either."""
        waiter: asyncio.Future[tuple[Floats | None, Timing | None]]
        waiter = asyncio.get_running_loop().create_future()

        def answered(question: Question, floats: Floats | None, timing: Timing | None) -> None:
            if not waiter.done():
                waiter.set_result((floats, timing))

        version.open += 1
        place = version.batcher.place(answered)
        place.ask(question)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await waiter
        except TimeoutError:
            return None
        finally:
            place.leave()
            version.leave()
