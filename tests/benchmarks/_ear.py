"""A bare recogniser and a bare relay for benchmarks: as little work as can be.

`python -m tests.benchmarks._ear PORT` speaks Deepgram's protocol at /v1/listen (binary frames) and
the same at /relayed (whatever frames): after every 20th frame one result. With a second port, a
relay to it: at /relay each message is passed on as it is, both ways, by aiohttp.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import uvloop
from aiohttp import web

from tests.benchmarks._frames import BINARY, CLOSE, TEXT, Peer, frame, response

FRAMES_A_RESULT = 20
FRAME_BYTES = 1600
"""Of a caller's audio; what a gateway sends to keep a line open has another length."""


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


class Listener(Peer):
    """One caller of the recogniser."""

    def shaken(self, head: str) -> bool:
        path = head.split(" ", 2)[1]
        if path == "/ready":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
            return False
        self._audio = BINARY if path.startswith("/v1/listen") else TEXT
        self._heard = 0
        self.transport.write(response(head))
        return True

    def got(self, opcode: int, payload: bytes) -> None:
        if opcode == self._audio and (opcode == TEXT or len(payload) == FRAME_BYTES):
            self._heard += 1
            if self._heard % FRAMES_A_RESULT == 0:
                said = result(self._heard // FRAMES_A_RESULT)
                self.transport.write(frame(TEXT, said.encode()))
        elif opcode == CLOSE:
            self.transport.write(frame(CLOSE, b"\x03\xe8"))
            self.transport.close()


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
    if upstream is None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Listener, "127.0.0.1", port, backlog=2048)
        assert server.is_serving()
    else:
        app = web.Application()
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
