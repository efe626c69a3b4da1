"""/tts: what the host does not do for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.conversations.tts.actions import (
    Action,
    Begin,
    CancelSynthesis,
    Close,
    Event,
    Finish,
    Looked,
    Prepare,
    Say,
    SendToClient,
    Spoke,
    Spoken,
    Tried,
)
from gateway.conversations.tts.planning import TtsPlanner
from gateway.conversations.tts.session import TtsSession
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.runtime.clip_cache import ClipCache
from gateway.runtime.connector import Connector
from gateway.runtime.voice_pool import ConnectionPool, Reservation, Sink
from gateway.runtime.voice_requests import RequestSynthesis
from gateway.runtime.voice_worker import Workers
from gateway.server.admission import RequestContext, new_id
from gateway.server.asgi import query
from gateway.server.host import SocketLink
from gateway.settings.tts import TtsConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import Outcome, SpeechUsage, Try, TtsCounts
from gateway.upstreams.provider import Account, find
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Failed,
    Finished,
    ProcessVoice,
    RequestVoice,
    SocketVoice,
    SpeechRequest,
    SynthesisEvent,
    TtsUpstream,
)

EVENTS_MAX: Final = 64
"""Messages of a client that wait to be looked at; then its socket is read no further."""

TRIES_MAX: Final = 200
"""Tries that the line in the log of one session reckons with; metrics count all of them."""

AHEAD_BYTES_MAX: Final = 16 << 20
"""Audio of one session that waits for its client to read; more, and the client is given up."""


class LiveSpeech(Protocol):
    """A speech that is going on at a provider. Nothing waits."""

    def say(self, text: str) -> None: ...

    def finish(self) -> None: ...

    def cancel(self) -> None: ...


class TtsRoute:
    """The route. One for each process; holds what is the same for every session."""

    name: Final = "tts"
    events_max: Final = EVENTS_MAX

    def __init__(
        self,
        config: TtsConfig,
        catalogue: Catalogue,
        accounts: Mapping[str, Account],
        breaker: Breaker,
        connector: Connector,
        metrics: Metrics,
        idle_s: float,
    ) -> None:
        self._config = config
        self._connector = connector
        self._metrics = metrics
        self._idle_s = idle_s
        self.blocked_s = config.blocked_timeout_s
        self.catalogue = catalogue
        self._health = breaker
        self.lines = ConnectionPool(connector, config.connect_timeout_s, config.spare_lines)
        self.workers = Workers()
        self._clips = ClipCache(config.cache) if config.cache.enabled else None
        self._by_socket: dict[str, SocketVoice] = {}
        self._by_request: dict[str, RequestVoice] = {}
        self._by_process: dict[str, ProcessVoice] = {}
        self._traits: dict[str, Capabilities] = {}
        for name, account in accounts.items():
            make_tts = find(account.type).tts
            if make_tts is not None:
                self._add(name, make_tts(account))
        self._planner = TtsPlanner(
            catalogue, {name: account.type for name, account in accounts.items()}
        )
        self._audio_out = metrics.audio_seconds.labels("tts", "out")
        self._bytes_out = metrics.bytes.labels("tts", "out")

    async def close(self) -> None:
        await self.lines.close()
        await self.workers.close()
        if self._clips is not None:
            self._clips.close()

    def open(self, request: RequestContext, link: SocketLink[Event]) -> TtsConversation:
        session_id = new_id("tts")
        model = query(request.scope).get("model") or self._config.default_model
        session = TtsSession(
            session_id,
            self._planner.plan,
            self._traits,
            self._health,
            self._config,
            model,
            self._idle_s,
            time.monotonic(),
            self._clips,
        )
        return TtsConversation(self, session, session_id, model, link)

    def _add(self, name: str, upstream: TtsUpstream) -> None:
        self._traits[name] = upstream.traits
        if isinstance(upstream, SocketVoice):
            self._by_socket[name] = upstream
        elif isinstance(upstream, RequestVoice):
            self._by_request[name] = upstream
        else:
            self._by_process[name] = upstream

    def begin(self, provider: str, request: SpeechRequest, sink: Sink) -> LiveSpeech:
        """Start a speech at a provider."""
        if provider in self._by_socket:
            return self.lines.begin(provider, self._by_socket[provider], request, sink)
        if provider in self._by_request:
            return RequestSynthesis(
                self._connector,
                self._config.connect_timeout_s,
                self._by_request[provider],
                request,
                sink,
            )
        return self.workers.begin(provider, self._by_process[provider], request, sink)

    def reserve(self, provider: str, request: SpeechRequest) -> Reservation | None:
        """Have what `provider` needs for a speech ready."""
        if provider in self._by_socket:
            return self.lines.reserve(provider, self._by_socket[provider], request)
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


class TtsConversation:
    """One client's I/O: performs what its session decides."""

    def __init__(
        self,
        route: TtsRoute,
        session: TtsSession,
        session_id: str,
        model: str | None,
        link: SocketLink[Event],
    ) -> None:
        self.session = session
        self._endpoint = route
        self._model = model
        self._id = session_id
        self._socket = link.client
        self._inbox = link.inbox
        self._speeches: dict[int, LiveSpeech] = {}
        self._reservation: Reservation | None = None
        self.provider: str | None = None
        self.audio_s = 0.0
        self.characters = 0
        self._tries: list[Try] = []
        self._ahead = 0
        self._bytes_out = 0

    async def close(self) -> Outcome:
        self._cancel_all()
        if self._reservation is not None:
            self._reservation.release()
        self._endpoint.sent(self._bytes_out)
        report = self.session.report
        return Outcome(
            failure=report.failure,
            # a client closes its connection when it has heard enough
            left=report.left and report.utterances == 0,
            session_id=self._id,
            model=self._model,
            provider=self.provider,
            tries=tuple(self._tries),
            speech=SpeechUsage(self.audio_s, self.characters),
            counts=TtsCounts(report.utterances),
        )

    def _cancel_all(self) -> None:
        speeches, self._speeches = self._speeches, {}
        for speech in speeches.values():
            speech.cancel()

    async def perform(self, action: Action) -> bool:
        match action:
            case SendToClient(text):
                await self._socket.say(text)
                self._bytes_out += len(text)
            case Say(number, text):
                if number in self._speeches:
                    self._speeches[number].say(text)
            case Begin(number, provider, request):
                self._begin(number, provider, request)
            case Finish(number):
                if number in self._speeches:
                    self._speeches[number].finish()
            case CancelSynthesis(number):
                if number in self._speeches:
                    self._speeches.pop(number).cancel()
            case Prepare(provider, request):
                if self._reservation is not None:
                    self._reservation.release()
                self._reservation = self._endpoint.reserve(provider, request)
            case Tried() | Spoken() | Looked():
                self._endpoint.count(action)
                if isinstance(action, Tried) and len(self._tries) < TRIES_MAX:
                    now = time.monotonic()
                    self._tries.append(Try(action.provider, "", now, now, action.failure))
                if isinstance(action, Spoken):
                    self.provider = action.provider or self.provider
                    self.audio_s += action.audio_s
                    self.characters += action.chars
            case Close(code, reason):
                await self._socket.close(code, reason)
                return False
        return not (self._socket.gone and self.session.deadline is None)

    def _give_up(self) -> None:
        """The client does not read. Not even a goodbye would get through."""
        self._cancel_all()
        self._socket.cut()

    def _begin(self, number: int, provider: str, request: SpeechRequest) -> None:
        def sink(heard: SynthesisEvent) -> None:
            if isinstance(heard, Audio):
                self._ahead = len(heard.pcm) + (self._ahead if len(self._inbox) else 0)
                if self._ahead > AHEAD_BYTES_MAX:
                    self._give_up()
            elif isinstance(heard, (Finished, Failed)):
                self._speeches.pop(number, None)
            self._inbox.post(Spoke(number, heard))

        if self._socket.gone:
            return
        self._speeches[number] = self._endpoint.begin(provider, request, sink)
