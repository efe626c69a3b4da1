"""A TCP load balancer, as those in front of a cluster: new connections go to a server that says it
is ready, by a look now and then; a connection stays where it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_EVERY_S = 0.1
PIECE_BYTES = 1 << 16


class Balancer:
    """`ports` are those of the servers, on this machine; they may be changed at any time. Without
    `spread` a connection goes to the first that is ready, with it to one after the other."""

    def __init__(self, *ports: int, spread: bool = False) -> None:
        self.ports = list(ports)
        self._spread = spread
        self._turn = 0
        self.ready: list[int] = []
        self.refused = 0
        """Connections that no server took."""
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_ready(self, *ports: int) -> None:
        """Wait until exactly these are taken for ready."""
        while self.ready != list(ports):
            await asyncio.sleep(LOOK_EVERY_S / 2)

    async def look(self) -> None:
        while True:
            self.ready = [port for port in self.ports if await is_ready(port)]
            await asyncio.sleep(LOOK_EVERY_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = list(self.ready)
        if self._spread and ready:
            self._turn += 1
            first = self._turn % len(ready)
            ready = ready[first:] + ready[:first]
        for port in ready:
            try:
                inward, outward = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            try:
                ways = (carry(reader, outward), carry(inward, writer))
                tasks = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(tasks)
            finally:
                for one in tasks:
                    one.cancel()
                outward.close()
            return
        self.refused += 1

    async def close(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return b" 200 " in (await reader.read(PIECE_BYTES)).partition(b"\r\n")[0]
    except ConnectionError:
        return False
    finally:
        writer.close()


@asynccontextmanager
async def balancing(*ports: int, spread: bool = False) -> AsyncIterator[Balancer]:
    """A balancer in front of servers at these ports."""
    balancer = Balancer(*ports, spread=spread)
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    balancer.port = server.sockets[0].getsockname()[1]
    looking = asyncio.create_task(balancer.look())
    try:
        yield balancer
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        server.close()
        await balancer.close()
