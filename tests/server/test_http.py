"""A connection of HTTP/1, with a socket made of nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.server import http
from gateway.server.http import BODY_WAITING_BYTES, HttpProtocol
from gateway.server.http1 import HEADERS_MAX, SLICE_BYTES
from gateway.server.websocket import WebSocketProtocol
from tests.server.test_websocket import HANDSHAKE, Wire, settled

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_MANY_HEADERS = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n"

App = Callable[[Any, Any, Any], Awaitable[None]]


class Connection:
    """A connection to an application that reads the body and answers with its length, or to
    another."""

    def __init__(self, app: App | None = None, ws: Any = WebSocketProtocol) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.left = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        config = uvicorn.Config(app or self.app, interface="asgi3", ws=ws, log_config=None)
        config.load()
        self.server: Any = ServerState()
        self.protocol: Any = HttpProtocol(config, self.server, {"lives": "long"})
        self.wire = Wire()
        self.wire.lost = lambda: self.protocol.connection_lost(None)
        self.wire.set_protocol = lambda protocol: setattr(self, "protocol", protocol)  # type: ignore[method-assign]
        self.protocol.connection_made(self.wire)

    @property
    def paths(self) -> list[str]:
        return [scope["path"] for scope in self.scopes]

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
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
        await answer(send, str(size).encode())

    async def read(self, *parts: bytes) -> bytes:
        """What the client is answered once these have come."""
        for part in parts:
            self.protocol.data_received(part)
        await settled()
        return self.wire.written

    def time_passes(self) -> None:
        """What waits for a time is done now."""
        self.protocol._timer.cancel()
        _, do, args = self.protocol._arranged
        do(*args)

    @property
    def waits_s(self) -> float | None:
        """How long something is waited for now; None: it is not."""
        return self.protocol._arranged[0] if self.protocol._timer is not None else None

    def end(self) -> None:
        if isinstance(self.protocol, HttpProtocol):
            self.protocol.connection_lost(None)


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    framing = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, framing]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    made = Connection()
    yield made
    made.end()


def refusal(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the last answer."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    return int(head.split()[1]), orjson.loads(body)["error"]


async def test_the_application_is_told_what_is_asked(connection: Connection) -> None:
    await connection.read(b"GET /a%20b?c=%64 HTTP/1.1\r\nX-Name: x\r\n\r\n")
    (scope,) = connection.scopes
    assert scope["type"] == "http"
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b", b"/a%20b")
    assert scope["query_string"] == b"c=%64"
    assert scope["headers"] == [(b"x-name", b"x")]
    assert scope["scheme"] == "http"
    assert scope["state"] == {"lives": "long"}


async def test_what_is_refused_is_told_in_openais_form(connection: Connection) -> None:
    status, error = refusal(await connection.read(TOO_MANY_HEADERS))
    assert status == 431
    assert error["type"] == "invalid_request_error"
    assert error["message"] == f"there are more than {HEADERS_MAX} headers"
    assert not connection.wire.reading


@pytest.mark.parametrize("size", [1, 7, 100, SLICE_BYTES, 1 << 20])
async def test_requests_are_the_same_wherever_the_stream_is_cut(
    connection: Connection, size: int
) -> None:
    body = b"x" * 3000
    sent = GET + b"POST /b HTTP/1.1\r\nContent-Length: 3000\r\n\r\n" + body
    sent += (
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n" + body + b"\r\n0\r\n\r\n"
    )
    for i in range(0, len(sent), size):
        connection.protocol.data_received(sent[i : i + size])
        await asyncio.sleep(0)
    answers = await connection.read()
    assert connection.paths == ["/healthz", "/b", "/c"]
    assert [part[:4].strip() for part in answers.split(b"\r\n\r\n")[1:]] == [
        b"0HTT",
        b"3000",
        b"3000",
    ]
    assert connection.server.total_requests == 3


async def test_requests_behind_each_other_are_parsed_as_they_are_answered(
    connection: Connection,
) -> None:
    sent = GET * 3000
    connection.protocol.data_received(sent)
    assert len(connection.protocol._exchanges) <= SLICE_BYTES // len(GET) + 1
    assert not connection.wire.reading
    while len(connection.paths) < 3000:
        await asyncio.sleep(0)
    await settled()
    assert connection.wire.written.count(b"HTTP/1.1 200") == 3000
    assert connection.wire.reading


async def test_a_body_is_not_parsed_before_the_application_reads_it(
    connection: Connection,
) -> None:
    connection.may_read.clear()
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    connection.protocol.data_received(CHUNKED + chunk * 20)
    await settled()
    assert len(connection.protocol._rest) > 20 * 0x4000 - BODY_WAITING_BYTES - 2 * SLICE_BYTES
    assert not connection.wire.reading
    connection.may_read.set()
    answers = await connection.read(b"0\r\n\r\n")
    assert answers.endswith(b"\r\n\r\n" + str(20 * 0x4000).encode())
    assert connection.wire.reading


async def test_a_large_body_of_known_length_is_taken_in_one_piece(connection: Connection) -> None:
    size = 1 << 20
    head = b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size
    answers = await connection.read(head, bytes(size))
    assert answers.endswith(b"\r\n\r\n1048576")
    assert connection.wire.reading


# -- the answer


async def test_a_piece_is_written_in_its_turn_and_the_last_one_ends_the_request() -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"a", b"bc"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
            told.append(talk.wire.written.rpartition(b"\r\n\r\n")[2])
        await send({"type": "http.response.body"})
        told.append(await receive())

    talk = Connection(app)
    answers = await talk.read(GET)
    assert told == [b"1\r\na\r\n", b"1\r\na\r\n2\r\nbc\r\n", {"type": "http.disconnect"}]
    assert answers.endswith(b"\r\n2\r\nbc\r\n0\r\n\r\n")
    talk.end()


async def test_what_is_said_in_one_turn_is_written_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body"})

    talk = Connection(app)
    writes: list[bytes] = []
    talk.wire.write = writes.append  # type: ignore[assignment,method-assign]
    await talk.read(GET)
    (written,) = writes
    assert written.endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n")
    talk.end()


async def test_who_knows_the_server_takes_the_body_and_learns_of_the_end_at_once() -> None:
    seen: list[Any] = []
    never = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = scope["extensions"][http.EXCHANGE]
        seen.append(exchange.whole_body())
        seen.append(exchange.whole_body())
        exchange.when_left(lambda: seen.append("left"))
        await never.wait()

    talk = Connection(app)
    await talk.read(b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
    assert seen == [b"abc", None]
    talk.protocol.connection_lost(None)
    assert seen == [b"abc", None, "left"]
    talk.end()


async def test_a_body_that_is_not_whole_is_not_taken() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"][http.EXCHANGE].whole_body())
        seen.append((await receive())["body"])

    talk = Connection(app)
    await talk.read(b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab")
    assert seen == [None, b"ab"]
    talk.end()


async def test_the_application_waits_while_the_client_does_not_read() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        talk.protocol.pause_writing()
        while sent < 3:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1

    talk = Connection(app)
    await talk.read(GET)
    assert sent == 0
    talk.protocol.resume_writing()
    await settled()
    assert sent == 3
    talk.end()


async def test_a_client_that_leaves_ends_what_waits_for_it(connection: Connection) -> None:
    await connection.read(CHUNKED)
    assert connection.server.connections
    connection.protocol.connection_lost(None)
    await settled()
    assert connection.left == 1
    assert not connection.server.connections
    assert not connection.server.tasks


async def test_what_is_sent_to_nobody_is_not_written_and_does_no_harm() -> None:
    done = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal done
        while (await receive())["type"] != "http.disconnect":
            pass
        await answer(send, b"x")
        done = True

    connection = Connection(app)
    await connection.read(GET)
    connection.protocol.connection_lost(None)
    await settled()
    assert done
    assert connection.wire.written == b""


async def test_an_application_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("reason")

    connection = Connection(app)
    status, error = refusal(await connection.read(GET + GET))
    assert status == 500
    assert "reason" not in error["message"]
    assert "reason" in caplog.text
    assert connection.wire.closed
    assert connection.wire.written.count(b"HTTP/1.1") == 1
    connection.end()


async def test_an_answer_without_its_end_is_cut_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    connection = Connection(app)
    answers = await connection.read(GET)
    assert answers.endswith(b"1\r\na\r\n")
    assert connection.wire.closed
    connection.end()


async def test_a_message_that_is_none_of_an_answer_is_the_applications_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.trailers"})

    connection = Connection(app)
    assert refusal(await connection.read(GET))[0] == 500
    assert "http.response.trailers" in caplog.text
    connection.end()


# -- Expect, and answers before the request is complete

EXPECTING = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


async def test_a_client_is_told_to_go_on_when_its_body_is_wanted(connection: Connection) -> None:
    connection.may_read.clear()
    assert await connection.read(EXPECTING) == b""
    connection.may_read.set()
    assert await connection.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    answers = await connection.read(b"abc")
    assert answers.count(b"HTTP/1.1") == 2
    assert answers.endswith(b"\r\n\r\n3")
    assert not connection.wire.closed


async def test_a_client_that_has_not_waited_is_not_told_to_go_on(connection: Connection) -> None:
    answers = await connection.read(EXPECTING + b"abc")
    assert answers.startswith(b"HTTP/1.1 200")


async def early(scope: Any, receive: Any, send: Any) -> None:
    """Answers without a look at the body."""
    await answer(send, b"no")


async def test_an_answer_before_a_body_that_is_still_asked_for_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection(early)
    answers = await connection.read(EXPECTING)
    assert b"connection: close" in answers
    assert answers.endswith(b"\r\n\r\nno")
    assert not connection.wire.closed, "the client may still be sending"
    assert connection.waits_s == http.LINGER_S
    connection.time_passes()
    assert connection.wire.closed
    connection.end()


async def test_the_rest_of_a_body_that_is_answered_already_is_thrown_away() -> None:
    connection = Connection(early)
    await connection.read(b"POST /a HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    assert connection.waits_s == http.DISCARD_S
    await connection.read(bytes(999_999))
    assert connection.wire.reading
    answers = await connection.read(b"x" + GET)
    assert answers.count(b"HTTP/1.1 200") == 2
    connection.end()


async def test_the_rest_of_a_body_that_does_not_come_ends_the_connection() -> None:
    connection = Connection(early)
    await connection.read(CHUNKED)
    connection.time_passes()
    assert connection.wire.closed
    connection.end()


# -- refusals


async def test_a_bad_request_is_answered_after_those_before_it(connection: Connection) -> None:
    connection.may_read.clear()
    assert await connection.read(GET + TOO_MANY_HEADERS) == b""
    connection.may_read.set()
    answers = await connection.read()
    assert answers.startswith(b"HTTP/1.1 200")
    assert refusal(answers)[0] == 431


async def test_an_application_whose_request_is_refused_hears_that_the_client_left(
    connection: Connection,
) -> None:
    answers = await connection.read(CHUNKED, b"zz\r\n")
    assert refusal(answers)[0] == 400
    assert connection.left == 1


async def test_a_refusal_does_not_stand_in_the_middle_of_an_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    connection = Connection(app)
    await connection.read(CHUNKED)
    answers = await connection.read(b"zz\r\n")
    assert answers.count(b"HTTP/1.1") == 1
    assert connection.wire.closed
    connection.end()


async def test_after_a_refusal_nothing_is_read_and_the_connection_closes(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINGER_S", 0)
    first = await connection.read(b"nonsense\r\n")
    assert await connection.read(GET) == first
    assert connection.wire.closed


# -- time


async def test_a_head_that_does_not_come_is_408(connection: Connection) -> None:
    await connection.read(GET[:20])
    connection.time_passes()
    await asyncio.sleep(0)
    assert refusal(connection.wire.written)[0] == 408


async def test_a_connection_that_says_nothing_is_closed(connection: Connection) -> None:
    assert connection.waits_s == http.HEAD_S
    connection.time_passes()
    assert connection.wire.written == b""
    assert connection.wire.closed


async def test_time_is_counted_from_the_first_byte_of_each_request_to_the_end_of_its_head(
    connection: Connection,
) -> None:
    kept_s = connection.protocol._config.timeout_keep_alive
    for part, waited_s in (
        (b"", http.HEAD_S),
        (GET, kept_s),
        (b"\r\n", http.HEAD_S),
        (GET, kept_s),
        (GET + GET[:10], http.HEAD_S),
        (GET[10:], kept_s),
        (CHUNKED, None),  # a body's time is the application's matter
    ):
        if part:
            await connection.read(part)
        assert connection.waits_s == waited_s


async def test_the_time_of_a_head_begins_anew_with_each(connection: Connection) -> None:
    await connection.read(GET + GET[:10])
    first = connection.protocol._timer
    await connection.read(GET[10:] + GET[:10])
    assert connection.waits_s == http.HEAD_S
    assert connection.protocol._timer is not first
    second = connection.protocol._timer
    await connection.read(GET[10:12])
    assert connection.protocol._timer is second, "a head that trickles in gets no more time"


async def test_a_request_that_waits_behind_another_is_not_slow(connection: Connection) -> None:
    connection.may_read.clear()
    await connection.read(GET + GET[:10])
    connection.time_passes()
    assert connection.wire.written == b""
    assert not connection.wire.closed
    assert connection.waits_s == http.HEAD_S


async def test_a_connection_that_is_not_used_is_closed(connection: Connection) -> None:
    await connection.read(GET)
    connection.time_passes()
    assert connection.wire.closed


@pytest.mark.parametrize("reads", [True, False])
async def test_a_closed_connection_whose_client_does_not_read_is_cut(
    connection: Connection, reads: bool
) -> None:
    aborted = False

    def lose() -> None:
        nonlocal aborted
        aborted = True

    connection.wire.lost = lose
    await connection.read(GET)
    connection.wire.unread = 1000
    connection.time_passes()
    assert connection.waits_s == http.CLOSE_S
    if reads:
        connection.wire.unread = 500
    connection.time_passes()
    assert aborted != reads


# -- the server's end


async def test_a_connection_without_a_request_ends_with_the_server(
    connection: Connection,
) -> None:
    await connection.read(GET)
    connection.protocol.shutdown()
    assert connection.wire.closed


async def test_the_last_answer_before_the_server_ends_says_so(connection: Connection) -> None:
    connection.may_read.clear()
    await connection.read(GET)
    connection.protocol.shutdown()
    assert not connection.wire.closed
    connection.may_read.set()
    assert b"connection: close" in await connection.read()
    assert connection.wire.closed


async def test_a_server_that_ends_lets_an_answer_that_has_begun_come_to_its_end() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"x"})

    connection = Connection(app)
    await connection.read(GET)
    connection.protocol.shutdown()
    go_on.set()
    assert (await connection.read()).endswith(b"1\r\nx\r\n0\r\n\r\n")
    assert connection.wire.closed
    connection.end()


async def test_a_task_that_is_cancelled_at_the_end_leaves_no_connection(
    connection: Connection,
) -> None:
    connection.may_read.clear()
    await connection.read(GET)
    for task in connection.server.tasks:
        task.cancel()
    await settled()
    assert connection.wire.closed
    assert not connection.server.tasks


# -- WebSockets


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_an_upgrade_goes_to_the_websocket_protocol(connection: Connection, size: int) -> None:
    for i in range(0, len(HANDSHAKE), size):
        connection.protocol.data_received(HANDSHAKE[i : i + size])
    answers = await connection.read()
    assert answers.startswith(b"HTTP/1.1 101 ")
    assert isinstance(connection.protocol, WebSocketProtocol)
    assert connection.wire.reading
    assert list(connection.server.connections) == [connection.protocol]
    connection.protocol.connection_lost(None)


async def test_an_upgrade_behind_a_request_that_is_not_answered_yet_is_refused(
    connection: Connection,
) -> None:
    connection.may_read.clear()
    assert await connection.read(GET + HANDSHAKE) == b""
    connection.may_read.set()
    assert refusal(await connection.read())[0] == 400


async def test_an_upgrade_after_an_answer_is_made(connection: Connection) -> None:
    await connection.read(GET)
    answers = await connection.read(HANDSHAKE)
    assert b"HTTP/1.1 101 " in answers
    connection.protocol.connection_lost(None)


async def test_where_no_websocket_is_served_a_handshake_is_a_request() -> None:
    connection = Connection(ws="none")
    assert (await connection.read(HANDSHAKE)).startswith(b"HTTP/1.1 200")
    assert connection.paths == ["/stt"]
    connection.end()
