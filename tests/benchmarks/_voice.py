"""A bare voice that speaks Cartesia's protocol, and a bare relay in front of it.

As little work as can be, so that what is measured is the gateway:
`python -m tests.benchmarks._voice upstream PORT` or `... relay PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import aiohttp
import uvloop
from aiohttp import WSMsgType, web

RATE = 24000
PIECE_S = 0.1
PIECES = 40  # 4 s for every text
AUDIO_S = PIECE_S * PIECES
_PIECE = bytes(range(256)) * (int(RATE * PIECE_S) * 2 // 256) + bytes(int(RATE * PIECE_S) * 2 % 256)
_DATA = base64.b64encode(_PIECE).decode()


async def speak(request: web.Request) -> web.StreamResponse:
    """Every text is answered by 4 s of audio in real time, the first piece at once."""
    socket = web.WebSocketResponse(compress=False, autoping=True)
    await socket.prepare(request)
    tasks: set[asyncio.Task[None]] = set()

    async def say(name: str, last: asyncio.Event) -> None:
        chunk = (
            f'{{"type":"chunk","context_id":"{name}","data":"{_DATA}","done":false,'
            '"status_code":206,"step_time":1.0}'
        )
        due = asyncio.get_running_loop().time()
        for _ in range(PIECES):
            await socket.send_str(chunk)
            due += PIECE_S
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        await last.wait()
        done = {"type": "done", "context_id": name, "done": True, "status_code": 200}
        await socket.send_str(json.dumps(done))

    lasts: dict[str, asyncio.Event] = {}
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        asked = json.loads(message.data)
        name = asked["context_id"]
        if asked.get("transcript"):
            lasts[name] = asyncio.Event()
            task = asyncio.create_task(say(name, lasts[name]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if not asked.get("continue") and name in lasts:
            lasts.pop(name).set()
    for task in tasks:
        task.cancel()
    return socket


async def ready(request: web.Request) -> web.Response:
    return web.Response()


def relay(upstream_port: int) -> web.Application:
    """Copies every message from one socket to the other."""
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        client = web.WebSocketResponse(compress=False)
        await client.prepare(request)
        session: aiohttp.ClientSession = request.app["session"]
        url = f"ws://127.0.0.1:{upstream_port}/tts/websocket"
        async with session.ws_connect(url, max_msg_size=0, compress=0) as upstream:

            async def back() -> None:
                async for message in upstream:
                    await client.send_str(message.data)

            task = asyncio.create_task(back())
            async for message in client:
                await upstream.send_str(message.data)
            task.cancel()
        return client

    async def start(app: web.Application) -> None:
        app["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    app.on_startup.append(start)
    app.router.add_get("/tts/websocket", handle)
    app.router.add_get("/", ready)
    return app


def main() -> None:
    role, port = sys.argv[1], int(sys.argv[2])
    if role == "relay":
        app = relay(int(sys.argv[3]))
    else:
        app = web.Application()
        app.router.add_get("/tts/websocket", speak)
        app.router.add_get("/", ready)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, print=lambda *_: None, access_log=None)


if __name__ == "__main__":
    main()
