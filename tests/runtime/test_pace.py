"""Connections to providers whose floods stop nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.runtime.pace import INTERIM_MAX, SLICE_BYTES, PacedConnector, PacedHandler

REQUEST_END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A server on a loopback port that does `serve` after each request, and a client."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(REQUEST_END)
                await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(connector=PacedConnector(limit=0)) as client:
        yield f"http://127.0.0.1:{port}/", client


@pytest.mark.parametrize(
    "interim",
    [CONTINUE, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", b"HTTP/1.1 199 X\r\n\r\n"],
)
async def test_interim_answers_without_end_are_no_answer(interim: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(interim * 1000)
            await writer.drain()

    async with served(serve) as (url, client):
        with pytest.raises(aiohttp.ClientResponseError):
            await client.get(url)


async def test_a_few_interim_answers_are_skipped_and_the_connection_is_kept() -> None:
    ports = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername")[1])
        writer.write(CONTINUE * INTERIM_MAX + OK)

    async with served(serve) as (url, client):
        for _ in range(3):
            async with client.get(url) as response:
                assert await response.text() == "ok"
    assert len(ports) == 1


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_long_body_arrives_whole_also_at_a_slow_reader(chunked: bool) -> None:
    body = b"".join(b"%07d;" % i for i in range(300_000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if chunked:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
            writer.write(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with served(serve) as (url, client):
        for _ in range(2):
            received = bytearray()
            async with client.get(url) as response:
                async for piece in response.content.iter_any():
                    received += piece
                    for _ in range(20):  # others have many turns meanwhile
                        await asyncio.sleep(0)
            assert received == body


async def test_a_body_that_ends_with_the_connection_arrives_whole() -> None:
    body = b"".join(b"%07d;" % i for i in range(100_000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with served(serve) as (url, client), client.get(url) as response:
        assert await response.read() == body


async def test_messages_on_a_socket_keep_their_order_whenever_they_come() -> None:
    count = 60_000

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for i in range(count):
            await socket.send_str(str(i))
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with (
            aiohttp.ClientSession(connector=PacedConnector()) as client,
            client.ws_connect(f"http://127.0.0.1:{port}/", compress=0) as socket,
        ):
            assert [int(message.data) async for message in socket] == list(range(count))
    finally:
        await runner.cleanup()


class Wire(asyncio.Transport):
    """A transport that notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True
        self.closed = False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Parser:
    """Takes the place of a WebSocket's parser."""

    def __init__(self) -> None:
        self.fed: list[bytes] = []

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed.append(data)
        return False, b""

    def feed_eof(self) -> None:
        """Nothing is left to be told."""


def connection() -> tuple[PacedHandler, Wire, Parser]:
    handler, wire, parser = PacedHandler(asyncio.get_running_loop()), Wire(), Parser()
    handler.connection_made(wire)
    handler.set_parser(parser, None)
    return handler, wire, parser


async def test_others_get_their_turn_between_two_slices() -> None:
    handler, wire, parser = connection()
    data = bytes(range(256)) * (5 * SLICE_BYTES // 256)
    handler.data_received(data)
    seen = []
    while not wire.reads:
        seen.append(len(parser.fed))
        await asyncio.sleep(0)
    assert seen == list(range(len(seen)))  # one slice for each turn
    assert max(map(len, parser.fed)) == SLICE_BYTES
    assert b"".join(parser.fed) == data


async def test_what_has_come_before_the_end_is_parsed() -> None:
    handler, _, parser = connection()
    handler.data_received(b"a" * (3 * SLICE_BYTES))
    handler.connection_lost(None)
    await asyncio.sleep(0)
    assert sum(map(len, parser.fed)) == 3 * SLICE_BYTES


async def test_what_came_before_there_was_a_parser_is_parsed_first() -> None:
    handler, parser = PacedHandler(asyncio.get_running_loop()), Parser()
    handler.connection_made(Wire())
    handler.data_received(b"1" * SLICE_BYTES)
    handler.data_received(b"2" * (2 * SLICE_BYTES))
    assert handler.should_close
    handler.set_parser(parser, None)
    for _ in range(10):
        await asyncio.sleep(0)
    assert b"".join(parser.fed) == b"1" * SLICE_BYTES + b"2" * (2 * SLICE_BYTES)
