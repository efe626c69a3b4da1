"""A Dial is opened: what comes back, and what each way of failing is called."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from picows import WSMsgType

from gateway.runtime import connector as connector_module
from gateway.runtime.connector import (
    CONTROLS_MAX,
    FRAGMENTS_MAX,
    LARGE_BYTES,
    TOGETHER_MAX,
    Connector,
    UpstreamSocket,
)
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    BodyChunk,
    BodyEnd,
    ConnectionFailed,
    ResponseHead,
    SocketClosed,
    SocketEvent,
    SocketFrame,
)
from tests.ports import Port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    made = Connector()
    yield made
    await made.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a handler for every path; gives the server's address."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def answered(connector: Connector, dial: Dial) -> list[Any]:
    """Every event of one HTTP request."""
    inbox: Inbox[Any] = Inbox()
    await connector.request(dial, 7, inbox, 60.0)
    return [await inbox.next(None, lambda: 0.0) for _ in range(len(inbox))]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port where nobody listens, and nobody will."""
    with Port() as port:
        yield port.number


# -- HTTP


async def test_an_answer_is_its_head_its_body_and_its_end(
    connector: Connector, serve: Serve
) -> None:
    seen: list[tuple[str, str | None, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers.get("x-key"), await request.read()))
        return web.Response(status=201, body=b"answer", headers={"X-Limit": "9"})

    url = await serve(handler)
    head, *chunks, end = await answered(connector, Dial(url, {"x-key": "k"}, body=b"asked"))
    assert seen == [("POST", "k", b"asked")]
    assert isinstance(head, ResponseHead)
    assert (head.attempt, head.status, head.headers["x-limit"]) == (7, 201, "9")
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, BodyChunk)) == b"answer"
    assert end == BodyEnd(7)


async def test_an_error_status_is_an_answer_like_any_other(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=503, body=b"busy")

    events = await answered(connector, Dial(await serve(handler)))
    assert [type(event) for event in events] == [ResponseHead, BodyChunk, BodyEnd]
    assert events[0].status == 503


async def test_a_redirect_is_not_followed_because_it_would_take_the_key_along(
    connector: Connector, serve: Serve
) -> None:
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"})

    events = await answered(connector, Dial(f"{await serve(handler)}/here"))
    assert events[0].status == 307
    assert paths == ["/here"]


async def test_a_large_body_arrives_whole(connector: Connector, serve: Serve) -> None:
    lengths = []

    async def handler(request: web.Request) -> web.Response:
        lengths.append(len(await request.read()))
        return web.Response()

    await answered(connector, Dial(await serve(handler), body=bytes(3 * LARGE_BYTES)))
    assert lengths == [3 * LARGE_BYTES]


async def test_connections_are_kept_for_the_next_request(
    connector: Connector, serve: Serve
) -> None:
    peers = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x")

    url = await serve(handler)
    await connector.warm(Dial(url, method="GET"))
    await answered(connector, Dial(url))
    await answered(connector, Dial(url))
    assert len(peers) == 1


async def test_nobody_listens(connector: Connector, closed: int) -> None:
    (event,) = await answered(connector, Dial(f"http://127.0.0.1:{closed}/secret-path"))
    assert isinstance(event, ConnectionFailed)
    assert (event.attempt, event.failure.kind) == (7, Kind.UNREACHABLE)
    assert "127.0.0.1" not in event.failure.message
    assert "secret-path" not in event.failure.message


async def test_an_answer_that_breaks_off_is_a_lost_connection(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    events = await answered(connector, Dial(await serve(handler)))
    assert isinstance(events[0], ResponseHead)
    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].failure.kind is Kind.CONNECTION_LOST


async def test_a_server_that_hangs_up_without_an_answer_was_not_reached(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    (event,) = await answered(connector, Dial(await serve(handler)))
    assert event.failure.kind is Kind.UNREACHABLE


async def test_an_address_that_is_none_is_a_failure_not_an_exception(connector: Connector) -> None:
    (event,) = await answered(connector, Dial("http://"))
    assert isinstance(event, ConnectionFailed)


async def test_warming_tells_nobody_what_went_wrong(connector: Connector, closed: int) -> None:
    await connector.warm(Dial(f"http://127.0.0.1:{closed}", method="GET"))


# -- WebSockets


async def opened(connector: Connector, dial: Dial, message_bytes_max: int = 4096) -> UpstreamSocket:
    sock = await connector.websocket(dial, 60.0, message_bytes_max)
    assert isinstance(sock, UpstreamSocket)
    return sock


async def heard(sock: UpstreamSocket) -> list[Any]:
    """Every event of the socket, to its end."""
    inbox: Inbox[Any] = Inbox()
    await sock.listen(3, inbox)
    return [await inbox.next(None, lambda: 0.0) for _ in range(len(inbox))]


async def test_messages_go_both_ways_and_a_close_has_its_code_and_reason(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse(protocols=("realtime",))
        await sock.prepare(request)
        assert request.headers["x-key"] == "k"
        await sock.send_str(f"text {await sock.receive_str()}")
        await sock.send_bytes(await sock.receive_bytes())
        await sock.close(code=4001, message=b"bad key")
        return sock

    dial = Dial(await serve(handler), {"x-key": "k"}, subprotocols=("realtime",))
    sock = await opened(connector, dial)
    await sock.send("hello")
    await sock.send(b"\1\2")
    assert await heard(sock) == [
        SocketFrame(3, "text hello"),
        SocketFrame(3, b"\1\2"),
        SocketClosed(3, 4001, "bad key"),
    ]


async def test_a_refused_handshake_has_its_status(connector: Connector, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=401)

    failure = await connector.websocket(Dial(await serve(handler)), 60.0)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.upstream_status) == (Kind.UPSTREAM_AUTH, 401)


async def test_a_handshake_that_never_ends_is_a_time_out(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    failure = await connector.websocket(Dial(await serve(handler)), 0.01)
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.TIMEOUT


async def test_a_message_that_is_too_long_ends_the_connection(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.send_str("x" * 2000)
        await sock.receive()
        return sock

    events = await heard(await opened(connector, Dial(await serve(handler)), 1000))
    assert len(events) == 1
    assert isinstance(events[0], ConnectionFailed | SocketClosed)


async def test_a_provider_that_vanishes_is_a_close_without_a_goodbye(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return sock

    (event,) = await heard(await opened(connector, Dial(await serve(handler))))
    assert event == SocketClosed(3, 1006, "")


async def test_a_socket_that_was_cut_by_us_takes_no_more_messages(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.receive()
        return sock

    sock = await opened(connector, Dial(await serve(handler)))
    sock.abort()
    await heard(sock)
    with pytest.raises((ConnectionError, aiohttp.ClientError)):
        await sock.send("too late")


async def test_a_ping_is_answered(connector: Connector, serve: Serve) -> None:
    answers = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse(autoping=False)
        await sock.prepare(request)
        await sock.ping(b"there?")
        answers.append(await sock.receive())
        await sock.close()
        return sock

    sock = await opened(connector, Dial(await serve(handler)))
    assert [type(event) for event in await heard(sock)] == [SocketClosed]
    assert [(answer.type, answer.data) for answer in answers] == [
        (aiohttp.WSMsgType.PONG, b"there?")
    ]


@pytest.mark.parametrize("kind", ["ping", "pong"])
async def test_a_provider_that_sends_nothing_but_pings_has_failed(
    connector: Connector, serve: Serve, kind: str
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(CONTROLS_MAX + 1):
                await getattr(sock, kind)(b"")
        await sock.receive()
        return sock

    sock = await opened(connector, Dial(await serve(handler)))
    [event] = await heard(sock)
    assert isinstance(event, ConnectionFailed)
    assert event.failure.kind is Kind.PROTOCOL_ERROR
    await sock.close()


async def test_the_goodbye_of_a_provider_that_goes_on_talking_is_not_waited_for(
    connector: Connector, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.connector.CLOSE_S", 0.05)
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse(autoclose=False)
        await sock.prepare(request)
        try:
            while True:
                await sock.send_str("on and on")
                await asyncio.sleep(0)  # the client shares this event loop
        finally:
            gone.set()

    sock = await opened(connector, Dial(await serve(handler)))
    await sock.close()
    await asyncio.wait_for(gone.wait(), 30)


async def test_a_closed_connector_opens_anew_when_it_is_needed(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x")

    url = await serve(handler)
    await answered(connector, Dial(url))
    await connector.close()
    await connector.close()
    assert isinstance((await answered(connector, Dial(url)))[-1], BodyEnd)


async def test_a_message_in_fragments_is_one_message(connector: Connector, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        assert request.transport is not None
        request.transport.write(b"\x01\x03one" + b"\x89\x00" + b"\x80\x03two")
        request.transport.write(b"\x02\x01\xff" + b"\x80\x01\xfe")
        await sock.close()
        return sock

    assert await heard(await opened(connector, Dial(await serve(handler)))) == [
        SocketFrame(3, "onetwo"),
        SocketFrame(3, b"\xff\xfe"),
        SocketClosed(3, 1000, ""),
    ]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x81\x01\xff",  # no UTF-8
        b"\x01\x7e\x02\x58" + b"x" * 600 + b"\x80\x7e\x02\x58" + b"x" * 600,  # 1200 bytes
        b"\x01\x00" + b"\x00\x00" * FRAGMENTS_MAX,
    ],
)
async def test_what_no_provider_may_send_ends_the_connection(
    connector: Connector, serve: Serve, sent: bytes
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        assert request.transport is not None
        request.transport.write(sent)
        await sock.receive()
        return sock

    sock = await opened(connector, Dial(await serve(handler)), 1000)
    (event,) = await heard(sock)
    await sock.close()
    assert isinstance(event, ConnectionFailed)
    assert event.failure.kind is Kind.CONNECTION_LOST


async def test_a_provider_that_floods_us_with_messages_has_failed(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.receive()
        return sock

    told: list[SocketEvent] = []
    sock = await opened(connector, Dial(await serve(handler)))
    listening = asyncio.create_task(sock.listen(3, told.append))
    await asyncio.sleep(0)
    empty: Any = SimpleNamespace(msg_type=WSMsgType.TEXT, fin=True, payload_size=0)
    empty.get_payload_as_utf8_text = str
    empty.last_in_buffer = False
    transport: Any = None
    for _ in range(2 * TOGETHER_MAX):  # of one read
        sock.on_ws_frame(transport, empty)
    await asyncio.wait_for(listening, 30)
    await sock.close()
    assert told[-1] == ConnectionFailed(3, told[-1].failure)  # type: ignore[union-attr]
    assert len(told) <= TOGETHER_MAX + 1


async def test_a_listener_that_ends_while_others_have_their_turn_leaves_nothing(
    connector: Connector, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "TURN_S", -1.0)

    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.receive()
        return sock

    sock = await opened(connector, Dial(await serve(handler)))
    listening = asyncio.create_task(sock.listen(3, lambda _: None))
    await asyncio.sleep(0)
    text: Any = SimpleNamespace(msg_type=WSMsgType.TEXT, fin=True, payload_size=0)
    text.get_payload_as_utf8_text = str
    transport: Any = None
    listening.cancel()
    for text.last_in_buffer in (False, True):  # of one read
        sock.on_ws_frame(transport, text)
    await asyncio.gather(listening, return_exceptions=True)
    await sock.close()
    del sock, listening
    gc.collect()  # a coroutine that nobody awaited would warn here


async def test_while_a_sink_is_full_no_message_is_handed_on_and_none_is_lost(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        for number in range(5):
            await sock.send_str(str(number))
        await sock.close()
        return sock

    room, told = asyncio.Event(), list[Any]()

    def sink(event: SocketEvent) -> Awaitable[object] | None:
        told.append(event)
        return None if room.is_set() else room.wait()

    sock = await opened(connector, Dial(await serve(handler)))
    listening = asyncio.create_task(sock.listen(3, sink))
    async with asyncio.timeout(60):
        while not told:
            await asyncio.sleep(0)
    assert told == [SocketFrame(3, "0")]
    room.set()
    await asyncio.wait_for(listening, 60)
    assert told == [*(SocketFrame(3, str(n)) for n in range(5)), SocketClosed(3, 1000, "")]


async def test_a_fault_of_whoever_listens_is_raised_there(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        await sock.send_str("x")
        await sock.receive()
        return sock

    def sink(event: SocketEvent) -> None:
        raise ArithmeticError

    sock = await opened(connector, Dial(await serve(handler)))
    with pytest.raises(ArithmeticError):
        await sock.listen(3, sink)
    await sock.close()


async def test_a_user_in_the_address_becomes_a_header(connector: Connector, serve: Serve) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.extend((request.headers["authorization"], request.headers["host"]))
        return web.Response(status=403)

    url = await serve(handler)
    await connector.websocket(Dial(url.replace("http://", "http://me:p%40ss@")), 60.0)
    assert seen == ["Basic bWU6cEBzcw==", url.removeprefix("http://")]


async def test_an_answer_that_is_no_upgrade_is_a_failure(
    connector: Connector, serve: Serve
) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.write(b"nonsense\r\n\r\n")
        request.transport.close()
        return web.Response()

    failure = await connector.websocket(Dial(await serve(handler)), 60.0)
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.PROTOCOL_ERROR


async def test_who_hangs_up_during_the_handshake_was_not_reached(
    connector: Connector, serve: Serve, closed: int
) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    for url in (await serve(handler), f"ws://127.0.0.1:{closed}", "ws://"):
        failure = await connector.websocket(Dial(url), 60.0)
        assert isinstance(failure, Failure)
        assert failure.kind is Kind.UNREACHABLE
        assert "127.0.0.1" not in failure.message


async def test_a_proxy_of_the_environment_is_used_unless_it_is_told_not_to_be(
    connector: Connector, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 407 No\r\n\r\n")
        writer.close()

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=401)

    url = await serve(handler)
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    refused = await connector.websocket(Dial("ws://provider.invalid/x"), 60.0)
    assert isinstance(refused, Failure)
    assert refused.kind is Kind.UNREACHABLE
    assert asked == [b"CONNECT provider.invalid:80 HTTP/1.1\r\n"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    direct = await connector.websocket(Dial(url), 60.0)
    assert isinstance(direct, Failure)
    assert direct.upstream_status == 401
    server.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_send_that_a_provider_does_not_read_ends_when_the_socket_is_cut(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        done = asyncio.Event()

        async def deaf(request: web.Request) -> web.WebSocketResponse:
            answer = web.WebSocketResponse()
            await answer.prepare(request)
            await done.wait()
            return answer

        app = web.Application()
        app.router.add_get("/", deaf)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        connector = Connector()
        upstream = await connector.websocket(Dial(f"ws://{host}:{port}/", {}), 60.0)
        assert isinstance(upstream, UpstreamSocket)

        sending = asyncio.create_task(upstream.send(bytes(64 << 20)))  # no system holds so much
        await asyncio.sleep(0)
        upstream.abort()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, 60)
        upstream.abort()  # a second time does no harm
        done.set()
        await upstream.close()
        await connector.close()
        await runner.cleanup()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
