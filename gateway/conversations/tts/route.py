"""/tts: authenticate, build the session, drive it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final

from gateway.config import Config
from gateway.conversations.tts.actions import (
    Action,
    Begin,
    CancelSynthesis,
    Close,
    Event,
    Finish,
    Found,
    Keep,
    Looked,
    LookUp,
    Prepare,
    Say,
    SendToClient,
    Spoke,
    Spoken,
    Stalled,
    Tried,
    Unblocked,
)
from gateway.conversations.tts.planning import TtsPlanner
from gateway.conversations.tts.pool import (
    CloseSocket,
    Deliver,
    OpenSocket,
    PauseReading,
    PoolAction,
    PoolEvent,
    ReceiverFull,
    ReceiverReady,
    ReservationReleased,
    ReservationTaken,
    ResumeReading,
    SendFrames,
    SynthesisCancelled,
    SynthesisWanted,
    TextFinished,
    TextSaid,
    VoicePool,
)
from gateway.conversations.tts.protocol import read_model
from gateway.conversations.tts.session import TtsSession
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.routing.hedging import HedgeBudget
from gateway.runtime.clip_cache import ClipCache
from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox, Reactor, Room, drive
from gateway.runtime.sockets import Sockets
from gateway.runtime.voice_requests import RequestSynthesis
from gateway.runtime.voice_worker import Workers
from gateway.server.admission import Admission, new_id
from gateway.server.asgi import ClientSocket, Receive, Scope, Send, query, refuse
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.errors import Failure
from gateway.upstreams.events import SocketEvent
from gateway.upstreams.provider import find
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Clip,
    Failed,
    Finished,
    LiveSynthesis,
    ProcessVoice,
    RequestVoice,
    Sink,
    SocketVoice,
    SpeechRequest,
    SynthesisEvent,
    TtsUpstream,
)

EVENTS_MAX: Final = 64
"""Events of a session that wait: messages of its client, and what is heard of its syntheses. Then
sockets and bodies that serve it alone are read no further."""

AHEAD_BYTES_MAX: Final = 16 << 20
"""Audio that waits for a client to read, from a source that cannot be held back because it serves
others as well (a shared socket, a worker). With more, the client is given up."""

BLOCKED_S_MIN: Final = 0.1
"""A send that waits for the client for longer is told to the session."""


class PooledVoices:
    """Syntheses over the sockets of all sessions: performs what the pool decides."""

    def __init__(self, connector: Connector, open_timeout_s: float, spare_max: int) -> None:
        self.pool = VoicePool(spare_max)
        self._open_timeout_s = open_timeout_s
        self._reactor: Reactor[PoolEvent, PoolAction] = Reactor(self.pool, self._perform)
        self._sockets = Sockets(connector, self._hear)
        self._numbers = itertools.count(1)
        self._sinks: dict[str, Sink] = {}
        self._full: dict[str, asyncio.Task[None]] = {}

    def begin(
        self, provider: str, voice: SocketVoice, request: SpeechRequest, sink: Sink
    ) -> PooledSynthesis:
        """Start a synthesis."""
        context = f"u{next(self._numbers)}"
        self._sinks[context] = sink
        self._reactor.post(SynthesisWanted(context, provider, voice, request))
        return PooledSynthesis(self, context)

    def reserve(
        self, provider: str, voice: SocketVoice, request: SpeechRequest
    ) -> Callable[[], None]:
        """Have a socket open for a session that may soon speak, until the result is called."""
        number = next(self._numbers)
        self._reactor.post(ReservationTaken(number, provider, voice, request))
        return lambda: self._reactor.post(ReservationReleased(number))

    def post(self, event: TextSaid | TextFinished) -> None:
        self._reactor.post(event)

    def cancel(self, context: str, suspect: bool) -> None:
        self._forget(context)
        self._reactor.post(SynthesisCancelled(context, suspect))

    async def close(self) -> None:
        self._reactor.close()
        await self._sockets.aclose()
        tasks = list(self._full.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self, event: SocketEvent) -> None:
        self._reactor.post(event)

    def _perform(self, action: PoolAction) -> None:
        match action:
            case Deliver(context, event):  # the commonest by far
                self._deliver(context, event)
            case SendFrames(number, frames):
                self._sockets.post(number, frames)
            case OpenSocket(number, dial):
                self._sockets.open(number, dial, self._open_timeout_s)
            case CloseSocket(number):
                self._sockets.close(number)
            case PauseReading(number):
                self._sockets.pause(number)
            case ResumeReading(number):
                self._sockets.resume(number)

    def _deliver(self, context: str, event: SynthesisEvent) -> None:
        sink = self._sinks.get(context)
        if sink is None:
            return
        if isinstance(event, (Finished, Failed)):
            self._forget(context)
            sink(event)
            return
        room = sink(event)
        if room is not None and context not in self._full:

            async def wait() -> None:
                await room
                self._full.pop(context, None)
                self._reactor.post(ReceiverReady(context))

            self._full[context] = asyncio.create_task(wait())
            self._reactor.post(ReceiverFull(context))

    def _forget(self, context: str) -> None:
        self._sinks.pop(context, None)
        waiting = self._full.pop(context, None)
        if waiting is not None:
            waiting.cancel()


class PooledSynthesis:
    """A `LiveSynthesis` over a pooled socket."""

    __slots__ = ("_context", "_voices")

    def __init__(self, voices: PooledVoices, context: str) -> None:
        self._voices = voices
        self._context = context

    def say(self, text: str) -> None:
        self._voices.post(TextSaid(self._context, text))

    def finish(self) -> None:
        self._voices.post(TextFinished(self._context))

    def cancel(self, *, suspect: bool = False) -> None:
        self._voices.cancel(self._context, suspect)


class TtsEndpoint:
    """The route. One for each process; holds what is the same for every session."""

    def __init__(
        self, config: Config, door: Admission, connector: Connector, metrics: Metrics
    ) -> None:
        self._config = config
        self._door = door
        self._connector = connector
        self._metrics = metrics
        self.catalogue = Catalogue(config.models, config.accounts(), "tts")
        self._breaker = Breaker(self.catalogue.deployments())
        self._hedges = HedgeBudget(config.tts.hedge.share_max)
        self.voices = PooledVoices(connector, config.tts.connect_timeout_s, config.tts.spare_lines)
        self.workers = Workers()
        self.clips = ClipCache(config.tts.cache) if config.tts.cache.enabled else None
        self._by_socket: dict[str, SocketVoice] = {}
        self._by_request: dict[str, RequestVoice] = {}
        self._by_process: dict[str, ProcessVoice] = {}
        self._traits: dict[str, Capabilities] = {}
        for name, account in config.accounts().items():
            offer = find(account.type).tts
            if offer is not None:
                self._add(name, offer.adapter(account))
        self._planner = TtsPlanner(
            self.catalogue, {name: account.type for name, account in config.accounts().items()}
        )
        self._audio_out = metrics.audio_seconds.labels("tts", "out")
        self._bytes_out = metrics.bytes.labels("tts", "out")

    async def close(self) -> None:
        await self.voices.close()
        await self.workers.close()
        if self.clips is not None:
            self.clips.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.admit(scope, "tts")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            model = read_model(query(scope), self._config.tts.default_model)
            if isinstance(model, Failure):
                visit.fail(model)
                await refuse(scope, send, model)
                return
            socket = ClientSocket(receive, send)
            if not await socket.accept():
                visit.outcome = "left"
                return
            session_id = new_id("tts")
            visit.note(session_id=session_id)
            session = TtsSession(
                session_id,
                self._planner.plan,
                self._traits,
                self._breaker,
                self._config.tts,
                model,
                self._config.limits.session_idle_s,
                time.monotonic(),
                self._hedges,
            )
            conversation = _Conversation(self, session, socket)
            try:
                await conversation.run()
            finally:
                report = session.report
                visit.note(
                    utterances=report.utterances,
                    model=model,
                    provider=conversation.provider,
                    attempts=conversation.attempts,
                    audio_s=round(conversation.audio_s, 2),
                    characters=conversation.characters,
                )
                if report.failure is not None:
                    visit.fail(report.failure)
                elif report.left and report.utterances == 0:
                    visit.outcome = "left"

    def _add(self, name: str, upstream: TtsUpstream) -> None:
        self._traits[name] = upstream.traits
        if isinstance(upstream, SocketVoice):
            self._by_socket[name] = upstream
        elif isinstance(upstream, RequestVoice):
            self._by_request[name] = upstream
        else:
            self._by_process[name] = upstream

    def begin(self, provider: str, request: SpeechRequest, sink: Sink) -> LiveSynthesis:
        """Start a synthesis at a provider."""
        if provider in self._by_socket:
            return self.voices.begin(provider, self._by_socket[provider], request, sink)
        if provider in self._by_request:
            return RequestSynthesis(
                self._connector,
                self._config.tts.connect_timeout_s,
                self._by_request[provider],
                request,
                sink,
            )
        return self.workers.begin(provider, self._by_process[provider], request, sink)

    def reserve(self, provider: str, request: SpeechRequest) -> Callable[[], None] | None:
        """Have what `provider` needs for a synthesis ready, until the result is called."""
        if provider in self._by_socket:
            return self.voices.reserve(provider, self._by_socket[provider], request)
        if provider in self._by_process:
            self.workers.prepare(provider, self._by_process[provider])
        return None

    def count(self, action: Tried | Spoken | Looked) -> None:
        """Metrics of a try or an utterance that ended."""
        metrics = self._metrics
        match action:
            case Tried(provider, failure, switched):
                outcome = failure.kind.value if failure is not None else "ok"
                metrics.attempts.labels("tts", provider, outcome).inc()
                if switched:
                    metrics.fallbacks.labels("tts", provider).inc()
            case Looked(hit):
                metrics.tts_cache.labels("hit" if hit else "miss").inc()
            case Spoken(provider, first_audio_s, audio_s):
                self._audio_out.inc(audio_s)
                if provider is not None and first_audio_s is not None:
                    metrics.first_byte.labels("tts", provider).observe(first_audio_s)

    def sent(self, characters: int) -> None:
        self._bytes_out.inc(characters)


class _Conversation:
    """One client's I/O: performs what its session decides."""

    def __init__(self, endpoint: TtsEndpoint, session: TtsSession, socket: ClientSocket) -> None:
        self._endpoint = endpoint
        self._session = session
        self._socket = socket
        self._blocked_timeout_s = endpoint._config.tts.blocked_timeout_s
        self._inbox: Inbox[Event] = Inbox(EVENTS_MAX)
        self._syntheses: dict[int, LiveSynthesis] = {}
        self._release: Callable[[], None] | None = None
        self.provider: str | None = None
        self.attempts = 0
        self.audio_s = 0.0
        self.characters = 0
        self._ahead = 0
        self._blocked = False
        self._bytes_out = 0
        self._telling_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._task = asyncio.current_task()
        listening = asyncio.create_task(self._listen())
        try:
            await drive(self._session, self._inbox, self._perform)
        except asyncio.CancelledError:
            if not self._blocked or self._task is None:
                raise
            self._task.uncancel()
            self._session.handle(Stalled(), time.monotonic())
        finally:
            self._cancel_all()
            if self._watch is not None:
                self._watch.cancel()
            self._endpoint.sent(self._bytes_out)
            if self._release is not None:
                self._release()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        await self._socket.listen(self._inbox)
        # the session hears of it in its turn, which may be behind a blocked send
        self._cancel_all()

    def _cancel_all(self) -> None:
        syntheses, self._syntheses = self._syntheses, {}
        for synthesis in syntheses.values():
            synthesis.cancel()

    async def _perform(self, action: Action) -> bool:
        match action:
            case SendToClient(text):
                return await self._tell(text)
            case Say(number, text):
                if number in self._syntheses:
                    self._syntheses[number].say(text)
            case Begin(number, provider, request):
                self._begin(number, provider, request)
            case Finish(number):
                if number in self._syntheses:
                    self._syntheses[number].finish()
            case CancelSynthesis(number, suspect):
                if number in self._syntheses:
                    self._syntheses.pop(number).cancel(suspect=suspect)
            case Prepare(provider, request):
                if self._release is not None:
                    self._release()
                self._release = self._endpoint.reserve(provider, request)
            case LookUp(key):
                self._look_up(key)
            case Keep(key, clip):
                if self._endpoint.clips is not None:
                    self._endpoint.clips.put(key, clip)
            case Tried() | Spoken() | Looked():
                self._endpoint.count(action)
                if isinstance(action, Spoken):
                    self.provider = action.provider or self.provider
                    self.attempts += action.speeches
                    self.audio_s += action.audio_s
                    self.characters += action.chars
            case Close(code, reason):
                await self._socket.close(code, reason)
                return False
        return not (self._socket.gone and self._session.deadline is None)

    async def _tell(self, text: str) -> bool:
        loop = asyncio.get_running_loop()
        self._telling_since = loop.time()
        if self._watch is None:
            # looks once in a while, which costs less than a time limit for every message
            self._watch = loop.call_later(self._blocked_timeout_s, self._look)
        await self._socket.say(text)
        now = loop.time()
        if now - self._telling_since > BLOCKED_S_MIN:
            self._session.handle(Unblocked(), time.monotonic())
        self._telling_since = None
        self._bytes_out += len(text)
        return True

    def _look_up(self, key: str) -> None:
        def found(clip: Clip | None) -> None:
            self._inbox.post(Found(key, clip))

        if self._endpoint.clips is None:
            found(None)
        else:
            self._endpoint.clips.look_up(key, found)

    def _look(self) -> None:
        """Whether the client still reads; if not, its synthesis is cancelled and it is let go."""
        self._watch = None
        if self._telling_since is None:
            return
        loop = asyncio.get_running_loop()
        left_s = self._telling_since + self._blocked_timeout_s - loop.time()
        if left_s > 0:
            self._watch = loop.call_later(left_s, self._look)
            return
        self._give_up()

    def _give_up(self) -> None:
        """The client does not read. Not even a goodbye would get through."""
        self._blocked = True
        self._cancel_all()
        if self._task is not None:
            self._task.cancel()

    def _begin(self, number: int, provider: str, request: SpeechRequest) -> None:
        over = False

        def sink(heard: SynthesisEvent) -> Room | None:
            nonlocal over
            if isinstance(heard, Audio):
                self._ahead = len(heard.pcm) + (self._ahead if len(self._inbox) else 0)
                if self._ahead > AHEAD_BYTES_MAX:
                    self._give_up()
            elif isinstance(heard, (Finished, Failed)):
                over = True
                self._syntheses.pop(number, None)
            return self._inbox(Spoke(number, heard))

        if self._socket.gone:
            return
        synthesis = self._endpoint.begin(provider, request, sink)
        if not over:  # it may have failed already
            self._syntheses[number] = synthesis
