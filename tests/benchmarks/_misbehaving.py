"""An OpenAI upstream that dies, stalls or refuses, for the chaos run.

`python -m tests.benchmarks._misbehaving PORT KIND`, where KIND is `dies:SECONDS` (the process ends
then), `stalls:SHARE` (so many requests are never answered), `limits:SHARE` (so many get a 429) or
`sound`. Whoever answers has its first token after 50 to 150 ms.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

import uvloop

from tests.benchmarks._upstream import EVENTS, GET, HEAD, LAST

BODY = b'{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}'
LIMITED = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"content-length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)
chance = random.Random(7)


class Misbehaving(asyncio.Protocol):
    kind, amount = "sound", 0.0

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, rest = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.data = rest
            self.transport.write(GET)
            return
        length = next(
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        if len(rest) < length:
            return
        self.data = rest[length:]
        unlucky = chance.random() < self.amount
        if self.kind == "stalls" and unlucky:
            return
        if self.kind == "limits" and unlucky:
            self.transport.write(LIMITED)
            return
        asyncio.get_running_loop().call_later(chance.uniform(0.05, 0.15), self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(HEAD + b"".join(EVENTS) + LAST)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Misbehaving, "127.0.0.1", port)
    if Misbehaving.kind == "dies":
        loop.call_later(Misbehaving.amount, os._exit, 1)
    await server.serve_forever()


if __name__ == "__main__":
    name, _, amount = sys.argv[2].partition(":")
    Misbehaving.kind, Misbehaving.amount = name, float(amount or 0)
    uvloop.run(serve(int(sys.argv[1])))
