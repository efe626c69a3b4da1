"""A fake of LemonSlice's session API: avatars that are told to join a LiveKit room.

Played is what `script()` says (`status:429`, `nonsense`, `slow`), else a session begins.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, FakeServer, Handler

Json = dict[str, Any]
KEY = "ls-key"
SLOW_S = 1.0


class FakeLemonSlice(FakeServer):
    """Serves POST /sessions and /sessions/{id}/control."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, Json] = {}
        """What each session was begun with."""
        self._numbers = itertools.count(1)

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("POST", "/sessions", self._begin), ("POST", "/sessions/{id}/control", self._end)]

    async def _begin(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        played = exchange.scenario = self.next_scripted() or "begin"
        if request.headers.get("x-api-key") != KEY:
            return _error(401, "invalid API key")
        if played.startswith("status:"):
            return _error(int(played.partition(":")[2]), "fake failure")
        if played == "nonsense":
            return web.Response(text="<html>busy</html>")
        body = exchange.body
        if (mistake := _mistake(body)) is not None:
            return _error(400, mistake)
        if played == "slow":
            await asyncio.sleep(SLOW_S)
        name = f"ls_{next(self._numbers)}"
        self.running[name] = body
        return web.json_response({"session_id": name})

    async def _end(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        played = self.next_scripted() or ""
        if request.headers.get("x-api-key") != KEY:
            return _error(401, "invalid API key")
        if played.startswith("status:"):
            return _error(int(played.partition(":")[2]), "fake failure")
        if exchange.body != {"event": "terminate"}:
            return _error(400, "unknown event")
        if self.running.pop(request.match_info["id"], None) is None:
            return _error(404, "no such session")
        return web.json_response({"success": True})


def _mistake(body: Any) -> str | None:
    """What is wrong with a request, as the vendor's own client would never have it."""
    if not isinstance(body, dict) or body.get("transport_type") != "livekit":
        return "transport_type: expected livekit"
    properties = body.get("properties") or {}
    if not all(properties.get(name) for name in ("livekit_url", "livekit_token")):
        return "properties: expected livekit_url and livekit_token"
    if ("agent_id" in body) == ("agent_image_url" in body):
        return "expected one of agent_id and agent_image_url"
    return None


def _error(status: int, words: str) -> web.Response:
    return web.Response(
        status=status, text=json.dumps({"error": words}), content_type="application/json"
    )
