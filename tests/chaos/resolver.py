"""A name server for one machine, that answers, fails or hangs."""

from __future__ import annotations

import asyncio
import struct
from typing import Literal

Mode = Literal["answers", "fails", "hangs"]

ADDRESS, PORT = "127.0.0.153", 53
_A, _SERVFAIL = 1, 2


class Resolver(asyncio.DatagramProtocol):
    """Every name that ends in `.test` is this machine. In `mode` "fails" and "hangs" those alone do
    that which have `flaky` in them."""

    def __init__(self) -> None:
        self.mode: Mode = "answers"
        self.asked = 0
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.asked += 1
        end = data.index(b"\0", 12) + 5
        question = data[12:end]
        (kind,) = struct.unpack(">H", question[-4:-2])
        flaky = b"flaky" in question
        if flaky and self.mode == "hangs":
            return
        failed = flaky and self.mode == "fails"
        answers = 1 if kind == _A and not failed else 0
        flags = 0x8180 | (_SERVFAIL if failed else 0)
        head = data[:2] + struct.pack(">HHHHH", flags, 1, answers, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 0, 4) + bytes((127, 0, 0, 1))
        self._transport.sendto(head + question + (record if answers else b""), peer)


async def start() -> tuple[Resolver, asyncio.DatagramTransport]:
    """Needs the right to listen on port 53. Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, resolver = await loop.create_datagram_endpoint(Resolver, local_addr=(ADDRESS, PORT))
    return resolver, transport
