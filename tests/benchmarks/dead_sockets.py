"""A kept socket to a voice dies without a close: what its finder and the next callers notice.

Each vendor that keeps sockets is a fake behind a relay. When a few utterances have been spoken, the
relay swallows both ways of every connection that there is: the sockets stay open and say nothing,
as behind a NAT that has forgotten them. Then callers come one after the other, and three at once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.tools import free_port, other_model, process, table
from tests.end_to_end.server import Server
from tests.end_to_end.test_tts_providers import FAKES
from tests.end_to_end.tts_wire import Heard, opened
from tests.fakes.voices import render

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
TEXT = "Hello there my friend. "
WARM_UP = 3
"""Utterances before the sockets die, at the same time: so many sockets are kept."""

PIECE_BYTES = 1 << 16


class Relay:
    """Passes bytes on to `port`, until the connections that there are get swallowed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._alive: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    def swallow(self) -> None:
        """What comes on the connections that there are is read and thrown away from now on."""
        for one in self._alive:
            one.set()
        self._alive.clear()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # by `close`
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        swallowed = asyncio.Event()
        self._alive.add(swallowed)
        inward, outward = await asyncio.open_connection("127.0.0.1", self._port)
        ways = (_carry(reader, outward, swallowed), _carry(inward, writer, swallowed))
        try:
            await asyncio.gather(*ways)
        finally:
            self._alive.discard(swallowed)
            outward.close()
            writer.close()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowed: asyncio.Event
) -> None:
    try:
        while data := await reader.read(PIECE_BYTES):
            if not swallowed.is_set():
                writer.write(data)
                await writer.drain()
    except ConnectionError:
        pass
    if not swallowed.is_set():
        writer.close()


@asynccontextmanager
async def _relayed(port: int) -> AsyncIterator[tuple[Relay, int]]:
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await relay.close()


async def _say(server: Server, model: str) -> Heard:
    async with opened(server, model) as client:
        return await client.say(TEXT)


async def _vendor(name: str) -> list[object]:
    kind, path, model = FAKES[name]
    with ExitStack() as stack:
        fake = stack.enter_context(kind())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = urlsplit(fake.url).port
        assert port is not None
        async with _relayed(port) as (relay, relay_port):
            ours = free_port()
            config = folder / "gateway.yaml"
            config.write_text(
                f"keys: {{{KEY}: {SECRET}}}\n{other_model()}log: {{level: warning}}\nproviders:\n"
                f"  {name}: {{base_url: 'http://127.0.0.1:{relay_port}{path}', api_key: k}}\n"
                f"models: {{bench: [{{provider: {name}, model: {model}}}]}}\n"
            )
            command = [sys.executable, "-m", "gateway", "serve", "--admin-port=0"]
            command += ["--host=127.0.0.1", f"--port={ours}", "--config", str(config)]
            gateway = await asyncio.to_thread(
                stack.enter_context, process(command, f"http://127.0.0.1:{ours}/readyz")
            )
            server = Server(ours, KEY, SECRET, Path(), gateway)
            before = [*await asyncio.gather(*(_say(server, "bench") for _ in range(WARM_UP)))]
            before.append(await _say(server, "bench"))
            kept = relay.connections
            relay.swallow()
            finder = await _say(server, "bench")
            following = await _say(server, "bench")
            together = await asyncio.gather(*(_say(server, "bench") for _ in range(3)))
            await asyncio.to_thread(stack.close)
    everybody = [*before, finder, following, *together]
    heard = sum(one.audio == render(TEXT) for one in everybody)
    return [
        name,
        kept,
        before[-1].first_audio_s,
        finder.first_audio_s,
        following.first_audio_s,
        max(one.first_audio_s or float("inf") for one in together),
        f"{heard} of {len(everybody)}",
    ]


def main(*, quick: bool = False) -> None:
    del quick  # it is quick
    table(
        "/tts: every kept socket dies without a close: time to first audio, in seconds",
        ("vendor", "sockets", "before", "finder", "next", "three at once", "heard in full"),
        [asyncio.run(_vendor(name)) for name in FAKES],
    )
