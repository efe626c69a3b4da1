"""As little of the WebSocket protocol as a benchmark needs, so that its own cost is small."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from typing import cast

TEXT, BINARY, CLOSE = 1, 2, 8
HEAD_END = b"\r\n\r\n"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, payload: bytes, *, mask: bool = False) -> bytes:
    """One whole frame; the mask of a client's is zero, which costs the other side as much."""
    bit = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + (bytes(4) if mask else b"") + payload


class Frames:
    """Cuts a stream into frames; a masked payload stays masked."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcode and payload of each frame that is whole."""
        if self._rest:
            data = self._rest + data
        found = []
        at, have = 0, len(data)
        while have - at >= 2:
            masked, size = data[at + 1] & 0x80, data[at + 1] & 0x7F
            begin = at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[begin : begin + width], "big")
                begin += width
            begin += 4 if masked else 0
            if have < begin + size:
                break
            found.append((data[at] & 0x0F, data[begin : begin + size]))
            at = begin + size
        self._rest = data[at:]
        return found


class Peer(asyncio.Protocol):
    """One side of a WebSocket, after its handshake."""

    def __init__(self) -> None:
        self._head = b""
        self._frames = Frames()
        self._open = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._head += data
            if HEAD_END not in self._head:
                return
            head, _, data = self._head.partition(HEAD_END)
            self._open = self.shaken(head.decode("latin-1"))
        for opcode, payload in self._frames.feed(data):
            self.got(opcode, payload)

    def shaken(self, head: str) -> bool:
        """The other side's part of the handshake is here; False ends it."""
        raise NotImplementedError

    def got(self, opcode: int, payload: bytes) -> None:
        """A frame came."""
        raise NotImplementedError


def request(path: str, headers: dict[str, str]) -> bytes:
    """A client's part of the handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END


def response(head: str) -> bytes:
    """A server's part of it."""
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
    }
    digest = hashlib.sha1(fields["sec-websocket-key"].encode() + _MAGIC).digest()
    accept = base64.b64encode(digest).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()
