"""/stt: authenticate, build the session, drive it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from gateway.config import Config
from gateway.conversations.stt.actions import (
    Action,
    Close,
    Drop,
    Linger,
    Open,
    Pause,
    Resume,
    Send,
    SendToClient,
)
from gateway.conversations.stt.planning import SttPlanner
from gateway.conversations.stt.report import Report
from gateway.conversations.stt.session import Event, SttSession
from gateway.engines.utterances import UtteranceEngines, UtteranceStream
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.runtime.connector import Connector, UpstreamSocket
from gateway.runtime.loop import Inbox, drive
from gateway.server.admission import Admission, RequestContext, new_id
from gateway.server.asgi import ClientSocket, Receive, Scope, header, refuse
from gateway.server.asgi import Send as AsgiSend
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketOpened
from gateway.upstreams.listing import named_models
from gateway.upstreams.provider import find
from gateway.upstreams.stt import LocalTarget, SttUpstream

EVENTS_MAX: Final = 64
"""Messages of client and providers that wait for the session; then their sockets are read no
further."""

BLOCKED_S_MAX: Final = 5.0
"""A provider that does not read for so long has stalled; a client that does not is gone."""

LINGER_STEP_S: Final = 0.02

UPSTREAM_MESSAGE_BYTES_MAX: Final = 1 << 20
"""Longest message of a provider."""

_AGENTS_1_5 = re.compile(r"LiveKit Agents/(0|1\.[0-5])\.")


class SttEndpoint:
    """The route. One for each process; holds what is the same for every session."""

    def __init__(
        self,
        config: Config,
        door: Admission,
        connector: Connector,
        metrics: Metrics,
        engines: UtteranceEngines,
    ) -> None:
        self._config = config
        self._door = door
        self._connector = connector
        self._metrics = metrics
        self._engines = engines
        self.routes = Catalogue(config.models, config.accounts(), "stt")
        self._health = Breaker(self.routes.deployments())
        self._upstreams: dict[str, SttUpstream] = {}
        automatic: list[str] = []
        last: list[str] = []
        for name, account in config.accounts().items():
            vendor = find(account.type)
            if vendor.stt is None:
                continue
            self._upstreams[name] = vendor.stt(account)
            models = [f"{name}/{model}" for model in named_models(account, "stt")]
            models += vendor.models("stt")
            if vendor.available is None:
                automatic += models[:1]
            elif vendor.available():
                last += models[:1]
        # loaded at the start only where it will be asked
        self._last = tuple(last) if config.stt.local_last or not automatic else ()
        self._planner = SttPlanner(
            self.routes,
            config.stt,
            self._upstreams,
            automatic=(*automatic, *last),
            last=tuple(last) if config.stt.local_last else (),
        )
        self._audio_in = metrics.audio_seconds.labels("stt", "in")

    def warm(self) -> None:
        """Load the local engine, if there is one, so that the first caller does not wait."""
        for model in self._last:
            plan = self.routes.plan(model)
            if isinstance(plan, Failure):
                continue
            for attempt in plan:
                dial = self._upstreams[attempt.provider].recognizer(attempt, 16_000).dial()
                if isinstance(dial, LocalTarget):
                    self._engines.warm(dial)

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        visit = self._door.admit(scope, "stt")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            client = ClientSocket(receive, send, scope)
            if not await client.accept():
                visit.outcome = "left"
                return
            session_id = new_id("stt")
            visit.note(session_id=session_id)
            session = SttSession(
                self._config.stt,
                self._planner,
                self._upstreams,
                self._health,
                session_id,
                time.monotonic(),
                ends_itself=_AGENTS_1_5.match(header(scope, b"user-agent") or "") is not None,
            )
            try:
                await _Conversation(session, client, self._connector, self._engines).run()
            finally:
                self._account(session.report, visit)

    def _account(self, report: Report, visit: RequestContext) -> None:
        """Metrics and log fields of a finished session."""
        metrics = self._metrics
        self._audio_in.inc(report.audio_s)
        for i, one in enumerate(report.tries):
            outcome = one.failure.kind.value if one.failure else "ok"
            metrics.attempts.labels("stt", one.provider, outcome).inc()
            if one.failure is not None and i + 1 < len(report.tries):
                metrics.fallbacks.labels("stt", one.provider).inc()
        visit.note(
            model=report.model,
            providers=",".join(dict.fromkeys(one.provider for one in report.tries)) or None,
            connections=len(report.tries),
            failovers=report.failovers or None,
            failures=",".join(
                f"{one.provider}:{one.failure.kind.value}" for one in report.tries if one.failure
            )[:500]
            or None,
            audio_s=round(report.audio_s, 2),
            finals=report.finals,
        )
        if report.failure is not None:
            visit.outcome = report.failure.kind.value
            visit.note(error=report.failure.message)
        elif report.left:
            visit.outcome = "left"


class _Gate:
    """Between the client's socket and the inbox: closed, it holds the socket back."""

    __slots__ = ("_inbox", "open")

    def __init__(self, inbox: Inbox[Event]) -> None:
        self._inbox = inbox
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, event: Event) -> None:
        await self._inbox.put(event)
        if not self.open.is_set():
            await self.open.wait()

    @property
    def full(self) -> bool:
        return self._inbox.full or not self.open.is_set()

    def post(self, event: Event) -> None:
        self._inbox.post(event)


class _Upstream:
    """One connection, from the wish for it to its end."""

    __slots__ = ("sending_since", "socket", "task")

    def __init__(self) -> None:
        self.socket: UpstreamSocket | UtteranceStream | None = None
        self.task: asyncio.Task[None] | None = None
        self.sending_since: float | None = None


class _Conversation:
    """One session's I/O: performs what it decides."""

    def __init__(
        self,
        session: SttSession,
        client: ClientSocket,
        connector: Connector,
        engines: UtteranceEngines,
    ) -> None:
        self._session = session
        self._client = client
        self._connector = connector
        self._engines = engines
        self._inbox: Inbox[Event] = Inbox(EVENTS_MAX)
        self._gate = _Gate(self._inbox)
        self._upstreams: dict[int, _Upstream] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._telling_since: float | None = None
        self._main: asyncio.Task[Any] | None = None
        self._client_blocked = False
        self._watch: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        self._main = asyncio.current_task()
        listening = asyncio.create_task(self._client.listen(self._gate))  # type: ignore[arg-type]
        self._look()
        try:
            await drive(self._session, self._inbox, self._perform)
        except asyncio.CancelledError:
            if not self._client_blocked:
                raise
            assert self._main is not None
            self._main.uncancel()
            self._session.report.left = True
        finally:
            if self._watch is not None:
                self._watch.cancel()
            tasks = [listening, *self._leaving]
            for upstream in self._upstreams.values():
                if upstream.task is not None:
                    tasks.append(upstream.task)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        """Now and then: whether a send is blocked. It costs nothing on the way of a frame."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        for number, upstream in self._upstreams.items():
            since = upstream.sending_since
            if since is not None and now - since > BLOCKED_S_MAX:
                upstream.sending_since = None
                failure = Failure(Kind.TIMEOUT, "the provider does not read what it is sent")
                self._inbox.post(ConnectionFailed(number, failure))
                if upstream.socket is not None:
                    upstream.socket.abort()
        if self._telling_since is not None and now - self._telling_since > BLOCKED_S_MAX:
            assert self._main is not None
            self._client_blocked = True
            self._main.cancel()
            return
        self._watch = loop.call_later(BLOCKED_S_MAX / 2, self._look)

    async def _perform(self, action: Action) -> bool:
        if isinstance(action, Send):  # the commonest by far
            upstream = self._upstreams.get(action.number)
            if upstream is not None and upstream.socket is not None:
                await self._send(action.number, upstream, action.frames)
            return True
        match action:
            case SendToClient(text):
                self._telling_since = time.monotonic()
                await self._client.say(text)
                self._telling_since = None
            case Open(number, dial, timeout_s):
                upstream = self._upstreams[number] = _Upstream()
                upstream.task = asyncio.create_task(self._serve(number, upstream, dial, timeout_s))
            case Drop(number):
                self._drop(number)
            case Pause():
                self._gate.open.clear()
            case Resume():
                self._gate.open.set()
            case Linger(seconds):
                until = time.monotonic() + seconds
                # a flag is all there is: it happens once a session
                while not self._client.gone and time.monotonic() < until:  # noqa: ASYNC110
                    await asyncio.sleep(LINGER_STEP_S)
            case Close(code, reason):
                await self._client.close(code, reason)
                return False
        return True

    async def _send(self, number: int, upstream: _Upstream, frames: list[Any]) -> None:
        assert upstream.socket is not None
        upstream.sending_since = time.monotonic()
        try:
            for frame in frames:
                await upstream.socket.send(frame)
        except (ConnectionError, OSError, RuntimeError):
            failure = Failure(Kind.CONNECTION_LOST, "the provider's connection broke off")
            self._inbox.post(ConnectionFailed(number, failure))
        finally:
            upstream.sending_since = None

    async def _serve(
        self, number: int, upstream: _Upstream, dial: Dial | LocalTarget, timeout_s: float
    ) -> None:
        """Open a connection and listen to it until it ends."""
        socket: UpstreamSocket | UtteranceStream | Failure
        if isinstance(dial, LocalTarget):
            socket = self._engines.open(dial)
        else:
            socket = await self._connector.websocket(dial, timeout_s, UPSTREAM_MESSAGE_BYTES_MAX)
        if isinstance(socket, Failure):
            self._inbox.post(ConnectionFailed(number, socket))
            return
        upstream.socket = socket
        self._inbox.post(SocketOpened(number))
        try:
            await socket.listen(number, self._inbox)
        finally:
            await socket.close()

    def _drop(self, number: int) -> None:
        """Let go of a connection without waiting for it."""
        upstream = self._upstreams.pop(number, None)
        if upstream is None or upstream.task is None:
            return
        upstream.task.cancel()
        self._leaving.add(upstream.task)
        upstream.task.add_done_callback(self._leaving.discard)
