"""A proxy that keeps what clients say to the server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import WSMsgType, web

PASSED_ON = ("authorization", "user-agent", "content-type")


@dataclass
class Recorder:
    """`bodies` of requests and `messages` of WebSockets, each with the path they were for."""

    port: int = 0
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    messages: list[tuple[str, str | bytes]] = field(default_factory=list)


@asynccontextmanager
async def recording(url: str) -> AsyncIterator[Recorder]:
    """In front of the server at `url`."""
    recorder = Recorder()
    async with aiohttp.ClientSession(url, auto_decompress=False) as http:

        async def handle(request: web.Request) -> web.StreamResponse:
            headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
            if request.headers.get("upgrade", "").lower() == "websocket":
                return await _relay(recorder, http, request, headers)
            body = await request.read()
            recorder.bodies.append((request.path, body))
            async with http.request(
                request.method, request.path_qs, data=body, headers=headers
            ) as answer:
                kind = {"content-type": answer.headers.get("content-type", "")}
                return web.Response(status=answer.status, body=await answer.read(), headers=kind)

        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        recorder.port = runner.addresses[0][1]
        try:
            yield recorder
        finally:
            await runner.cleanup()


async def _relay(
    recorder: Recorder,
    http: aiohttp.ClientSession,
    request: web.Request,
    headers: dict[str, str],
) -> web.WebSocketResponse:
    client = web.WebSocketResponse(compress=False, max_msg_size=0)
    await client.prepare(request)
    async with http.ws_connect(request.path_qs, headers=headers, max_msg_size=0) as server:

        async def inward() -> None:
            async for message in client:
                recorder.messages.append((request.path, message.data))
                await _send(server, message)
            await server.close()

        task = asyncio.create_task(inward())
        try:
            async for message in server:
                await _send(client, message)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await client.close(code=server.close_code or 1000)
    return client


async def _send(
    socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse, message: aiohttp.WSMessage
) -> None:
    if message.type is WSMsgType.TEXT:
        await socket.send_str(message.data)
    elif message.type is WSMsgType.BINARY:
        await socket.send_bytes(message.data)
