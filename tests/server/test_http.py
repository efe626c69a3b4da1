import asyncio
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.server import http
from gateway.server.http import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    SLICE_BYTES,
    URL_BYTES_MAX,
    HttpProtocol,
)
from gateway.server.websocket import WebSocketProtocol
from tests.server.test_websocket import HANDSHAKE, Wire, settled

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Connection:
    """A connection to an application that reads the body and answers with its length."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.left = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        config = uvicorn.Config(self.app, interface="asgi3", ws=WebSocketProtocol, log_config=None)
        config.load()
        self.server = ServerState()
        self.protocol: Any = HttpProtocol(config, self.server, {})
        self.wire = Wire()
        self.wire.lost = lambda: self.protocol.connection_lost(None)
        self.wire.set_protocol = lambda protocol: setattr(self, "protocol", protocol)  # type: ignore[method-assign]
        self.protocol.connection_made(self.wire)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        await self.may_read.wait()
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def read(self, *parts: bytes) -> bytes:
        """What the client is answered once these have come."""
        for part in parts:
            self.protocol.data_received(part)
        await settled()
        return self.wire.written

    def end(self) -> None:
        if isinstance(self.protocol, HttpProtocol):
            self.protocol.connection_lost(None)


@pytest.fixture
async def connection():
    made = Connection()
    yield made
    made.end()


def refusal(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    return int(head.split()[1]), orjson.loads(body)["error"]


def request(*headers: bytes, url: bytes = b"/a") -> bytes:
    return b"GET " + url + b" HTTP/1.1\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(*[b"a: b"] * (HEADERS_MAX + 1)), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * (2 * HEAD_BYTES_MAX), 431),
        (b"GET / HTTP/1.1\r\n" + b"a" * (2 * HEAD_BYTES_MAX), 431),
        (b"\r\n" * HEAD_BYTES_MAX, 431),
        (b"GET /" + b"a" * URL_BYTES_MAX, 414),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (request(url=b"/\xff"), 400),
        (CHUNKED + b"1;" + b"x" * (2 * HEAD_BYTES_MAX), 431),
        (CHUNKED + b"1\r\nx\r\n0\r\n" + b"T: x\r\n" * (HEADERS_MAX + 1), 431),
        (CHUNKED + b"1\r\nx\r\n0\r\nT: " + b"x" * (2 * HEAD_BYTES_MAX), 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1" + b"0" * 400 + b"\r\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("size", [999, 1 << 20])
async def test_what_has_no_end_is_refused_in_openais_form(
    connection: Connection, sent: bytes, status: int, size: int
):
    answer = await connection.read(*[sent[i : i + size] for i in range(0, len(sent), size)])
    told, error = refusal(answer)
    assert told == status
    assert error["type"] == "invalid_request_error"
    assert not connection.wire.reading


@pytest.mark.parametrize("size", [1, 7, 100, SLICE_BYTES, 1 << 20])
async def test_requests_are_the_same_wherever_the_stream_is_cut(connection: Connection, size: int):
    body = b"x" * 3000
    sent = GET + b"POST /b HTTP/1.1\r\nContent-Length: 3000\r\n\r\n" + body
    sent += (
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n" + body + b"\r\n0\r\n\r\n"
    )
    for i in range(0, len(sent), size):
        connection.protocol.data_received(sent[i : i + size])
        await asyncio.sleep(0)
    answer = await connection.read()
    assert connection.paths == ["/healthz", "/b", "/c"]
    assert [part[:4].strip() for part in answer.split(b"\r\n\r\n")[1:]] == [
        b"0HTT",
        b"3000",
        b"3000",
    ]


async def test_requests_behind_each_other_are_parsed_as_they_are_answered(connection: Connection):
    sent = GET * 3000
    connection.protocol.data_received(sent)
    assert len(connection.protocol.pipeline) <= SLICE_BYTES // len(GET)
    assert not connection.wire.reading
    while len(connection.paths) < 3000:
        await asyncio.sleep(0)
    await settled()
    assert connection.wire.written.count(b"HTTP/1.1 200") == 3000
    assert connection.wire.reading


async def test_a_body_is_not_parsed_before_the_application_reads_it(connection: Connection):
    connection.may_read.clear()
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    connection.protocol.data_received(CHUNKED + chunk * 20)
    await settled()
    assert len(connection.protocol.cycle.body) < 5 * SLICE_BYTES
    assert not connection.wire.reading
    connection.may_read.set()
    answer = await connection.read(b"0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n" + str(20 * 0x4000).encode())


async def test_a_large_body_of_known_length_is_taken_in_one_piece(connection: Connection):
    size = 1 << 20
    head = b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size
    answer = await connection.read(head, bytes(size))
    assert answer.endswith(b"\r\n\r\n1048576")
    assert connection.wire.reading


async def test_a_bad_request_behind_another_does_not_answer_in_its_place(connection: Connection):
    connection.may_read.clear()
    answer = await connection.read(GET + request(*[b"a: b"] * (HEADERS_MAX + 1)))
    assert answer == b""
    assert connection.wire.closed


async def test_an_application_whose_request_is_refused_hears_that_the_client_left(
    connection: Connection,
):
    answer = await connection.read(CHUNKED, b"zz\r\n")
    assert refusal(answer)[0] == 400
    assert connection.left == 1


async def slow(connection: Connection, *parts: bytes) -> bytes:
    """The answer once HEAD_S have gone by since `parts`."""
    await connection.read(*parts)
    connection.protocol._too_slow()
    await settled()
    return connection.wire.written


async def test_a_head_that_does_not_come_is_408(connection: Connection):
    answer = await slow(connection, GET[:20])
    assert refusal(answer)[0] == 408


async def test_a_connection_that_says_nothing_is_closed(connection: Connection):
    assert await slow(connection) == b""
    assert connection.wire.closed


async def test_time_is_counted_from_the_first_byte_of_each_request_to_the_end_of_its_head(
    connection: Connection,
):
    assert connection.protocol._timer is not None
    await connection.read(GET)
    assert connection.protocol._timer is None
    await connection.read(b"\r\n")
    assert connection.protocol._timer is not None
    await connection.read(GET)
    assert connection.protocol._timer is None
    await connection.read(GET + GET[:10])
    assert connection.protocol._timer is not None
    await connection.read(GET[10:])
    assert connection.protocol._timer is None
    await connection.read(CHUNKED)
    assert connection.protocol._timer is None, "a body's time is the application's matter"


async def test_a_request_that_waits_behind_another_is_not_slow(connection: Connection):
    connection.may_read.clear()
    assert await slow(connection, GET + GET[:10]) == b""
    assert not connection.wire.closed


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_an_upgrade_goes_to_the_websocket_protocol(connection: Connection, size: int):
    for i in range(0, len(HANDSHAKE), size):
        connection.protocol.data_received(HANDSHAKE[i : i + size])
    answer = await connection.read()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert isinstance(connection.protocol, WebSocketProtocol)
    assert connection.wire.reading
    connection.protocol.connection_lost(None)


async def test_an_upgrade_behind_a_request_that_is_not_answered_yet_ends_the_connection(
    connection: Connection,
):
    connection.may_read.clear()
    assert await connection.read(GET + HANDSHAKE) == b""
    assert connection.wire.closed


async def test_an_upgrade_after_an_answer_is_made(connection: Connection):
    await connection.read(GET)
    answer = await connection.read(HANDSHAKE)
    assert b"HTTP/1.1 101 " in answer
    connection.protocol.connection_lost(None)


async def test_after_a_refusal_nothing_is_read_and_the_connection_closes(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http, "LINGER_S", 0)
    first = await connection.read(b"nonsense\r\n")
    assert await connection.read(GET) == first
    assert connection.wire.closed
