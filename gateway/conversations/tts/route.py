"""/tts: what the host does not do for it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from gateway.conversations.tts.actions import (
    Action,
    Admit,
    Admitted,
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
    Sounded,
    Spoke,
    Spoken,
    Tried,
    Unblocked,
)
from gateway.conversations.tts.planning import TtsPlanner, asked_name, split_voice
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
    VoiceEnded,
    VoicePool,
)
from gateway.conversations.tts.protocol import Style, read_model
from gateway.conversations.tts.session import CACHE, TtsSession
from gateway.engines.interruption.voice_keeper import Mouth, VoiceKeeper
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.routing.hedging import HedgeBudget
from gateway.runtime.clip_cache import ClipCache
from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox, Performed, Reactor, Room
from gateway.runtime.sockets import Sockets
from gateway.runtime.voice_requests import RequestSynthesis
from gateway.runtime.voice_worker import Workers
from gateway.server.admission import RequestContext, new_id, who_and_where
from gateway.server.asgi import query
from gateway.server.host import SocketLink
from gateway.server.quota import Spent
from gateway.settings.tts import TtsConfig
from gateway.telemetry.metrics import OTHER, Metrics
from gateway.telemetry.outcome import RUNS_MAX, EngineRun, Outcome, SpeechUsage, Try, TtsCounts
from gateway.telemetry.prices import Prices, speech_cost
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.errors import Failure
from gateway.upstreams.events import SocketEvent
from gateway.upstreams.plan import Plan, names_of
from gateway.upstreams.provider import find, type_names
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Clip,
    Failed,
    Finished,
    KnowsVoices,
    LiveSynthesis,
    PartSpoken,
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

PREPARATIONS_MAX: Final = 8
"""Voices that one session has connected ahead of its words; for a further one the provider is
connected when there is something to say."""

TRIES_MAX: Final = 200
"""Tries that the line in the log of one session reckons with; metrics count all of them."""

AHEAD_BYTES_MAX: Final = 16 << 20
"""Audio that waits for a client to read, from a source that cannot be held back because it serves
others as well (a shared socket, a worker). With more, the client is given up."""

BLOCKED_S_MIN: Final = 0.1
"""A send that waits for the client for longer is told to the session."""


def _try_of(tried: Tried, ended: float) -> Try:
    """A try as it stands in the session's outcome."""
    return Try(
        tried.provider,
        tried.model,
        tried.began,
        ended,
        tried.failure,
        hedge=tried.hedge,
        lost=tried.lost,
        left=tried.left,
        first_s=tried.first_audio_s,
        audio_s=tried.audio_s,
        characters=tried.chars,
    )


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

    def use(self, open_timeout_s: float, spare_max: int) -> None:
        """From now on."""
        self._open_timeout_s = open_timeout_s
        self.pool.spare_max = spare_max

    def end(self, voice: SocketVoice) -> None:
        """Close the sockets of a voice that nobody will ask any more."""
        self._reactor.post(VoiceEnded(voice))

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


class TtsRoute:
    """The route; holds what is the same for every session.

    A new configuration has a new one. It goes on with the sockets and processes of the one
    `before` it, and with its cache, if that is configured as it was.
    """

    name: Final = "tts"
    events_max: Final = EVENTS_MAX

    def __init__(
        self,
        config: TtsConfig,
        catalogue: Catalogue,
        adapters: Adapters,
        breaker: Breaker,
        connector: Connector,
        prices: Prices,
        metrics: Metrics,
        idle_s: float,
        before: TtsRoute | None = None,
        voices: VoiceKeeper | None = None,
    ) -> None:
        """`voices`: where what agents say is kept, to be known again on /bargein."""
        self._kept = voices
        self.prices = prices
        self._config = config
        self._connector = connector
        self._metrics = metrics
        self._idle_s = idle_s
        self._breaker = breaker
        self.blocked_s = config.blocked_timeout_s
        self.catalogue = catalogue
        self._hedges = HedgeBudget(config.hedge.share_max)
        self.voices: PooledVoices
        self.workers: Workers
        if before is None:
            self.voices = PooledVoices(connector, config.connect_timeout_s, config.spare_lines)
            self.workers = Workers()
        else:
            self.voices, self.workers = before.voices, before.workers
            self.voices.use(config.connect_timeout_s, config.spare_lines)
        self.clips: ClipCache | None = None
        if before is not None and before._config.cache == config.cache:
            self.clips = before.clips
        elif config.cache.enabled:
            self.clips = ClipCache(config.cache)
        self._by_socket: dict[str, SocketVoice] = {}
        self._by_request: dict[str, RequestVoice] = {}
        self._by_process: dict[str, ProcessVoice] = {}
        self._traits: dict[str, Capabilities] = {}
        for name, voice in adapters.tts.items():
            self._add(name, voice)
        self._planner = TtsPlanner(
            catalogue,
            {name: account.type for name, account in adapters.accounts.items()},
            self._traits,
            type_names(),
            {
                name: voice.has_voice
                for name, voice in self._by_process.items()
                if isinstance(voice, KnowsVoices)
            },
        )
        self._known = catalogue.deployments()
        self._engines = frozenset(
            name
            for name, account in adapters.accounts.items()
            if find(account.type).available is not None
        )
        """Providers that are engines of ours: they serve what is installed, by any name."""
        self._audio_out = metrics.audio_seconds.labels("tts", "out")
        self._bytes_out = metrics.bytes.labels("tts", "out")

    async def end(self, voice: TtsUpstream) -> None:
        """Close what is open through a voice that nobody will ask any more."""
        if isinstance(voice, SocketVoice):
            self.voices.end(voice)
        elif not isinstance(voice, RequestVoice):
            await self.workers.end(voice)

    async def close(self) -> None:
        await self.voices.close()
        await self.workers.close()
        if self.clips is not None:
            self.clips.close()

    def open(self, request: RequestContext, link: SocketLink[Event]) -> TtsConversation | Failure:
        model = read_model(query(request.scope), self._config.default_model)
        if isinstance(model, Failure):
            return model
        return self.conversation(request, model, link)

    async def look(self, request: RequestContext) -> Failure | None:
        """Whether the caller's key has anything left; of the model in the URL, if it names one."""
        model = read_model(query(request.scope), self._config.default_model)
        if model is None or isinstance(model, Failure):
            return await request.purse.look()
        plan = self._planner.plan(Style(model), ())
        if isinstance(plan, Failure):  # that is told in the session
            return await request.purse.look()
        return await request.purse.look(asked_name(model, plan))

    def conversation(
        self, request: RequestContext, model: str | None, link: ClientLink
    ) -> TtsConversation | Failure:
        """A conversation with the client of `link`, about `model` where it names no other."""
        catalogue = self.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        mouth = self._kept.mouth(request.call) if self._kept is not None and request.call else None
        session_id = new_id("tts")
        session = TtsSession(
            session_id,
            self._planner.within(catalogue).plan,
            self._traits,
            self._breaker,
            self._config,
            model,
            self._idle_s,
            time.monotonic(),
            self._hedges,
            charged=request.purse.limited,
            tells_sound=mouth is not None,
        )
        return TtsConversation(self, session, session_id, model, link, request, mouth)

    def _add(self, name: str, upstream: TtsUpstream) -> None:
        self._traits[name] = upstream.traits
        if isinstance(upstream, SocketVoice):
            self._by_socket[name] = upstream
        elif isinstance(upstream, RequestVoice):
            self._by_request[name] = upstream
        else:
            self._by_process[name] = upstream

    def begin(
        self, provider: str, request: SpeechRequest, sink: Sink, request_id: str
    ) -> LiveSynthesis:
        """Start a synthesis at a provider, which is told `request_id` where nobody else's text goes
        over the same connection."""
        if provider in self._by_socket:
            return self.voices.begin(provider, self._by_socket[provider], request, sink)
        if provider in self._by_request:
            return RequestSynthesis(
                self._connector,
                self._config.connect_timeout_s,
                self._by_request[provider],
                request,
                sink,
                request_id,
            )
        return self.workers.begin(self._by_process[provider], request, sink)

    def reserve(self, provider: str, request: SpeechRequest) -> Callable[[], None] | None:
        """Have what `provider` needs for a synthesis ready, until the result is called."""
        if provider in self._by_socket:
            return self.voices.reserve(provider, self._by_socket[provider], request)
        if provider in self._by_process:
            self.workers.prepare(self._by_process[provider])
        return None

    def is_engine(self, provider: str) -> bool:
        """Whether it speaks here."""
        return provider in self._engines

    def label(self, provider: str, model: str) -> str:
        """A provider's model as a label: bounded."""
        if provider == CACHE:
            return CACHE
        known = (provider, model) in self._known or provider in self._engines
        return model if known else OTHER

    def name_label(self, asked: str | None) -> str:
        """The name that a client asked for, as a label."""
        if asked is None:
            return OTHER
        label = self.catalogue.model_label(asked)
        return self.catalogue.model_label(split_voice(asked)[0]) if label == OTHER else label

    def count(self, action: Tried | Spoken | Looked, model: str = "") -> None:
        """Metrics of a try or an utterance that ended; `model` has spoken it."""
        metrics = self._metrics
        match action:
            case Tried():
                metrics.attempts.labels("tts", action.provider, _try_of(action, 0.0).word).inc()
                if action.switched:
                    metrics.fallbacks.labels("tts", action.provider).inc()
                if action.first_audio_s is not None:
                    labels = action.provider, self.label(action.provider, action.model)
                    metrics.voice_first_audio.labels(*labels).observe(action.first_audio_s)
            case Looked(hit):
                metrics.tts_cache.labels("hit" if hit else "miss").inc()
            case Spoken(provider, first_audio_s, audio_s):
                self._audio_out.inc(audio_s)
                if provider is not None and first_audio_s is not None:
                    labels = provider, self.label(provider, model)
                    metrics.first_byte.labels("tts", *labels).observe(first_audio_s)

    def sent(self, characters: int) -> None:
        self._bytes_out.inc(characters)


class Client(Protocol):
    """Who is told what a session says: a WebSocket, or what stands for one."""

    @property
    def gone(self) -> bool: ...

    def said(self, text: str) -> bool: ...

    async def say(self, text: str) -> None: ...

    async def close(self, code: int, reason: str = "") -> None: ...

    def cut(self) -> None: ...


class ClientLink(Protocol):
    """The client of a session, and the inbox for what comes from it."""

    @property
    def client(self) -> Client: ...

    @property
    def inbox(self) -> Inbox[Event]: ...


class TtsConversation:
    """One client's I/O: performs what its session decides."""

    def __init__(
        self,
        route: TtsRoute,
        session: TtsSession,
        session_id: str,
        model: str | None,
        link: ClientLink,
        request: RequestContext,
        mouth: Mouth | None = None,
    ) -> None:
        self._mouth = mouth
        self._request_id = request.id
        self._purse = request.purse
        self._spent: list[Spent] = []
        self._cost = 0
        self.session = session
        self._route = route
        self._id = session_id
        self._model = model
        self._client = link.client
        self._inbox = link.inbox
        self._syntheses: dict[int, LiveSynthesis] = {}
        self._release: Callable[[], None] | None = None
        self._prepared: tuple[str, SpeechRequest] | None = None
        self._preparations = 0
        self._provider: str | None = None
        self._tries: list[Try] = []
        self._runs: list[EngineRun] = []
        self._saying: dict[int, deque[tuple[float, int]]] = {}
        """Texts that engines of ours were given for each synthesis: when, and how long."""
        self._spoke: dict[str, str] = {}
        """The model of each provider's last try."""
        self._first_audio_s: float | None = None
        self._audio_s = 0.0
        self._characters = 0
        self._ahead = 0
        self._bytes_out = 0

    async def close(self) -> Outcome:
        self._cancel_all()
        for action in self.session.settle():
            self._count(action)
        if self._release is not None:
            self._release()
        self._route.sent(self._bytes_out)
        await self._settle()
        return self.outcome()

    def outcome(self) -> Outcome:
        report = self.session.report
        stand_in = self._route.catalogue.stand_in_name(self._model or "", self._provider)
        return Outcome(
            failure=report.failure,
            # a client closes its connection when it has heard enough
            left=report.left and report.utterances == 0,
            session_id=self._id,
            model=stand_in or self._model,
            asked=self._model if stand_in else None,
            label=self._route.name_label(stand_in or self._model),
            provider=self._provider,
            deployment=self._tries[-1].model if self._tries else None,
            tries=tuple(self._tries),
            first_s=self._first_audio_s,
            speech=SpeechUsage(self._audio_s, self._characters),
            cost=self._cost,
            counts=TtsCounts(report.utterances, ",".join(report.left_out) or None),
            runs=tuple(self._runs),
        )

    def _ran(self, provider: str, request: SpeechRequest, began: float, characters: int) -> None:
        """An engine of ours has spoken a text, of a sentence mostly."""
        if len(self._runs) < RUNS_MAX:
            facts: dict[str, str | int] = {"characters": characters, "provider": provider}
            self._runs.append(EngineRun(request.model, began, time.monotonic(), facts))

    def _cancel_all(self) -> None:
        self._saying.clear()
        syntheses, self._syntheses = self._syntheses, {}
        for synthesis in syntheses.values():
            synthesis.cancel()

    def perform(self, action: Action) -> Performed:
        match action:
            case SendToClient(text):
                self._bytes_out += len(text)
                if not self._client.said(text):
                    return self._blocked(text)
            case Sounded(pcm, rate, plays_at, begins):
                if self._mouth is not None:
                    self._mouth.say(pcm, rate, plays_at, begins=begins)
            case Say(number, text):
                if number in self._syntheses:
                    if number in self._saying and len(self._runs) < RUNS_MAX:
                        self._saying[number].append((time.monotonic(), len(text)))
                    self._syntheses[number].say(text)
            case Begin(number, provider, request):
                self._begin(number, provider, request)
            case Finish(number):
                if number in self._syntheses:
                    self._syntheses[number].finish()
            case CancelSynthesis(number, suspect):
                self._saying.pop(number, None)
                if number in self._syntheses:
                    self._syntheses.pop(number).cancel(suspect=suspect)
            case Prepare(provider, request):
                if self._release is not None:
                    self._release()
                    self._release = None
                if (provider, request) != self._prepared:
                    self._prepared = provider, request
                    self._preparations += 1
                if self._preparations <= PREPARATIONS_MAX:
                    self._release = self._route.reserve(provider, request)
            case LookUp(key):
                self._look_up(key)
            case Keep(key, clip):
                if self._route.clips is not None:
                    self._route.clips.put(key, clip)
            case Admit(asked, plan, count, chars):
                return self._admit(asked, plan, count, chars)
            case Tried() | Spoken() | Looked():
                self._count(action)
                if isinstance(action, Spoken):
                    return self._settled()
                return None  # the client may have gone; what comes with it is counted too
            case Close(code, reason):
                return self._end(code, reason)
        return None if self._goes_on() else self._end()

    def _goes_on(self) -> bool:
        return not self._client.gone or self.session.deadline is not None

    async def _end(self, code: int = 1000, reason: str = "") -> bool:
        await self._client.close(code, reason)
        return False

    def _count(self, action: Tried | Spoken | Looked) -> None:
        if isinstance(action, Tried):
            self._spoke[action.provider] = action.model
            if len(self._tries) < TRIES_MAX:
                self._tries.append(_try_of(action, time.monotonic()))
        spoken_by = action.provider if isinstance(action, Spoken) else None
        self._route.count(action, self._spoke.get(spoken_by or "", ""))
        if isinstance(action, Tried) and action.attempt is not None and action.is_billed:
            price = self._route.prices.of_attempt(action.attempt)
            cost = 0 if price is None else speech_cost(price, action.audio_s, action.chars)
            self._spent.append(Spent(names_of(action.attempt), requests=1, cost=cost))
        if isinstance(action, Spoken):
            last = self._spent.pop() if self._spent else Spent()
            self._spent.append(replace(last, characters=action.chars))
            if self._first_audio_s is None and action.provider != CACHE:
                self._first_audio_s = action.first_audio_s
            self._provider = action.provider or self._provider
            self._audio_s += action.audio_s
            self._characters += action.chars

    async def _settle(self) -> None:
        """Count what was used since the last time, in place of what was reserved."""
        spent, self._spent = self._spent, []
        self._cost += sum(one.cost for one in spent)
        await self._purse.settle(spent)

    async def _admit(self, asked: str, plan: Plan, count: bool, chars: int) -> bool:
        price = self._route.prices.of_attempt(plan[0])
        cost = 0 if price is None else speech_cost(price, 0.0, chars)
        ahead = Spent(characters=chars, cost=cost)
        admitted = await self._purse.enter(asked, plan, count=count, ahead=ahead)
        self._inbox.answer(Admitted(admitted))
        return self._goes_on()

    async def _settled(self) -> bool:
        await self._settle()
        return True

    async def settle(self) -> None:
        """An utterance is counted when it ends."""

    async def _blocked(self, text: str) -> bool:
        """The client does not read: wait until it does."""
        began = time.monotonic()
        await self._client.say(text)
        now = time.monotonic()
        if now - began > BLOCKED_S_MIN:
            self.session.handle(Unblocked(), now)
        return self._goes_on()

    def _look_up(self, key: str) -> None:
        def found(clip: Clip | None) -> None:
            self._inbox.post(Found(key, clip))

        if self._route.clips is None:
            found(None)
        else:
            self._route.clips.look_up(key, found)

    def _give_up(self) -> None:
        """The client does not read. Not even a goodbye would get through."""
        self._cancel_all()
        self._client.cut()

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
                self._saying.pop(number, None)
            elif isinstance(heard, PartSpoken) and (said := self._saying.get(number)):
                began, characters = said.popleft()
                self._ran(provider, request, began, characters)
            return self._inbox(Spoke(number, heard))

        if self._client.gone:
            return
        if self._route.is_engine(provider):
            self._saying[number] = deque()
        synthesis = self._route.begin(provider, request, sink, self._request_id)
        if not over:  # it may have failed already
            self._syntheses[number] = synthesis
