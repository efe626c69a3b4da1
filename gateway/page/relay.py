"""The bench of a page whose server has several workers: the supervisor hands what it asks on to one
of them, over that one's private socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from gateway.server.asgi import Receive, Scope, Send, refuse
from gateway.upstreams.errors import Failure, Kind

INFERENCE: Final = "/inference"
"""Where a worker has the inference routes on its private socket."""

MESSAGE_BYTES_MAX: Final = 4 << 20
"""Longest message of a WebSocket that is handed on; the worker's own bound is for callers'."""

CONNECT_S: Final = 5.0

_KEPT: Final = frozenset((b"authorization", b"content-type", b"accept"))
"""Headers of the page that a worker is told."""

_AWAY: Final = Failure(Kind.UNREACHABLE, "no worker answers")


class Relay:
    """An ASGI application. `sockets`: those of the workers that serve now."""

    def __init__(self, sockets: Callable[[], Sequence[Path]]) -> None:
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._sockets()
        if not found:
            await refuse(scope, send, _AWAY)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _KEPT
        }
        query = scope["query_string"].decode("latin-1")
        url = f"http://worker{INFERENCE}{scope['path']}" + (f"?{query}" if query else "")
        async with aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(found[0])),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,
        ) as http:
            if scope["type"] == "websocket":
                await _socket(http, url, headers, scope, receive, send)
            else:
                await _request(http, url, headers, scope, receive, send)


async def _request(
    http: aiohttp.ClientSession,
    url: str,
    headers: dict[str, str],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        while (message := await receive())["type"] == "http.request":
            if piece := message.get("body"):
                yield piece
            if not message.get("more_body"):
                return

    try:
        answer = await http.request(
            scope["method"], url, data=body(), headers=headers, allow_redirects=False
        )
    except (aiohttp.ClientError, OSError, TimeoutError):
        await refuse(scope, send, _AWAY)
        return
    async with answer:
        kind = answer.headers.get("content-type", "application/octet-stream")
        told = [(b"content-type", kind.encode("latin-1"))]
        await send({"type": "http.response.start", "status": answer.status, "headers": told})
        gone = asyncio.create_task(_gone(receive))
        try:
            # one that breaks off has no last part: the page sees it break off as well
            async for piece in answer.content.iter_any():
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, OSError):
            return
        finally:
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _socket(
    http: aiohttp.ClientSession,
    url: str,
    headers: dict[str, str],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    if (await receive())["type"] != "websocket.connect":
        return
    try:
        worker = await http.ws_connect(url, headers=headers, max_msg_size=MESSAGE_BYTES_MAX)
    except aiohttp.WSServerHandshakeError as error:
        await refuse(scope, send, Failure(Kind.BAD_REQUEST, f"refused with {error.status}"))
        return
    except (aiohttp.ClientError, OSError, TimeoutError):
        await refuse(scope, send, _AWAY)
        return
    await send({"type": "websocket.accept"})
    asking = asyncio.create_task(_ask(receive, worker))
    try:
        async for message in worker:
            if message.type is aiohttp.WSMsgType.TEXT:
                await send({"type": "websocket.send", "text": message.data})
            elif message.type is aiohttp.WSMsgType.BINARY:
                await send({"type": "websocket.send", "bytes": message.data})
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await worker.close()
        with contextlib.suppress(OSError, RuntimeError):  # the page has gone already
            await send({"type": "websocket.close", "code": worker.close_code or 1011})


async def _ask(receive: Receive, worker: aiohttp.ClientWebSocketResponse) -> None:
    """What the page says, until it goes."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            await worker.close()
            return
        if (text := message.get("text")) is not None:
            await worker.send_str(text)
        else:
            await worker.send_bytes(message["bytes"])
