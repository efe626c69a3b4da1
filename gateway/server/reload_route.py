"""POST /reload on the operator's port: what `gateway reload` asks for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/reload"

HEADER = "x-parley-reload"
"""Names the user. A browser asks before it sends this to another site, so that no page can."""

_USER = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of it. `needs_restart`: options that have changed and stay as they were until
    then. `changes`: what is new, by names alone."""

    applied: bool
    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    changes: Mapping[str, str] = field(default_factory=dict)


Reload = Callable[[str], Awaitable[Reloaded]]
"""Reads the configuration again; the text says who wants it."""


def reload_route(reload: Reload) -> Route:
    """The route. The port may be open to a whole network, for Prometheus; this is for who is on
    this machine, or in this container."""

    async def answer(request: Request) -> Response:
        if not _is_here(request):
            return _json({"error": {"message": f"{PATH} is for this machine alone"}}, 403)
        who = request.headers.get(HEADER, "")
        if not _USER.fullmatch(who):
            return _json({"error": {"message": f"the header {HEADER} names no user"}}, 403)
        told = await reload(f"gateway reload, {who}")
        return _json(asdict(told), 200 if told.applied else 422)

    return Route(PATH, answer, methods=["POST"])


def _is_here(request: Request) -> bool:
    if request.client is None:
        return False
    peer, own = request.client.host, request.scope.get("server")
    return ipaddress.ip_address(peer).is_loopback or (own is not None and peer == own[0])


def _json(body: object, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
