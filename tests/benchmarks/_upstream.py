"""A bare OpenAI upstream for benchmarks: answers every POST with the same 50-token stream.

As little work as can be, so that what is measured is the gateway. `python -m
tests.benchmarks._upstream PORT [MODE]`, where MODE is `joined` (one write), `apart` (a write for
each token) or a pause between tokens in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

TOKENS = 50


def events() -> list[bytes]:
    """The stream's events: role, 50 tokens, finish, usage, [DONE]."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        body = {
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": "bench",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            "usage": None,
        }
        return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"

    usage = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "bench",
        "choices": [],
        "usage": {"prompt_tokens": 20, "completion_tokens": TOKENS, "total_tokens": 20 + TOKENS},
    }
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": f" token{i}"}) for i in range(TOKENS)),
        chunk({}, "stop"),
        b"data: " + json.dumps(usage, separators=(",", ":")).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    ]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [f"{len(e):x}\r\n".encode() + e + b"\r\n" for e in events()]
LAST = b"0\r\n\r\n"
LIST = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'
GET = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    + str(len(LIST)).encode()
    + b"\r\n\r\n"
    + LIST
)


class Upstream(asyncio.Protocol):
    pause_s = 0.0
    joined = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the class
        self.transport = cast(asyncio.Transport, transport)
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if len(rest) < length:
                return
            self.data = rest[length:]
            if head.startswith(b"GET"):
                self.transport.write(GET)
            elif self.pause_s:
                self.task = asyncio.ensure_future(self.paced())
            elif self.joined:
                self.transport.write(HEAD + b"".join(EVENTS) + LAST)
            else:
                self.transport.write(HEAD)
                for event in EVENTS:
                    self.transport.write(event)
                self.transport.write(LAST)

    async def paced(self) -> None:
        self.transport.write(HEAD)
        for event in EVENTS:
            self.transport.write(event)
            await asyncio.sleep(self.pause_s)
        self.transport.write(LAST)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    mode = sys.argv[2] if len(sys.argv) > 2 else "apart"
    Upstream.joined = mode == "joined"
    Upstream.pause_s = 0.0 if mode in ("joined", "apart") else float(mode) / 1000
    uvloop.run(serve(int(sys.argv[1])))
