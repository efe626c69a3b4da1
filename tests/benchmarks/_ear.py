"""A bare recogniser and a bare relay for benchmarks: as little work as can be.

`python -m tests.benchmarks._ear PORT` speaks Deepgram's protocol at /v1/listen (binary frames) and
the same at /relayed (whatever frames): after every 20th frame one result. With a second port, a
relay to it: at /relay each message is passed on as it is, both ways, by aiohttp; with a third
argument `picows`, by that.
"""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus

import aiohttp
import uvloop
from aiohttp import web
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

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


class Copy(WSListener):
    """One side of a relay by picows."""

    def __init__(self) -> None:
        self.other: WSTransport | None = None
        self.early: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif self.other is None:
            self.early.append(frame.get_payload_as_bytes())
        else:
            self.other.send(WSMsgType.TEXT, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.other is not None:
            self.other.disconnect()


class Front(Copy):
    """The caller's side."""

    upstream = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.opening = asyncio.create_task(self._open(transport))

    async def _open(self, transport: WSTransport) -> None:
        url = f"ws://127.0.0.1:{self.upstream}/relayed"
        self.other, back = await ws_connect(Copy, url, use_aiofastnet=False)
        assert isinstance(back, Copy)
        back.other = transport
        for message in self.early:
            self.other.send(WSMsgType.TEXT, message)


def answered(asked: WSUpgradeRequest) -> Front | WSUpgradeResponseWithListener:
    """A caller, or somebody who asks whether the relay is there."""
    if asked.path.startswith(b"/ready"):
        ready = WSUpgradeResponse.create_error_response(HTTPStatus.NOT_FOUND, b"ok")
        ready.status = HTTPStatus.OK
        return WSUpgradeResponseWithListener(ready, None)
    return Front()


async def serve(port: int, upstream: int | None, by: str) -> None:
    if by == "picows":
        assert upstream is not None
        Front.upstream = upstream
        await ws_create_server(answered, "127.0.0.1", port, backlog=2048, use_aiofastnet=False)
    elif upstream is None:
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
    uvloop.run(serve(int(sys.argv[1]), upstream_port, "".join(sys.argv[3:])))
