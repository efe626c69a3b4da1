"""Upstream sockets by number, over sockets that are values."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from gateway.runtime.connector import SocketSink
from gateway.runtime.sockets import Sockets
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    SocketClosed,
    SocketEvent,
    SocketFrame,
    SocketOpened,
)

DIAL = Dial("wss://voice")
NOT_THERE = Failure(Kind.UNREACHABLE, "not there")


class Socket:
    """What was sent, and a way to let the provider speak."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.said: asyncio.Queue[SocketEvent] = asyncio.Queue()
        self.sending = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self.closed = asyncio.Event()
        self.broken = False
        self.heeds = True

    async def send(self, frame: str | bytes) -> None:
        self.sending.set()
        await self.takes.wait()
        if self.broken:
            raise ConnectionError
        self.sent.append(frame)

    async def listen(self, attempt: int, sink: SocketSink) -> None:
        while True:
            event = await self.said.get()
            full = sink(event)
            if full is not None and self.heeds:
                await full
            del full
            self.said.task_done()
            if not isinstance(event, SocketFrame):
                return

    async def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.broken = True
        self.takes.set()


class Opener:
    """Opens sockets, or does not."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.failure: Failure | None = None
        self.may = asyncio.Event()
        self.may.set()

    async def websocket(
        self, dial: Dial, open_timeout_s: float, message_bytes_max: int = 0
    ) -> Socket | Failure:
        await self.may.wait()
        if self.failure is not None:
            return self.failure
        self.sockets.append(Socket())
        return self.sockets[-1]


class Ear:
    """Keeps the events; `full` is what a sink says to wait for."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[SocketEvent] = asyncio.Queue()
        self.full: Awaitable[object] | None = None
        self.error: Exception | None = None

    def __call__(self, event: SocketEvent) -> Awaitable[object] | None:
        self.events.put_nowait(event)
        if self.error is not None and isinstance(event, SocketFrame):
            raise self.error
        return self.full

    async def next(self) -> SocketEvent:
        return await asyncio.wait_for(self.events.get(), 60)


class Setup:
    def __init__(self) -> None:
        self.opener = Opener()
        self.ear = Ear()
        self.now = 0.0
        self.sockets = Sockets(self.opener, self.ear, blocked_s=60.0, clock=lambda: self.now)

    async def open(self, number: int = 1) -> Socket:
        self.sockets.open(number, DIAL, 1.0)
        assert await self.ear.next() == SocketOpened(number)
        return self.opener.sockets[-1]


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    yield made
    await made.sockets.aclose()


async def done(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 60)


async def test_what_is_posted_before_the_opening_is_sent_in_order(setup: Setup) -> None:
    setup.opener.may.clear()
    setup.sockets.open(1, DIAL, 1.0)
    setup.sockets.post(1, ["a", "b"])
    setup.opener.may.set()
    assert await setup.ear.next() == SocketOpened(1)
    setup.sockets.post(1, ["c"])
    setup.sockets.close(1)
    socket = setup.opener.sockets[0]
    await done(socket.closed)
    assert socket.sent == ["a", "b", "c"]


async def test_what_a_provider_says_comes_with_the_sockets_number(setup: Setup) -> None:
    socket = await setup.open(7)
    socket.said.put_nowait(SocketFrame(7, "hello"))
    socket.said.put_nowait(SocketClosed(7, 1000, "bye"))
    assert await setup.ear.next() == SocketFrame(7, "hello")
    assert await setup.ear.next() == SocketClosed(7, 1000, "bye")
    await done(socket.closed)


async def test_a_socket_that_cannot_be_opened_says_why(setup: Setup) -> None:
    setup.opener.failure = NOT_THERE
    setup.sockets.open(1, DIAL, 1.0)
    assert await setup.ear.next() == ConnectionFailed(1, NOT_THERE)


async def test_after_its_closing_nothing_is_heard_of_a_socket(setup: Setup) -> None:
    socket = await setup.open()
    setup.sockets.close(1)
    socket.said.put_nowait(SocketFrame(1, "late"))
    await done(socket.closed)
    assert setup.ear.events.empty()


async def test_a_socket_that_is_closed_before_it_is_open_is_never_opened(setup: Setup) -> None:
    setup.opener.may.clear()
    setup.sockets.open(1, DIAL, 1.0)
    await asyncio.sleep(0)
    setup.sockets.close(1)
    setup.opener.may.set()
    await setup.sockets.aclose()
    assert setup.opener.sockets == []
    assert setup.ear.events.empty()


async def test_nothing_is_kept_of_a_socket_that_is_closed_as_soon_as_it_is_wanted(
    setup: Setup,
) -> None:
    setup.sockets.open(1, DIAL, 1.0)
    setup.sockets.close(1)  # its task has not even begun
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert setup.opener.sockets == []
    assert not setup.sockets._running


async def test_what_a_paused_socket_says_to_wait_for_may_be_ignored(setup: Setup) -> None:
    socket = await setup.open()
    setup.sockets.pause(1)
    socket.heeds = False  # as one that is cut before it comes to wait
    socket.said.put_nowait(SocketFrame(1, "a"))
    assert await setup.ear.next() == SocketFrame(1, "a")
    gc.collect()  # a coroutine that nobody awaited would warn here


async def test_while_the_sink_has_enough_no_more_is_read(setup: Setup) -> None:
    socket = await setup.open()
    room = asyncio.get_running_loop().create_future()
    setup.ear.full = room
    for frame in "ab":
        socket.said.put_nowait(SocketFrame(1, frame))
    assert await setup.ear.next() == SocketFrame(1, "a")
    await asyncio.sleep(0)
    assert setup.ear.events.empty()
    room.set_result(None)
    assert await setup.ear.next() == SocketFrame(1, "b")


async def test_a_paused_socket_is_read_no_further_until_it_is_resumed(setup: Setup) -> None:
    socket = await setup.open()
    setup.sockets.pause(1)
    for frame in "ab":
        socket.said.put_nowait(SocketFrame(1, frame))
    assert await setup.ear.next() == SocketFrame(1, "a"), "it was on its way already"
    await asyncio.sleep(0)
    assert setup.ear.events.empty()
    setup.sockets.resume(1)
    assert await setup.ear.next() == SocketFrame(1, "b")


async def test_a_send_may_wait_for_the_provider(setup: Setup) -> None:
    socket = await setup.open()
    socket.takes.clear()
    sending = asyncio.create_task(setup.sockets.send(1, ["a"]))
    await done(socket.sending)
    assert not sending.done()
    socket.takes.set()
    await sending
    assert socket.sent == ["a"]


@pytest.mark.parametrize("posted", [True, False])
async def test_a_provider_that_takes_nothing_for_too_long_is_cut(
    setup: Setup, posted: bool
) -> None:
    socket = await setup.open()
    socket.takes.clear()
    sending: Any = None
    if posted:
        setup.sockets.post(1, ["a"])
    else:
        sending = asyncio.create_task(setup.sockets.send(1, ["a"]))
    await done(socket.sending)
    setup.sockets.cut_blocked(60.0)
    assert setup.ear.events.empty()
    setup.sockets.cut_blocked(60.1)
    failed = await setup.ear.next()
    assert isinstance(failed, ConnectionFailed)
    assert failed.failure.kind is Kind.TIMEOUT
    await done(socket.closed)
    assert setup.ear.events.empty(), "it is told once"
    if sending is not None:
        await sending


@pytest.mark.parametrize("posted", [True, False])
async def test_a_send_that_fails_is_told_once(setup: Setup, posted: bool) -> None:
    socket = await setup.open()
    socket.broken = True
    if posted:
        setup.sockets.post(1, ["a"])
    else:
        await setup.sockets.send(1, ["a", "b"])
        await setup.sockets.send(1, ["c"])
    failed = await setup.ear.next()
    assert isinstance(failed, ConnectionFailed)
    assert failed.failure.kind is Kind.CONNECTION_LOST
    await done(socket.closed)
    assert setup.ear.events.empty()


async def test_a_message_that_its_reader_cannot_handle_breaks_its_socket_alone(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    other = await setup.open(2)
    socket = await setup.open(1)
    setup.ear.error = ValueError("a field is missing")
    socket.said.put_nowait(SocketFrame(1, "odd"))
    assert await setup.ear.next() == SocketFrame(1, "odd")
    failed = await setup.ear.next()
    assert isinstance(failed, ConnectionFailed)
    assert failed.failure.kind is Kind.PROTOCOL_ERROR
    assert "could not be handled" in caplog.text
    await done(socket.closed)
    assert not other.closed.is_set()


async def test_the_end_closes_every_socket(setup: Setup) -> None:
    sockets = [await setup.open(number) for number in (1, 2)]
    await setup.sockets.aclose()
    assert all(socket.closed.is_set() for socket in sockets)
