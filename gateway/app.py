"""The only module that knows all others: what is built, and which route leads to it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, get_args

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway import __version__
from gateway.config import Config
from gateway.conversations.bargein.route import BargeinRoute, BargeinWindowRoute
from gateway.conversations.chat.embeddings_route import EmbeddingsRoute
from gateway.conversations.chat.route import ChatRoute, ModelRoute, ModelsRoute
from gateway.conversations.eot.route import EotRoute
from gateway.conversations.eot.text_route import EotMultiRoute
from gateway.conversations.stt.route import SttRoute
from gateway.conversations.tts.route import TtsRoute
from gateway.conversations.tts.speech_route import SpeechRoute
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.interruption.voice_keeper import VoiceKeeper
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.utterances import UtteranceEngines
from gateway.routing.catalogue import Catalogue
from gateway.routing.stand_in import StandIns
from gateway.runtime.connector import Connector
from gateway.server.admission import Admission, SessionLimiter
from gateway.server.asgi import Receive, Scope, Send, refuse
from gateway.server.auth import Authenticator
from gateway.server.cluster_sessions import ClusterSessionCounts
from gateway.server.connections import AddressLimit
from gateway.server.drain import Drain
from gateway.server.host import (
    BodyHost,
    BodyRoute,
    OpenSockets,
    ReplyHost,
    ReplyRoute,
    SocketHost,
    SocketRoute,
)
from gateway.server.machine import Machine
from gateway.server.quota import Quota
from gateway.telemetry.metrics import ROUTES, Metrics
from gateway.telemetry.prices import Prices
from gateway.telemetry.rests import LoggingBreaker
from gateway.telemetry.usage.log import UsageLog
from gateway.upstreams.errors import POLICY, Failure, Kind, error_body
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Modality

_logger = logging.getLogger(__name__)


class Gateway:
    """Everything one process serves with. Raises ModelError if a model cannot be loaded."""

    def __init__(self, config: Config, machine: Machine | None = None) -> None:
        """`machine`: what is shared with the other workers of this server."""
        self.config = config
        self.machine = machine
        self.accounts = accounts = config.accounts()
        self.metrics = metrics = Metrics()
        prices = Prices(config.prices)
        self.usage = UsageLog(config.usage, metrics, prices)
        self.held: Counter[str] = Counter()
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
        self.admission = Admission(
            Authenticator(
                {key: secret.get_secret_value() for key, secret in config.keys.items()},
                config.server.token_leeway_s,
            ),
            SessionLimiter(config.limits, self.held, elsewhere, elsewhere_open),
            metrics,
            self.usage,
            config.server.trusted_proxies,
            self.addresses,
        )
        self.sockets = OpenSockets()
        self.connector = Connector()
        self.quota = Quota(
            config.quota, on_store_failure=metrics.quota_store_failures.inc, machine=machine
        )
        self.catalogues = catalogues = {
            modality: Catalogue(
                config.models,
                accounts,
                modality,
                stand_ins=StandIns(accounts.values(), modality) if config.local_stand_in else None,
            )
            for modality in get_args(Modality)
        }
        # one for all: a key that /chat saw refused is known to /stt
        self.breaker = breaker = LoggingBreaker(
            deployment
            for catalogue in catalogues.values()
            for deployment in catalogue.deployments()
        )
        if machine is not None:
            breaker.on_rest = machine.rests
            machine.on_rest = self._hear_rest
        for name in accounts:
            rests = partial(self._rests, name)
            metrics.resting.labels(name).set_function(rests)
        metrics.draining.set_function(lambda: float(self.admission.drain is not None))
        self.chat = ChatRoute(
            config.chat,
            catalogues["chat"],
            accounts,
            breaker,
            self.connector,
            self.quota,
            prices,
            metrics,
            config.limits.chat_body_bytes,
        )
        idle_s, message_bytes = config.limits.session_idle_s, config.limits.message_bytes
        self.voices = VoiceKeeper() if config.bargein.own_voice else None
        if machine is not None and self.voices is not None:
            machine.on_voice = self.voices.hear
            self.voices.on_marks = machine.voice
        self.tts = TtsRoute(
            config.tts,
            catalogues["tts"],
            accounts,
            breaker,
            self.connector,
            metrics,
            idle_s,
            self.voices,
        )
        self.engines = UtteranceEngines(self.connector)
        self.stt = SttRoute(
            config.stt, catalogues["stt"], accounts, breaker, self.connector, self.engines
        )
        self.bargein_engine = BargeinEngine(config.bargein, metrics)
        self.bargein = BargeinRoute(self.bargein_engine, metrics, idle_s, self.voices)
        self.bargein_window = BargeinWindowRoute(
            self.bargein_engine, metrics, message_bytes, self.voices
        )
        self.eot_engine = EotEngine(config.eot, metrics, self.bargein_engine.listener)
        self.eot = EotRoute(self.eot_engine, metrics, idle_s)
        self.eot_multi = EotMultiRoute(config.eot, metrics, message_bytes)

    def _rests(self, provider: str) -> float:
        return float(self.breaker.provider_rests(provider, time.monotonic()))

    def _hear_rest(self, provider: str, part: str, seconds: float) -> None:
        self.breaker.hear(provider, part, seconds, time.monotonic())

    def begin_drain(self, drain: Drain) -> None:
        """From now on the server is not ready; `tick` does the rest. Called by the handler of a
        signal: it may take no lock that this very thread may hold."""
        self.admission.drain = drain

    def tick(self, now: float) -> None:
        """Now and then: close the sockets whose time has come."""
        self.sockets.sweep(self.admission.drain, now)

    def is_ready(self, routes: Sequence[str] = ()) -> bool:
        """Whether new callers are welcome, and somebody serves each of `routes` (of
        metrics.ROUTES) now: a route has a deployment that does not rest, or its model."""
        return self.admission.drain is None and all(self._serves(route) for route in routes)

    def _serves(self, route: str) -> bool:
        if route in self.catalogues:
            catalogue, breaker, now = self.catalogues[route], self.breaker, time.monotonic()
            return any(
                not breaker.resting(Attempt(*deployment), now)
                for deployment in catalogue.deployments()
            ) or any(not breaker.provider_rests(name, now) for name in catalogue.unlisted())
        if route == "eot":
            return self.eot_engine.model is not None
        if route == "eot_multi":
            return self.eot_multi.model is not None
        return True

    def stand_ins(self) -> list[str]:
        """The local models that serve the names of vendors with no provider."""
        catalogues = (self.stt.catalogue, self.chat.catalogue, self.tts.catalogue)
        return [one.stand_in.stand_in or "" for one in catalogues if one.stand_in is not None]

    def readiness(self, routes: Sequence[str] = ()) -> dict[str, Any]:
        """What /readyz says to the operator: whether it is, and what callers would find."""
        card = self.bargein_engine.card
        return {
            "ready": self.is_ready(routes),
            "draining": self.admission.drain is not None,
            "bargein": {"model": card.name, "version": card.version},
            "eot": self._eot_readiness(),
            "chat": {
                "models": len(self.chat.catalogue.names()),
                "loading": self.chat.companions.loading,
            },
            "stt": {"models": len(self.stt.catalogue.names())},
            "tts": {"models": len(self.tts.catalogue.names())},
        }

    def _eot_readiness(self) -> dict[str, Any]:
        text = self.eot_multi.model
        known: dict[str, Any] = {"text_model": text.name if text is not None else None}
        if self.eot_engine.model is None:
            assert self.eot_engine.failure is not None
            return {"model": None, "reason": self.eot_engine.failure.message, **known}
        card = self.eot_engine.model.card
        return {"model": card.name, "version": card.version, **known}

    async def close(self) -> None:
        self.bargein_engine.close()
        if self.voices is not None:
            self.voices.close()
        self.engines.close()
        self.eot_engine.close()
        self.eot_multi.close()
        await self.tts.close()
        await self.chat.companions.close()
        if self.cluster_sessions is not None:
            await self.cluster_sessions.close()
        if self.machine is not None:
            await self.machine.close()
        await self.usage.close()
        await self.quota.close()
        await self.connector.close()


PROBES: Final = frozenset({"/healthz", "/readyz"})
"""For load balancers; under these names alone."""


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
        gateway.usage.start()
        if gateway.cluster_sessions is not None:
            gateway.cluster_sessions.start()
        if gateway.machine is not None:
            await gateway.machine.start(gateway.held)
        gateway.chat.companions.start()
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
    app.router.routes += [
        Route("/chat/completions", _reply(gateway, gateway.chat), methods=["POST"]),
        Route("/audio/speech", _reply(gateway, SpeechRoute(gateway.tts)), methods=["POST"]),
        Route("/embeddings", _body(gateway, EmbeddingsRoute(gateway.chat)), methods=["POST"]),
        Route("/models", _body(gateway, ModelsRoute(gateway.chat)), methods=["GET"]),
        Route("/models/{id:path}", _body(gateway, ModelRoute(gateway.chat)), methods=["GET"]),
        Route("/bargein", _body(gateway, gateway.bargein_window), methods=["POST"]),
        Route("/eot/multi", _body(gateway, gateway.eot_multi), methods=["POST"]),
        WebSocketRoute("/bargein", _socket(gateway, gateway.bargein)),
        WebSocketRoute("/stt", _socket(gateway, gateway.stt)),
        WebSocketRoute("/tts", _socket(gateway, gateway.tts)),
        WebSocketRoute("/eot", _socket(gateway, gateway.eot)),
    ]
    return Front(app)


def create_admin_app(gateway: Gateway) -> Starlette:
    """The ASGI application for the operator's port, without tokens: metrics, and probes that say
    more than those of the inference port."""

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def readyz(request: Request) -> Response:
        routes = _asked_routes(request)
        if isinstance(routes, Failure):
            return _json(error_body(routes), routes.status)
        readiness = gateway.readiness(routes)
        return _json(readiness, 200 if readiness["ready"] else 503)

    async def metrics(request: Request) -> Response:
        return Response(
            generate_latest(gateway.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )


def _asked_routes(request: Request) -> list[str] | Failure:
    """The routes that a probe asks about: `?route=stt&route=tts`."""
    routes = request.query_params.getlist("route")
    for route in routes:
        if route not in ROUTES:
            return Failure(Kind.BAD_REQUEST, f"route: expected one of {', '.join(ROUTES)}", "route")
    return routes


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _socket(gateway: Gateway, route: SocketRoute) -> SocketHost:
    return SocketHost(route, gateway.admission, gateway.config.limits, gateway.sockets)


def _reply(gateway: Gateway, route: ReplyRoute) -> ReplyHost:
    return ReplyHost(route, gateway.admission, gateway.config.limits)


def _body(gateway: Gateway, route: BodyRoute) -> BodyHost:
    return BodyHost(route, gateway.admission, gateway.config.limits)


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
