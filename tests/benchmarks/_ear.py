"""A bare recogniser and a bare relay for benchmarks: as little work as can be.

`python -m tests.benchmarks._ear PORT` speaks Deepgram's protocol at /v1/listen (binary frames) and
the same at /relayed (whatever frames): after every 20th frame one result. With a second port, a
relay to it: at /relay each message is passed on as it is, both ways.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import uvloop
from aiohttp import web

FRAMES_A_RESULT = 20


def result(number: int) -> str:
    """What is said after so many results."""
    return json.dumps(
        {
            "type": "Results",
            "start": number - 1.0,
            "duration": 1.0,
            "is_final": True,
            "speech_final": True,
            "channel": {
                "alternatives": [
                    {
                        "transcript": f"word{number}",
                        "confidence": 0.99,
                        "words": [
                            {
                                "word": f"word{number}",
                                "start": number - 0.5,
                                "end": number - 0.1,
                                "confidence": 0.99,
                            }
                        ],
                    }
                ]
            },
            "metadata": {"request_id": "bench"},
        }
    )


async def listen(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    frames = 0
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT and request.path == "/v1/listen":
            if "CloseStream" in message.data:
                await socket.close()
            continue
        frames += 1
        if frames % FRAMES_A_RESULT == 0:
            await socket.send_str(result(frames // FRAMES_A_RESULT))
    return socket


async def relay(request: web.Request) -> web.StreamResponse:
    client = web.WebSocketResponse(compress=False)
    await client.prepare(request)
    session: aiohttp.ClientSession = request.app["session"]
    url = f"http://127.0.0.1:{request.app['upstream']}/relayed"
    async with session.ws_connect(url) as upstream:

        async def back() -> None:
            async for message in upstream:
                await client.send_str(message.data)

        backwards = asyncio.create_task(back())
        async for message in client:
            await upstream.send_str(message.data)
        backwards.cancel()
    return client


async def serve(port: int, upstream: int | None) -> None:
    app = web.Application()
    if upstream is None:
        app.router.add_get("/v1/listen", listen)
        app.router.add_get("/relayed", listen)
    else:
        app["upstream"] = upstream
        app["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        app.router.add_get("/relay", relay)

    async def ready(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app.router.add_get("/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    upstream_port = int(sys.argv[2]) if len(sys.argv) > 2 else None
    uvloop.run(serve(int(sys.argv[1]), upstream_port))
