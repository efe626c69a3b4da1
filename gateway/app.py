"""What one process is made of, and which route leads where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway import __version__
from gateway.config import Config
from gateway.conversations.bargein.route import BargeinWindowRoute
from gateway.conversations.eot.text_route import EotMultiRoute
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.interruption.learning import LearningKeeper
from gateway.engines.interruption.voice_keeper import VoiceKeeper
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.utterances import UtteranceEngines
from gateway.installation import PATHS, Installation, Process, prepare
from gateway.page.overview import Ask, Overview, WorkersOverview
from gateway.page.relay import Relay
from gateway.page.routes import Page, worker_routes
from gateway.runtime.connector import Connector
from gateway.server.admission import Admission, SessionLimiter
from gateway.server.asgi import JSON_TYPE, Receive, Scope, Send, answer, refuse
from gateway.server.auth import Authenticator
from gateway.server.cluster_calls import ClusterCalls, machine_name
from gateway.server.cluster_sessions import ClusterSessionCounts
from gateway.server.connections import AddressLimit
from gateway.server.drain import Drain
from gateway.server.host import OpenSockets
from gateway.server.machine import Machine
from gateway.server.reload_route import Reload, reload_route
from gateway.telemetry.agreement import Agreements
from gateway.telemetry.changes import ChangeLog, changes_file
from gateway.telemetry.expositions import exposition
from gateway.telemetry.metrics import ROUTES, Metrics
from gateway.telemetry.traces import OtlpTracer
from gateway.telemetry.usage.log import UsageLog
from gateway.telemetry.usage.store import SUMS
from gateway.telemetry.watch import Watch
from gateway.upstreams.errors import POLICY, Failure, Kind, error_body
from gateway.upstreams.provider import Modality

_logger = logging.getLogger(__name__)

MODALITIES: Final[Mapping[str, Modality]] = {one: one for one in get_args(Modality)}
"""Routes that are served by providers."""


class Gateway:
    """Everything one process serves with. Raises ModelError if a model cannot be loaded."""

    def __init__(self, config: Config, machine: Machine | None = None) -> None:
        """`machine`: what is shared with the other workers of this server."""
        self.machine = machine
        self.metrics = metrics = Metrics()
        self.usage = UsageLog(config.usage, metrics)
        self.held: Counter[str] = Counter()
        traced = config.traces.endpoint is not None
        self.tracer = OtlpTracer(config.traces, __version__) if traced else None
        self.watch = Watch() if config.page.token is not None else None
        self.cluster_sessions: ClusterSessionCounts | None = None
        if (url := config.quota.redis_url) is not None:
            self.cluster_sessions = ClusterSessionCounts(
                url.get_secret_value(),
                config.quota.prefix,
                self.held,
                metrics.quota_store_failures.inc,
            )
        self.addresses = AddressLimit(config.limits.connections_per_address, _say_full)
        counted = self.cluster_sessions or machine
        elsewhere = counted.elsewhere if counted is not None else None
        elsewhere_open = machine.elsewhere_open if machine is not None else None
        self._limiter = SessionLimiter(config.limits, self.held, elsewhere, elsewhere_open)
        self.admission = Admission(
            Authenticator({}),
            self._limiter,
            metrics,
            self.usage,
            (),
            self.addresses,
            watch=self.watch,
            tracer=self.tracer,
        )
        self.sockets = OpenSockets(config.usage.running_s)
        self.connector = Connector()
        self.engines = UtteranceEngines(self.connector)
        self.bargein_engine = BargeinEngine(config.bargein, metrics)
        self.voices = VoiceKeeper() if config.bargein.own_voice else None
        self.learning = LearningKeeper(
            config.bargein.learn, metrics, None if self.voices is None else self.voices.of
        )
        self.cluster_calls: ClusterCalls | None = None
        if (url := config.quota.redis_url) is not None:
            self.cluster_calls = ClusterCalls(
                url.get_secret_value(),
                config.quota.prefix,
                machine_name(None if machine is None else str(machine.path)),
                metrics.quota_store_failures.inc,
            )
        self._tell_of_calls([one for one in (machine, self.cluster_calls) if one is not None])
        self.agreements = Agreements(lambda *labels: metrics.agreement.labels(*labels).inc())
        if machine is not None:
            machine.on_words = self.agreements.hear
            self.agreements.on_words = machine.words
        self.bargein_window = BargeinWindowRoute(
            self.bargein_engine, metrics, config.limits.message_bytes, self.voices
        )
        self.eot_engine = EotEngine(config.eot, metrics, self.bargein_engine.listener)
        self.eot_multi = EotMultiRoute(config.eot, metrics, config.limits.message_bytes)
        metrics.draining.set_function(lambda: float(self.admission.drain is not None))
        metrics.drain_ends.set_function(self._drain_ends)
        metrics.upstream_sockets.set_function(lambda: float(self.connector.open_sockets))
        self._process = Process(
            metrics,
            self.admission,
            self.sockets,
            self.connector,
            self.engines,
            self.bargein_engine,
            self.bargein_window,
            self.eot_engine,
            self.eot_multi,
            self.usage,
            machine,
            self.voices,
            self.agreements,
            self.learning,
        )
        self.installation = Installation(config, self._process)
        self._before: set[Installation] = set()
        """Installations that were replaced and still have open sessions."""
        self._ending: set[asyncio.Task[None]] = set()
        self._using = asyncio.Lock()
        if machine is not None:
            self.installation.breaker.on_rest = machine.rests
            machine.on_rest = self._hear_rest
            machine.on_avatar = lambda told: self.installation.avatars.hear(told)
            machine.on_kept = lambda told: self.installation.responses.hear(told)
        self._admit_by(self.installation)

    def _tell_of_calls(self, others: Sequence[Machine | ClusterCalls]) -> None:
        """What is known of calls here is told to `others`, and what they know is heard."""
        voices, learning = self.voices, self.learning
        for other in others:
            other.on_followed = learning.hear
            if voices is not None:
                other.on_voice = voices.hear

        def said(call: str, begins_at: float, marks: bytes) -> None:
            for other in others:
                other.voice(call, begins_at, marks)

        def followed(call: str, what: str, began: float, ended: float) -> None:
            for other in others:
                other.followed(call, what, began, ended)

        if others:
            learning.on_told = followed
            if voices is not None:
                voices.on_marks = said

    @property
    def config(self) -> Config:
        """What new sessions are served by."""
        return self.installation.config

    async def use(self, config: Config) -> None:
        """Serve new requests and sessions by `config`; those that are open go on as they began.
        What needs a restart is the same in it as in the one before (see gateway/reload.py)."""
        async with self._using:
            prepared = await asyncio.to_thread(prepare, config)
            versions = await asyncio.to_thread(self.bargein_engine.prepare, config.bargein)
            self._use(Installation(config, self._process, self.installation, prepared))
            self.bargein_engine.decide_by(config.bargein, versions)

    def _use(self, installation: Installation) -> None:
        before, self.installation = self.installation, installation
        self._admit_by(self.installation)
        for name in before.adapters.accounts.keys() - self.installation.adapters.accounts.keys():
            self.metrics.resting.remove(name)
        self.installation.stt.warm()
        self._before.add(before)
        self.left(before)

    def _admit_by(self, installation: Installation) -> None:
        config = installation.config
        # a new one, so that no token of a removed key is remembered
        self.admission.authenticator = installation.authenticator
        self.admission.trusted_proxies = config.server.trusted_proxies
        self.admission.quota = installation.quota
        self._limiter.limits = config.limits
        self.addresses.most = config.limits.connections_per_address
        self.addresses.trusted = config.server.trusted_proxies
        self.learning.use(config.bargein.learn)
        for route in (self.bargein_window, self.eot_multi):
            route.body_bytes_max = config.limits.message_bytes
        self.metrics.expect(config.keys, installation.expected())
        for name in installation.adapters.accounts:
            self.metrics.resting.labels(name).set_function(partial(self._rests, name))

    def left(self, installation: Installation) -> None:
        """A session that began with `installation` is over."""
        if installation.open == 0 and installation in self._before:
            self._before.remove(installation)
            others = (self.installation, *self._before)
            task = asyncio.create_task(installation.end(others))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _rests(self, provider: str) -> float:
        return float(self.installation.breaker.provider_rests(provider, time.monotonic()))

    def _hear_rest(self, provider: str, part: str, seconds: float) -> None:
        self.installation.breaker.hear(provider, part, seconds, time.monotonic())

    def begin_drain(self, drain: Drain) -> None:
        """From now on the server is not ready; `tick` does the rest. Called by the handler of a
        signal: it may take no lock that this very thread may hold."""
        self.admission.drain = drain

    def _drain_ends(self) -> float:
        drain = self.admission.drain
        return 0.0 if drain is None else time.time() + drain.ends_at - time.monotonic()

    def tick(self, now: float) -> None:
        """Now and then: close the sockets whose time has come, judge what was decided, end avatars
        that nobody ended."""
        self.sockets.sweep(self.admission.drain, now)
        self.learning.tick(now)
        self.agreements.judge(now)
        self.installation.avatars.sweep(now)

    def is_ready(self, routes: Sequence[str] = ()) -> bool:
        """Whether new callers are welcome, and somebody serves each of `routes` (of
        metrics.ROUTES) now: a route has a deployment that does not rest, or its model."""
        return self.admission.drain is None and all(self._serves(route) for route in routes)

    def _serves(self, route: str) -> bool:
        if (modality := MODALITIES.get(route)) is not None:
            return self.installation.serves(modality, time.monotonic())
        if route == "eot":
            return self.eot_engine.model is not None
        if route == "eot_multi":
            return self.eot_multi.model is not None
        return True

    def readiness(self, routes: Sequence[str] = ()) -> dict[str, Any]:
        """What /readyz says to the operator: whether it is, and what callers would find: which
        routes somebody serves now, and which providers rest."""
        card, serves = self.bargein_engine.card, self.installation
        return {
            "ready": self.is_ready(routes),
            "draining": self.admission.drain is not None,
            "bargein": {"model": card.name, "version": card.version},
            "eot": self._eot_readiness(),
            **{
                route: {
                    "ready": self._serves(route),
                    "models": len(serves.catalogues[modality].names()),
                }
                for route, modality in MODALITIES.items()
            },
            "loading": serves.chat.companions.loading,
            "resting": [name for name in serves.adapters.accounts if self._rests(name)],
        }

    def _eot_readiness(self) -> dict[str, Any]:
        text = self.eot_multi.model
        known: dict[str, Any] = {"text_model": text.name if text is not None else None}
        if self.eot_engine.model is None:
            assert self.eot_engine.failure is not None
            return {"model": None, "reason": self.eot_engine.failure.message, **known}
        card = self.eot_engine.model.card
        return {"model": card.name, "version": card.version, **known}

    async def start(self) -> None:
        """Begin what runs beside the requests."""
        loop = asyncio.get_running_loop()
        self.metrics.tasks.set_function(lambda: float(len(asyncio.all_tasks(loop))))
        self.usage.start()
        if self.cluster_sessions is not None:
            self.cluster_sessions.start()
        if self.cluster_calls is not None:
            self.cluster_calls.start()
        if self.machine is not None:
            await self.machine.start(self.held)
        await self.installation.quota.start()
        self.installation.chat.companions.start()

    async def close(self) -> None:
        self.bargein_engine.close()
        await asyncio.to_thread(self.learning.join)
        if self.voices is not None:
            self.voices.close()
        self.engines.close()
        self.eot_engine.close()
        self.eot_multi.close()
        for installation in (*self._before, self.installation):
            await installation.close()
        await asyncio.gather(*self._ending)
        if self.cluster_sessions is not None:
            await self.cluster_sessions.close()
        if self.cluster_calls is not None:
            await self.cluster_calls.close()
        if self.machine is not None:
            await self.machine.close()
        await self.usage.close()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        await self.connector.close()


PROBES: Final = frozenset({"/healthz", "/readyz"})
"""For load balancers; under these names alone."""


_NEEDS_UPGRADE: Final = orjson.dumps(
    error_body(
        Failure(
            Kind.BAD_REQUEST,
            "this route is a WebSocket, and the request came without `Upgrade: websocket`: a proxy "
            "in between may have dropped it",
        )
    )
)


def _say_full(address: str) -> None:
    _logger.warning(
        "an address has no connections left (limits.connections_per_address)",
        extra={"client": address},
    )


class Front:
    """Leads a request to its route, under each of the names that clients use.

    `/v1/x`, `x/` and `//x` (a base URL with a slash at its end, put before a path) are `/x`, except
    for PROBES: none is redirected, which would go by the Host header that anybody may send.
    Inference routes are reached directly; the rest goes through FastAPI.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._direct: dict[tuple[str, str], ASGIApp] = {}
        for route in app.router.routes:
            if isinstance(route, WebSocketRoute):
                self._direct["websocket", route.path] = route.app
            elif type(route) is Route and route.methods:
                for method in route.methods:
                    self._direct[method, route.path] = route.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind: str = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if "//" in path or path.startswith("/v1/") or path.endswith("/"):
            parts = [part for part in path.split("/") if part]
            if parts and parts[0] == "v1":
                del parts[0]
            named = "/" + "/".join(parts)
            if named not in PROBES:
                scope["path"] = path = named
        direct = self._direct.get((kind if kind == "websocket" else scope["method"], path))
        if direct is None and kind == "websocket":
            await refuse(scope, send, Failure(Kind.NOT_FOUND, "there is no such route"))
            return
        if direct is None:
            if scope["method"] == "GET" and ("websocket", path) in self._direct:
                await answer(send, 426, _NEEDS_UPGRADE, (JSON_TYPE, (b"upgrade", b"websocket")))
                return
            await self._app(scope, receive, send)
            return
        try:
            await direct(scope, receive, send)
        except Exception:  # a request ends here, whatever became of it
            _logger.exception("internal error", extra={"path": path})
            await _break_off(scope, send)


async def _break_off(scope: Scope, send: Send) -> None:
    """Tell the caller that the fault is ours, as far as that can still be told."""
    try:
        await refuse(scope, send, Failure(Kind.INTERNAL, "internal error"))
    except (OSError, RuntimeError):  # the answer, or the WebSocket, has begun
        if scope["type"] == "websocket":
            with contextlib.suppress(OSError, RuntimeError):
                await send({"type": "websocket.close", "code": 1011, "reason": "internal error"})


def create_app(gateway: Gateway) -> Front:
    """The ASGI application that serves `gateway`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.close()

    app = FastAPI(
        title="Parley",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        routes = _asked_routes(request)
        if isinstance(routes, Failure):
            return _json(error_body(routes), routes.status)
        ready = gateway.is_ready(routes)
        return _json({"ready": ready}, 200 if ready else 503)

    # The inference routes are plain ASGI, see Front.
    for method, path in PATHS:
        serve = _Served(gateway, method, path)
        if method == "WEBSOCKET":
            app.router.routes.append(WebSocketRoute(path, serve))
        else:
            app.router.routes.append(Route(path, serve, methods=[method]))
    return Front(app)


class _Served:
    """One inference route: as the installation serves it that is in use when a request comes."""

    def __init__(self, gateway: Gateway, method: str, path: str) -> None:
        self._gateway = gateway
        self._key = method, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        installation = self._gateway.installation
        installation.open += 1
        try:
            await installation.hosts[self._key](scope, receive, send)
        finally:
            installation.open -= 1
            self._gateway.left(installation)


def create_admin_app(
    gateway: Gateway, reload: Reload | None = None, *, supervised: bool = False
) -> Starlette:
    """The ASGI application for the operator's port, without tokens: metrics, probes that say more
    than those of the inference port, and `reload` for who is on this machine. `supervised`: it is
    on a worker's private socket, and the page is its supervisor's."""

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def readyz(request: Request) -> Response:
        routes = _asked_routes(request)
        if isinstance(routes, Failure):
            return _json(error_body(routes), routes.status)
        readiness = gateway.readiness(routes)
        return _json(readiness, 200 if readiness["ready"] else 503)

    async def metrics(request: Request) -> Response:
        told = await exposition(gateway.metrics.registry)
        return Response(told, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *_page(gateway, supervised),
            *([] if reload is None else [reload_route(reload)]),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )


def _page(gateway: Gateway, supervised: bool) -> list[BaseRoute]:
    """The routes of the operator's page, if it is on."""
    token, watch = gateway.config.page.token, gateway.watch
    if token is None or watch is None:
        return []
    overview = Overview(
        watch,
        lambda: gateway.installation.breaker,
        gateway.usage.summary,
        tuple(SUMS),
        gateway.readiness,
        lambda: gateway.installation.catalogues,
        gateway.config.usage.time_zone,
        gateway.config.usage.currency,
    )

    if supervised:
        return worker_routes(token.get_secret_value(), overview, create_app(gateway))
    page = Page(
        token.get_secret_value(),
        overview.now,
        overview.models,
        create_app(gateway),
        lambda: first_key(gateway.config),
        ChangeLog(changes_file(gateway.config.usage)),
        lambda: gateway.config.bargein.learn,
    )
    return page.routes()


def supervisors_page(
    config: Callable[[], Config],
    every: Ask,
    some: Ask,
    sockets: Callable[[], Sequence[Path]],
) -> list[BaseRoute]:
    """The same of a server with several workers: `every` asks all of them, `some` the first that
    answers; `sockets` are their private ones."""
    token = config().page.token
    if token is None:
        return []
    overview = WorkersOverview(every, some, config().server.workers)
    page = Page(
        token.get_secret_value(),
        overview.now,
        overview.models,
        Relay(sockets),
        lambda: first_key(config()),
        ChangeLog(changes_file(config().usage)),
        lambda: config().bargein.learn,
    )
    return page.routes()


def first_key(config: Config) -> tuple[str, str] | None:
    """The API key that what is tried on the page counts for, and its secret."""
    found = next(iter(config.keys.items()), None)
    return None if found is None else (found[0], found[1].get_secret_value())


def _asked_routes(request: Request) -> list[str] | Failure:
    """The routes that a probe asks about: `?route=stt&route=tts`."""
    routes = request.query_params.getlist("route")
    for route in routes:
        if route not in ROUTES:
            return Failure(Kind.BAD_REQUEST, f"route: expected one of {', '.join(ROUTES)}", "route")
    return routes


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """No such route or method, in OpenAI's form."""
    assert isinstance(error, HTTPException)
    messages = {404: "there is no such route", 405: "this route has no such method"}
    message = messages.get(error.status_code, str(error.detail))
    body = {
        "error": {
            "message": message,
            "type": POLICY[Kind.BAD_REQUEST].type,
            "param": None,
            "code": "not_found" if error.status_code == 404 else Kind.BAD_REQUEST.value,
        }
    }
    return Response(
        orjson.dumps(body), error.status_code, headers=error.headers, media_type="application/json"
    )


async def _internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours: the caller learns that, the log has the rest."""
    failure = Failure(Kind.INTERNAL, "internal error")
    return Response(orjson.dumps(error_body(failure)), 500, media_type="application/json")
