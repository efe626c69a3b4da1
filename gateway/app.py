"""The only module that knows all others: what is built, and which route leads to it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway import __version__
from gateway.config import Config
from gateway.conversations.bargein.route import BargeinEndpoint
from gateway.conversations.chat.route import ChatEndpoint, ModelsEndpoint
from gateway.conversations.eot.route import EotEndpoint
from gateway.conversations.eot.text_route import EotMultiEndpoint
from gateway.conversations.stt.route import SttEndpoint
from gateway.conversations.tts.route import TtsEndpoint
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.turn_detection.engine import EotEngine
from gateway.engines.utterances import UtteranceEngines
from gateway.runtime.connector import Connector
from gateway.server.admission import Admission
from gateway.server.asgi import Receive, Scope, Send, refuse
from gateway.server.auth import Authenticator
from gateway.server.cluster_sessions import ClusterSessionCounts
from gateway.server.quota import Quota
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices
from gateway.telemetry.usage.log import UsageLog
from gateway.upstreams.errors import POLICY, Failure, Kind, error_body

_logger = logging.getLogger(__name__)


class Gateway:
    """Everything one process serves with. Raises ModelError if a model cannot be loaded."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.usage = UsageLog(config.usage, self.metrics, Prices(config.prices))
        self.door = Admission(
            Authenticator(
                {key: secret.get_secret_value() for key, secret in config.keys.items()},
                config.server.token_leeway_s,
            ),
            config.limits,
            self.metrics,
            self.usage,
        )
        self.connector = Connector()
        self.bargein = BargeinEngine(config.bargein, self.metrics)
        self.quota = Quota(config.quota)
        self.shared_leases: ClusterSessionCounts | None = None
        if (url := config.quota.redis_url) is not None:
            self.shared_leases = ClusterSessionCounts(
                url.get_secret_value(), config.quota.prefix, self.door.leases.held
            )
            self.door.leases.elsewhere = self.shared_leases.elsewhere
        self.chat_endpoint = ChatEndpoint(
            config, self.door, self.connector, self.metrics, self.quota
        )
        self.tts_endpoint = TtsEndpoint(config, self.door, self.connector, self.metrics)
        self.engines = UtteranceEngines(self.connector)
        self.stt_endpoint = SttEndpoint(
            config, self.door, self.connector, self.metrics, self.engines
        )
        self.bargein_endpoint = BargeinEndpoint(
            config.limits, self.door, self.bargein, self.metrics
        )
        self.eot = EotEngine(config.eot, self.metrics, self.bargein.listener)
        self.eot_endpoint = EotEndpoint(config.limits, self.door, self.eot, self.metrics)
        self.eot_multi_endpoint = EotMultiEndpoint(
            config.eot, config.limits, self.door, self.metrics
        )

    def readiness(self) -> dict[str, Any]:
        """What /readyz says: whether new callers are welcome, and what they would find."""
        card = self.bargein.card
        return {
            "ready": not self.door.draining,
            "bargein": {"model": card.name, "version": card.version},
            "eot": self._eot_readiness(),
            "chat": {"models": len(self.chat_endpoint.catalogue.names())},
            "stt": {"models": len(self.stt_endpoint.catalogue.names())},
            "tts": {"models": len(self.tts_endpoint.catalogue.names())},
        }

    def _eot_readiness(self) -> dict[str, Any]:
        text = self.eot_multi_endpoint.model
        known: dict[str, Any] = {"text_model": text.name if text is not None else None}
        if self.eot.model is None:
            assert self.eot.failure is not None
            return {"model": None, "reason": self.eot.failure.message, **known}
        card = self.eot.model.card
        return {"model": card.name, "version": card.version, **known}

    async def close(self) -> None:
        self.bargein.close()
        self.engines.close()
        self.eot.close()
        self.eot_multi_endpoint.close()
        await self.tts_endpoint.close()
        await self.chat_endpoint.companions.close()
        if self.shared_leases is not None:
            await self.shared_leases.close()
        await self.usage.close()
        await self.quota.close()
        await self.connector.close()


class Front:
    """Leads a request to its route, under each of the names that clients use.

    `/v1/x` and `//x` (a base URL with a slash at its end, put before a path) are `/x`. Inference
    routes are reached directly; the rest goes through FastAPI.
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
        if "//" in path or path.startswith("/v1/"):
            parts = [part for part in path.split("/") if part]
            if parts and parts[0] == "v1":
                del parts[0]
            scope["path"] = path = "/" + "/".join(parts)
        direct = self._direct.get((kind if kind == "websocket" else scope["method"], path))
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
        if gateway.shared_leases is not None:
            gateway.shared_leases.start()
        gateway.chat_endpoint.companions.start()
        yield
        await gateway.close()

    app = FastAPI(
        title="Parley",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/readyz")
    async def readyz() -> Response:
        readiness = gateway.readiness()
        status = 200 if readiness["ready"] else 503
        return Response(orjson.dumps(readiness), status, media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(
            generate_latest(gateway.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )

    # The inference routes are plain ASGI, see Front.
    app.router.routes += [
        Route("/chat/completions", gateway.chat_endpoint, methods=["POST"]),
        Route("/models", ModelsEndpoint(gateway.door, gateway.chat_endpoint)),
        Route("/bargein", gateway.bargein_endpoint, methods=["POST"]),
        WebSocketRoute("/bargein", gateway.bargein_endpoint),
        WebSocketRoute("/stt", gateway.stt_endpoint),
        WebSocketRoute("/tts", gateway.tts_endpoint),
        WebSocketRoute("/eot", gateway.eot_endpoint),
        Route("/eot/multi", gateway.eot_multi_endpoint, methods=["POST"]),
    ]
    return Front(app)


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
