import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.server.websocket import (
    EXTENSION,
    FRAGMENTS_MAX,
    FRAMES_PER_TURN,
    WAITING_MAX,
    ClientGoneError,
    WebSocketProtocol,
)
from gateway.upstreams.bounds import Bound

BYTES_MAX = 100_000
HANDSHAKE = (
    b"GET /stt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TEXT, BINARY, MORE, CLOSE, PING = 0x81, 0x82, 0x00, 0x88, 0x89


def frame(first: int, payload: bytes, mask: bytes | None = b"\x01\xf2\x33\x84") -> bytes:
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes((first, bit | len(payload)))
    elif len(payload) < 1 << 16:
        head = bytes((first, bit | 126)) + struct.pack(">H", len(payload))
    else:
        head = bytes((first, bit | 127)) + struct.pack(">Q", len(payload))
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Wire(asyncio.Transport):
    """The socket's end of a connection."""

    def __init__(self, extra: dict[str, Any] | None = None) -> None:
        super().__init__(extra)
        self.written = b""
        self.closed = False
        self.reading = True
        self.unread = 0  # of what is written
        self.lost: Callable[[], None] = lambda: None

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True
        self.lost()

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Connection:
    """A connection whose application has accepted it and does `act`."""

    def __init__(self, act: Callable[["Connection"], Any] | None = None) -> None:
        self.told: list[Any] = []
        self.scope: Any = None
        self._act = act

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.send = scope, send
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        if self._act is not None:
            await self._act(self)
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.told.append(message["code"])
                return
            self.told.append(message.get("text", message.get("bytes")))

    async def asked(self, request: bytes, ping_interval_s: float | None = None) -> "Connection":
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            ws="none",
            ws_max_size=BYTES_MAX,
            ws_ping_interval=ping_interval_s,
            log_config=None,
        )
        config.load()
        self.server = ServerState()
        self.protocol = WebSocketProtocol(config, self.server, {})
        self.wire = Wire()
        self.protocol.connection_made(self.wire)
        self.protocol.data_received(request)
        await settled()
        return self

    async def opened(self, ping_interval_s: float | None = None) -> "Connection":
        await self.asked(HANDSHAKE, ping_interval_s)
        assert self.wire.written.startswith(b"HTTP/1.1 101 ")
        self.wire.written = b""
        return self

    async def read(self, *parts: bytes) -> list[Any]:
        """What the application is told once these have come."""
        for part in parts:
            self.protocol.data_received(part)
        await settled()
        return self.told


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def taking(got: list[Any], most: int | None = None) -> Callable[[str | bytes], bool]:
    """Takes messages; after `most` it has enough."""

    def take(message: str | bytes) -> bool:
        got.append(message)
        return most is None or len(got) < most

    return take


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


SAID: list[str | bytes] = [
    "",
    "a",
    "ä" * 60,
    "b" * 125,
    "c" * 126,
    "d" * 70_000,
    b"",
    b"\x00\xff" * 300,
]
STREAM = b"".join(
    frame(TEXT, one.encode()) if isinstance(one, str) else frame(BINARY, one) for one in SAID
)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 127, 4096, len(STREAM)])
async def test_messages_are_the_same_wherever_the_stream_is_cut(size: int) -> None:
    connection = await Connection().opened()
    assert await connection.read(*pieces(STREAM, size)) == SAID


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("direct", [False, True])
async def test_fragments_with_a_ping_between_them_keep_their_place(size: int, direct: bool) -> None:
    got: list[Any] = []

    async def pour(connection: Connection) -> None:
        if direct:
            connection.scope["extensions"][EXTENSION].pour(taking(got))
        else:
            connection.told = got

    connection = await Connection(pour).opened()
    stream = frame(TEXT, b"one") + frame(0x01, b"tw") + frame(PING, b"?") + frame(MORE, b"")
    stream += frame(0x80, b"o") + frame(TEXT, b"three") + frame(0x02, b"fo") + frame(0x80, b"ur")
    await connection.read(*pieces(stream, size))
    assert got == ["one", "two", "three", b"four"]
    assert connection.wire.written == b"\x8a\x01?"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
async def test_a_message_that_is_sent_at_once_is_the_same_as_one_that_is_awaited(size: int) -> None:
    connection = await Connection().opened()
    await connection.send({"type": "websocket.send", "text": "x" * size})
    awaited, connection.wire.written = connection.wire.written, b""
    assert connection.protocol.send_text("x" * size)
    assert connection.wire.written == awaited


async def test_what_would_have_to_wait_is_not_sent_at_once() -> None:
    connection = await Connection().asked(HANDSHAKE[:-2])
    assert not connection.protocol.send_text("before the upgrade")
    connection = await Connection().opened()
    connection.protocol.pause_writing()
    assert not connection.protocol.send_text("nobody reads")
    connection.protocol.resume_writing()
    await connection.send({"type": "websocket.close"})
    connection.wire.written = b""
    assert not connection.protocol.send_text("after the end")
    assert connection.wire.written == b""


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        (frame(TEXT, b"no mask", mask=None), 1002),
        (frame(0xC1, b"reserved bit"), 1002),
        (frame(0x83, b"reserved opcode"), 1002),
        (frame(MORE, b"of nothing"), 1002),
        (frame(0x01, b"open") + frame(TEXT, b"another"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(0x01, b"\xff") + frame(0x80, b""), 1007),
        (frame(BINARY, bytes(BYTES_MAX + 1)), 1009),
        (frame(0x02, bytes(BYTES_MAX)) + frame(0x80, b"x"), 1009),
        (bytes((BINARY, 0xFF)) + b"\xff" * 12, 1009),
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_a_mistake_ends_the_connection_with_its_code(
    mistake: bytes, code: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.websocket.LINGER_S", 0.0)
    connection = await Connection().opened()
    told = await connection.read(*pieces(frame(TEXT, b"before") + mistake, size))
    assert told == ["before", code]
    assert connection.wire.written[:1] == b"\x88"
    assert struct.unpack(">H", connection.wire.written[2:4]) == (code,)
    async with asyncio.timeout(60):
        while not connection.wire.closed:
            await asyncio.sleep(0)


async def test_what_still_comes_after_a_mistake_is_thrown_away_so_that_the_code_arrives() -> None:
    connection = await Connection().opened()
    assert await connection.read(frame(BINARY, bytes(BYTES_MAX + 1))) == [1009]
    written = connection.wire.written
    assert not connection.wire.closed
    assert connection.wire.reading
    assert await connection.read(frame(TEXT, b"late")) == [1009]
    assert connection.wire.written == written


async def test_what_follows_a_close_is_not_heard() -> None:
    connection = await Connection().opened()
    told = await connection.read(frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"late"))
    assert told == [1000]
    assert connection.wire.written == b"\x88\x02\x03\xe8"


async def test_the_answer_to_our_close_ends_the_connection() -> None:
    async def close(connection: Connection) -> None:
        await connection.send({"type": "websocket.close", "code": 1008})

    connection = await Connection(close).opened()
    await connection.read(frame(TEXT, b"crossed it"))
    assert not connection.wire.closed
    await connection.read(frame(CLOSE, b"\x03\xf0"))
    assert connection.wire.closed
    assert connection.told == [1008]


async def test_what_came_before_the_handshake_was_answered_is_heard_in_order() -> None:
    connection = Connection()
    config = uvicorn.Config(
        connection.app, interface="asgi3", ws="none", ws_ping_interval=None, log_config=None
    )
    config.load()
    protocol, wire = WebSocketProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    early = frame(TEXT, b"early")
    protocol.data_received(HANDSHAKE + early[:3])
    protocol.data_received(early[3:])
    await settled()
    protocol.data_received(frame(TEXT, b"later"))
    await settled()
    assert connection.told == ["early", "later"]


async def test_an_application_that_does_not_read_stops_the_socket() -> None:
    reads = asyncio.Event()

    async def wait(connection: Connection) -> None:
        await reads.wait()

    connection = await Connection(wait).opened()
    await connection.read(*[frame(TEXT, b"x")] * (WAITING_MAX - 1))
    assert connection.wire.reading
    await connection.read(frame(TEXT, b"x"))
    assert not connection.wire.reading
    reads.set()
    await settled()
    assert connection.wire.reading
    assert len(connection.told) == WAITING_MAX


async def test_a_sink_that_has_enough_stops_the_socket_until_it_says() -> None:
    got: list[Any] = []

    async def pour(connection: Connection) -> None:
        connection.scope["extensions"][EXTENSION].pour(taking(got, 2))

    connection = await Connection(pour).opened()
    await connection.read(frame(TEXT, b"1"))
    assert connection.wire.reading
    await connection.read(frame(TEXT, b"2") + frame(TEXT, b"3"))
    assert got == ["1", "2", "3"]  # one read may hold more
    assert not connection.wire.reading
    connection.protocol.go_on()
    assert connection.wire.reading


async def test_a_flood_of_pings_is_answered_a_few_in_each_turn_of_the_loop() -> None:
    connection = await Connection().opened()
    flood = frame(PING, b"") * (3 * FRAMES_PER_TURN) + frame(TEXT, b"after")
    connection.protocol.data_received(flood)
    assert connection.wire.written == b"\x8a\x00" * FRAMES_PER_TURN
    assert not connection.wire.reading
    turns = 0
    while not connection.told:
        await asyncio.sleep(0)  # others have their turn
        turns += 1
    assert turns >= 3
    assert connection.told == ["after"]
    assert connection.wire.written == b"\x8a\x00" * (3 * FRAMES_PER_TURN)
    assert connection.wire.reading


async def test_what_comes_while_frames_wait_for_their_turn_keeps_its_place() -> None:
    connection = await Connection().opened()
    connection.protocol.data_received(frame(PING, b"") * (2 * FRAMES_PER_TURN) + frame(TEXT, b"1"))
    assert await connection.read(frame(TEXT, b"2")) == ["1", "2"]


async def test_frames_wait_while_a_sink_has_enough() -> None:
    got: list[Any] = []

    async def pour(connection: Connection) -> None:
        connection.scope["extensions"][EXTENSION].pour(taking(got, 0))

    connection = await Connection(pour).opened()
    await connection.read(frame(TEXT, b"x") * (FRAMES_PER_TURN + 1))
    assert len(got) == FRAMES_PER_TURN
    connection.protocol.go_on()
    await settled()
    assert len(got) == FRAMES_PER_TURN + 1


async def test_a_message_in_endless_fragments_ends_the_connection() -> None:
    connection = await Connection().opened()
    begun = frame(0x01, b"") + frame(MORE, b"") * (FRAGMENTS_MAX - 2)
    assert await connection.read(begun) == []
    assert await connection.read(frame(MORE, b"")) == [1009]


async def test_a_client_that_does_not_read_gets_no_pongs() -> None:
    connection = await Connection().opened()
    connection.protocol.pause_writing()
    await connection.read(frame(PING, b"?") * 3 + frame(TEXT, b"still heard"))
    assert connection.told == ["still heard"]
    assert connection.wire.written == b""
    connection.protocol.resume_writing()
    await connection.read(frame(PING, b"!"))
    assert connection.wire.written == b"\x8a\x01!"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"X-Long: " + b"x" * 9000 + b"\r\n", 431),
        (b"".join(b"X-%d: x\r\n" % n for n in range(200)), 431),
        (b"Content-Length: 5\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 400),
    ],
)
async def test_a_handshake_that_cannot_be_read_is_answered_and_closed(
    headers: bytes, status: int
) -> None:
    connection = Connection()
    await connection.asked(HANDSHAKE[:-2] + headers + b"\r\n")
    assert connection.wire.written.startswith(b"HTTP/1.1 %d " % status)
    assert connection.wire.closed
    assert not connection.server.tasks


async def test_an_application_may_deny_the_upgrade_with_an_answer_of_its_own() -> None:
    connection = Connection()

    async def deny(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"o"})

    connection.app = deny  # type: ignore[method-assign]
    await connection.asked(HANDSHAKE)
    head, _, body = connection.wire.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"\r\na: b" in head
    assert b"Content-Length: 2" in head
    assert body == b"no"
    assert connection.wire.closed


async def test_an_application_that_ends_without_an_answer_has_failed() -> None:
    connection = Connection()

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        return

    connection.app = nothing  # type: ignore[method-assign]
    await connection.asked(HANDSHAKE)
    assert connection.wire.written.startswith(b"HTTP/1.1 500 ")
    assert connection.wire.closed


async def test_pings_are_sent_without_waiting_for_pongs() -> None:
    connection = await Connection().opened(ping_interval_s=1e-4)
    async with asyncio.timeout(60):
        while connection.wire.written.count(b"\x89\x00") < 3:
            await asyncio.sleep(0)
    assert not connection.wire.closed
    connection.protocol.connection_lost(None)


async def test_a_connection_that_was_cut_is_told_from_one_that_was_closed() -> None:
    connection = await Connection().opened()
    connection.protocol.connection_lost(None)
    await settled()
    assert connection.told == [1006]
    with pytest.raises(ClientGoneError):
        await connection.send({"type": "websocket.send", "text": "x"})
    assert not connection.server.connections

    connection = await Connection().opened()
    assert await connection.read(frame(CLOSE, b"")) == [1005]


async def test_who_waits_to_send_is_let_go_when_the_connection_is_lost() -> None:
    connection = await Connection().opened()
    connection.protocol.pause_writing()
    sending = asyncio.create_task(connection.send({"type": "websocket.send", "text": "x"}))
    await settled()
    assert not sending.done()
    connection.protocol.connection_lost(None)
    with pytest.raises(ClientGoneError):
        await sending


async def test_a_client_that_does_not_read_is_cut_off_by_the_send_that_waits() -> None:
    connection = await Connection().opened()
    connection.wire.lost = lambda: connection.protocol.connection_lost(None)
    reached: list[Bound] = []
    connection.protocol.reached = reached.append  # type: ignore[assignment, method-assign]
    connection.protocol.blocked_s = 0.0
    connection.protocol.pause_writing()
    await settled()
    assert not connection.wire.closed  # nobody wants to tell it anything
    with pytest.raises(ClientGoneError):
        async with asyncio.timeout(60):
            await connection.send({"type": "websocket.send", "text": "x"})
    await settled()
    assert connection.told == [1006]
    assert reached == [Bound.SLOW_READER]


async def test_a_send_that_waits_fails_when_the_client_closes() -> None:
    connection = await Connection().opened()
    connection.protocol.pause_writing()
    sending = asyncio.create_task(connection.send({"type": "websocket.send", "text": "x"}))
    await settled()
    await connection.read(frame(CLOSE, b"\x03\xe8"))
    with pytest.raises(ClientGoneError):
        await sending


@pytest.mark.parametrize("reason", ["ä" * 100, "x" * 200, "€" * 41 + "€"])
async def test_a_long_reason_is_cut_between_characters(reason: str) -> None:
    async def close(connection: Connection) -> None:
        await connection.send({"type": "websocket.close", "code": 1008, "reason": reason})

    connection = Connection(close)
    await connection.asked(HANDSHAKE)
    sent = connection.wire.written.partition(b"\r\n\r\n")[2]
    assert sent[0] == CLOSE
    assert sent[1] == len(sent) - 2 <= 125
    assert reason.startswith(sent[4:].decode())
    assert len(sent) - 2 > 120


async def test_the_end_of_the_server_closes_with_1012() -> None:
    connection = await Connection().opened()
    connection.protocol.shutdown()
    await settled()
    assert connection.told == [1012]
    assert connection.wire.written[:4] == b"\x88\x02\x03\xf4"
    assert connection.wire.closed
