"""A session's connections: opened, written to, given up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from gateway.runtime.lines import BLOCKED_S, Lines
from gateway.runtime.loop import Inbox
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketOpened


class Wire:
    """A connection that takes frames, or does not."""

    def __init__(self, *, takes: bool = True, ended: bool = False) -> None:
        self.takes = takes
        self.ended = ended
        self.written: list[Any] = []
        self.closed = self.aborted = False
        self.over = asyncio.Event()
        self.reads = asyncio.Event()

    def write(self, frame: Any, /) -> bool:
        if self.ended:
            raise ConnectionResetError
        self.written.append(frame)
        return self.takes

    async def drained(self) -> None:
        await self.reads.wait()
        if self.aborted:
            raise ConnectionResetError

    async def listen(self, attempt: int, sink: Any, /) -> None:
        await self.over.wait()

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
        self.reads.set()


class Play:
    """Lines, and the inbox that they fill."""

    def __init__(self) -> None:
        self.inbox: Inbox[Any] = Inbox()
        self.tasks: list[asyncio.Task[None]] = []
        self.lines = Lines(self.inbox, self.spawn)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def open(self, wire: Wire | Failure) -> None:
        async def opening() -> Wire | Failure:
            return wire

        self.lines.open(1, opening)
        for _ in range(3):
            await asyncio.sleep(0)

    @property
    def events(self) -> list[Any]:
        return list(self.inbox._events)


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    made = Play()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_frames_go_to_the_connection_once_it_is_open(play: Play) -> None:
    assert play.lines.send(1, ["early"]) is None
    wire = Wire()
    await play.open(wire)
    assert play.lines.send(1, ["a", "b"]) is None
    assert wire.written == ["a", "b"]
    assert play.events == [SocketOpened(1)]


async def test_one_that_does_not_open_says_why(play: Play) -> None:
    failure = Failure(Kind.UNREACHABLE, "no")
    await play.open(failure)
    assert play.events == [ConnectionFailed(1, failure)]


async def test_who_sends_waits_until_the_provider_reads(play: Play) -> None:
    wire = Wire(takes=False)
    await play.open(wire)
    waits = play.lines.send(1, ["a"])
    assert waits is not None
    waiting = asyncio.ensure_future(waits)
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.reads.set()
    assert await waiting
    assert play.events == [SocketOpened(1)]


async def test_a_provider_that_reads_nothing_is_given_up(play: Play) -> None:
    wire = Wire(takes=False)
    await play.open(wire)
    waits = play.lines.send(1, ["a"])
    assert waits is not None
    waiting = asyncio.ensure_future(waits)
    await asyncio.sleep(0)
    play.lines.watch(asyncio.get_running_loop().time())
    assert not wire.aborted
    play.lines.watch(asyncio.get_running_loop().time() + BLOCKED_S + 1)
    assert wire.aborted
    assert await waiting
    kinds = [one.failure.kind for one in play.events[1:]]
    assert kinds == [Kind.TIMEOUT, Kind.CONNECTION_LOST]


async def test_one_that_has_ended_is_told_when_it_is_written_to(play: Play) -> None:
    await play.open(Wire(ended=True))
    assert play.lines.send(1, ["a"]) is None
    assert play.events[1].failure.kind is Kind.CONNECTION_LOST


async def test_one_that_is_dropped_is_closed(play: Play) -> None:
    wire = Wire()
    await play.open(wire)
    play.lines.drop(1)
    play.lines.drop(1)
    await asyncio.gather(*play.tasks, return_exceptions=True)
    assert wire.closed
    assert play.lines.send(1, ["late"]) is None


async def test_one_that_is_dropped_at_once_is_not_opened(play: Play) -> None:
    begun: list[int] = []

    async def opening() -> Wire:
        begun.append(1)
        return Wire()

    play.lines.open(1, opening)
    play.lines.drop(1)
    await asyncio.gather(*play.tasks, return_exceptions=True)
    assert begun == []
    assert play.events == []
    gc.collect()  # a coroutine that nobody awaited would warn here
