"""The routes of the operator's page, under /ui on the operator's port.

GET  /ui/            the page, or the form that asks for the token
POST /ui/login       `token=...`; POST /ui/logout
GET  /ui/api/now     what happens, as JSON; `key`, `room` and `provider` narrow it
GET  /ui/api/models  what can be tried; a program may send `Authorization: Bearer TOKEN` to both
*    /ui/api/windows kept windows of interruptions, to listen to and label; see windows.py
*    /ui/v1/...      the inference routes, for the bench: as use by one of the gateway's own keys

With several workers it is the supervisor's, which asks them all (`worker_routes`).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
import orjson
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from gateway.page.access import COOKIE, VISIT_S, Access, same_origin
from gateway.page.overview import COSTS, MODELS, TOLD, Overview
from gateway.page.relay import INFERENCE
from gateway.page.windows import Windows
from gateway.server.asgi import Receive, Scope, Send, refuse
from gateway.settings.bargein import LearnConfig
from gateway.telemetry.changes import ChangeLog
from gateway.telemetry.watch import Wanted
from gateway.upstreams.errors import Failure, Kind

_logger = logging.getLogger(__name__)

BENCH_TOKEN_S: Final = 60
"""A token of the bench is made for one request."""

FORM_BYTES_MAX: Final = 4096

WANTED_CHARS_MAX: Final = 128

PAGE_HEADER: Final = "x-parley-page"
"""Of what a supervisor asks its workers for the page."""

_STATIC: Final = {
    "page.js": "text/javascript; charset=utf-8",
    "bench.js": "text/javascript; charset=utf-8",
    "microphone.js": "text/javascript; charset=utf-8",
    "windows.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with none, a browser leaves out the origin of a form
    "cache-control": "no-store",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}

Now = Callable[[Wanted], Awaitable[dict[str, Any]]]
Models = Callable[[], Awaitable[dict[str, Any]]]
KeyPair = Callable[[], tuple[str, str] | None]


class Page:
    """The page of one gateway. `inference` serves the bench with tokens of `key`, a key and its
    secret; None: there is none. Who opens it is kept in `changes`."""

    def __init__(
        self,
        token: str,
        now: Now,
        models: Models,
        inference: ASGIApp,
        key: KeyPair,
        changes: ChangeLog,
        learn: Callable[[], LearnConfig],
    ) -> None:
        """`learn`: how windows of interruptions are kept."""
        self._windows = Windows(learn, changes)
        self._access = Access(token)
        self._changes = changes
        self._now = now
        self._models = models
        self._inference = inference
        self._key = key

    def routes(self) -> list[BaseRoute]:
        """To be added to the operator's application."""
        return [
            Route("/ui", self._home),
            Route("/ui/", self._home),
            Route("/ui/login", self._login, methods=["POST"]),
            Route("/ui/logout", self._logout, methods=["POST"]),
            Route("/ui/static/{name}", self._file),
            Route("/ui/api/now", self._known(self._api_now)),
            Route("/ui/api/models", self._known(self._api_models)),
            *(
                Route(path, self._visited(serve), methods=[method])
                for path, method, serve in self._windows.routes()
            ),
            Mount("/ui/v1", self._bench),
        ]

    def _visited(
        self, then: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """For a person on the page alone; what changes something has to come from the page."""

        async def checked(request: Request) -> Response:
            if not self._is_known(request):
                return _json({"error": {"message": "the page's token is asked for at /ui/"}}, 401)
            if request.method != "GET" and not same_origin(request.headers):
                return _json({"error": {"message": "not sent by the page"}}, 403)
            return await then(request)

        return checked

    def _is_known(self, request: HTTPConnection) -> bool:
        return self._access.knows(request.cookies.get(COOKIE), time.monotonic())

    def _bears(self, request: HTTPConnection) -> bool:
        """Whether a program sends the page's token. No other page can have a browser do so."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._access.bears(token, time.monotonic())

    def _known(
        self, then: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            if not self._is_known(request) and not self._bears(request):
                return _json({"error": {"message": "the page's token is asked for at /ui/"}}, 401)
            return await then(request)

        return checked

    async def _home(self, request: Request) -> Response:
        name = "page.html" if self._is_known(request) else "login.html"
        return Response(_read(name), media_type="text/html", headers=_HEADERS)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        kind = _STATIC.get(name)
        if kind is None:
            return _json({"error": {"message": "there is no such file"}}, 404)
        return Response(_read(name), headers={**_HEADERS, "content-type": kind})

    async def _login(self, request: Request) -> Response:
        if not same_origin(request.headers):
            return _json({"error": {"message": "not sent by the page"}}, 403)
        form = b""
        async for piece in request.stream():
            form += piece
            if len(form) > FORM_BYTES_MAX:
                return _json({"error": {"message": "the form is too large"}}, 413)
        given = parse_qs(form.decode("utf-8", "replace")).get("token", [""])[0]
        cookie = self._access.enter(given, time.monotonic())
        client = request.client.host if request.client is not None else ""
        if cookie is None:
            _logger.warning("somebody does not know the page's token", extra={"client": client})
            return Response(
                _read("login.html").replace(b"<!--wrong-->", b"That was not the token."),
                401,
                media_type="text/html",
                headers=_HEADERS,
            )
        _logger.info("the page was opened", extra={"client": client})
        await asyncio.to_thread(self._changes.note, "page", client, {"page": "opened"})
        response = RedirectResponse("/ui/", 303, headers=_HEADERS)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(VISIT_S),
            path="/ui",
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",
        )
        return response

    async def _logout(self, request: Request) -> Response:
        if not same_origin(request.headers):
            return _json({"error": {"message": "not sent by the page"}}, 403)
        self._access.leave(request.cookies.get(COOKIE))
        response = RedirectResponse("/ui/", 303, headers=_HEADERS)
        response.delete_cookie(COOKIE, path="/ui")
        return response

    async def _api_now(self, request: Request) -> Response:
        return _json(await self._now(_wanted(request)))

    async def _api_models(self, request: Request) -> Response:
        return _json(await self._models())

    async def _bench(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request of the page on to the inference routes, with a token of ours."""
        asking = HTTPConnection(scope)
        if not self._is_known(asking) or not same_origin(asking.headers):
            await refuse(
                scope, send, Failure(Kind.UNAUTHENTICATED, "the page's token is asked for at /ui/")
            )
            return
        pair = self._key()
        if pair is None:
            await refuse(scope, send, Failure(Kind.UNAUTHENTICATED, "no API key is configured"))
            return
        key, secret = pair
        now = int(time.time())
        token = jwt.encode(
            {
                "iss": key,
                "sub": "page",
                "nbf": now - 5,
                "exp": now + BENCH_TOKEN_S,
                "inference": {"perform": True},
            },
            secret,
            "HS256",
        )
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name not in (b"authorization", b"cookie", b"origin")
        ]
        headers.append((b"authorization", f"Bearer {token}".encode()))
        path = scope["path"].removeprefix("/ui/v1")
        inner = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "headers": headers,
        }
        await self._inference(inner, receive, send)


def worker_routes(token: str, overview: Overview, inference: ASGIApp) -> list[BaseRoute]:
    """What a worker adds to its private socket, for the page of its supervisor: what it knows, and
    the inference routes, which ask for a token as they do everywhere. The supervisor, which passes
    on whatever else it is asked, names the page's token where it asks for the page."""

    def asked(then: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            named = request.headers.get(PAGE_HEADER, "")
            if not hmac.compare_digest(named.encode(), token.encode()):
                return _json({"error": {"message": "there is no such route"}}, 404)
            return _json(await then(request))

        return checked

    async def told(request: Request) -> dict[str, Any]:
        return overview.told(_wanted(request))

    return [
        Route(TOLD, asked(told)),
        Route(COSTS, asked(lambda _: overview.costs())),
        Route(MODELS, asked(lambda _: overview.models())),
        Mount(INFERENCE, _Inner(inference)),
    ]


class _Inner:
    """The inference routes under another path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(INFERENCE)
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self._app(inner, receive, send)


def _wanted(request: Request) -> Wanted:
    asked: Mapping[str, str] = request.query_params
    return Wanted(*(asked.get(name, "")[:WANTED_CHARS_MAX] for name in ("key", "room", "provider")))


def _read(name: str) -> bytes:
    return resources.files("gateway.page").joinpath("static", name).read_bytes()


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, headers=_HEADERS, media_type="application/json")
