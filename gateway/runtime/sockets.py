"""Upstream WebSockets by number: opens them, sends, listens, closes. Nothing is decided here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from gateway.runtime.connector import SocketSink
from gateway.runtime.loop import Clock, Room
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    SocketClosed,
    SocketEvent,
    SocketOpened,
)

_logger = logging.getLogger(__name__)

BLOCKED_S_MAX: Final = 5.0
"""A provider that takes nothing of what it is sent for this long has stalled: it is cut."""

MESSAGE_BYTES_MAX: Final = 4 << 20
"""Longest message of a provider; a longer one breaks the connection."""

Frame = str | bytes


class OpenedSocket(Protocol):
    """What `Sockets` needs of a socket, see connector.UpstreamSocket."""

    async def send(self, frame: Frame) -> None: ...

    async def listen(self, attempt: int, sink: SocketSink) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


class Opener(Protocol):
    """What opens them, see connector.Connector."""

    async def websocket(
        self, dial: Dial, open_timeout_s: float, message_bytes_max: int = ...
    ) -> OpenedSocket | Failure: ...


class _Socket:
    """One socket, from the wish for it to its end."""

    __slots__ = ("closing", "frames", "reading", "sending_since", "socket", "task", "wake")

    def __init__(self) -> None:
        self.socket: OpenedSocket | None = None
        self.task: asyncio.Task[None] | None = None
        self.frames: deque[Frame] = deque()
        self.wake = asyncio.Event()
        self.reading: Room | None = None  # there while reading is paused
        self.sending_since: float | None = None
        self.closing = False


class Sockets:
    """The sockets of one session, or of a pool.

    Each event goes to `sink` with the number its socket was opened under: SocketOpened, frames,
    and as the last SocketClosed or ConnectionFailed. After `close` none comes. A socket that does
    not take what it is sent for `blocked_s` is cut, which is a ConnectionFailed too.
    """

    def __init__(
        self,
        opener: Opener,
        sink: SocketSink,
        *,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        blocked_s: float = BLOCKED_S_MAX,
        clock: Clock = time.monotonic,
    ) -> None:
        self._opener = opener
        self._sink = sink
        self._message_bytes_max = message_bytes_max
        self._blocked_s = blocked_s
        self._clock = clock
        self._open: dict[int, _Socket] = {}
        self._running: set[_Socket] = set()  # those that are being closed among them
        self._watch: asyncio.TimerHandle | None = None

    def open(self, number: int, dial: Dial, timeout_s: float) -> None:
        """Open a socket; SocketOpened or ConnectionFailed follows."""
        socket = self._open[number] = _Socket()
        self._running.add(socket)
        socket.task = asyncio.create_task(self._serve(number, socket, dial, timeout_s))
        # not in the task, which may be cancelled before it begins
        socket.task.add_done_callback(lambda _: self._running.discard(socket))
        self._watch_sends()

    def post(self, number: int, frames: Sequence[Frame]) -> None:
        """Send frames in order without waiting; before the socket is open they are kept. Whoever
        posts bounds how much."""
        socket = self._open.get(number)
        if socket is not None:
            socket.frames.extend(frames)
            socket.wake.set()

    async def send(self, number: int, frames: Sequence[Frame]) -> None:
        """Send frames at once, waiting while the provider does not read. Not to be mixed with
        `post` on one socket: the order between them is open."""
        socket = self._open.get(number)
        if socket is None or socket.socket is None:
            return
        try:
            for frame in frames:
                await self._write(socket, socket.socket, frame)
        except (OSError, RuntimeError):
            self._fail(number, socket, _BROKEN)

    def pause(self, number: int) -> None:
        """Read no further, so that the provider is slowed down."""
        socket = self._open.get(number)
        if socket is not None and socket.reading is None:
            socket.reading = Room()

    def resume(self, number: int) -> None:
        """Read on."""
        socket = self._open.get(number)
        if socket is not None and socket.reading is not None:
            socket.reading.set()
            socket.reading = None

    def close(self, number: int) -> None:
        """Send what was posted, then close."""
        socket = self._open.pop(number, None)
        if socket is None:
            return
        self._end(socket)
        if socket.socket is None and socket.task is not None:
            socket.task.cancel()

    async def aclose(self) -> None:
        """Cut everything and wait for it."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._open.clear()
        tasks = [socket.task for socket in self._running if socket.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, number: int, socket: _Socket, dial: Dial, timeout_s: float) -> None:
        opened = await self._opener.websocket(dial, timeout_s, self._message_bytes_max)
        if isinstance(opened, Failure):
            self._fail(number, socket, opened)
            return
        socket.socket = opened
        listening = asyncio.create_task(self._listen(number, socket, opened))
        try:
            self._tell(number, socket, SocketOpened(number))
            await self._write_posted(socket, opened)
        except (OSError, RuntimeError):
            self._fail(number, socket, _BROKEN)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await opened.close()

    async def _write_posted(self, socket: _Socket, opened: OpenedSocket) -> None:
        while True:
            while socket.frames:
                await self._write(socket, opened, socket.frames.popleft())
            if socket.closing:
                return
            await socket.wake.wait()
            socket.wake.clear()

    async def _write(self, socket: _Socket, opened: OpenedSocket, frame: Frame) -> None:
        socket.sending_since = self._clock()
        try:
            await opened.send(frame)
        finally:
            socket.sending_since = None

    async def _listen(self, number: int, socket: _Socket, opened: OpenedSocket) -> None:
        def sink(event: SocketEvent) -> Awaitable[object] | None:
            return self._tell(number, socket, event)

        try:
            await opened.listen(number, sink)
        except Exception:  # the task ends here; a frame that we cannot take must not go unnoticed
            _logger.exception("a provider's message could not be handled")
            failure = Failure(Kind.PROTOCOL_ERROR, "the provider sent a message we cannot read")
            self._fail(number, socket, failure)

    def _tell(self, number: int, socket: _Socket, event: SocketEvent) -> Awaitable[object] | None:
        if self._open.get(number) is not socket:
            return None
        if isinstance(event, (SocketClosed, ConnectionFailed)):
            del self._open[number]
            self._end(socket)
            return self._sink(event)
        full = self._sink(event)
        return full if socket.reading is None else socket.reading

    def _fail(self, number: int, socket: _Socket, failure: Failure) -> None:
        self._tell(number, socket, ConnectionFailed(number, failure))

    def _end(self, socket: _Socket) -> None:
        socket.closing = True
        socket.wake.set()
        if socket.reading is not None:
            socket.reading.set()

    def _watch_sends(self) -> None:
        """Look at all sends now and then, which costs nothing on the way of a frame."""
        if self._watch is None:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(self._blocked_s / 2, self._look)

    def _look(self) -> None:
        self._watch = None
        self.cut_blocked(self._clock())
        if self._running:
            self._watch_sends()

    def cut_blocked(self, now: float) -> None:
        """Cut every socket whose send has been waiting for longer than `blocked_s`."""
        numbers = {id(socket): number for number, socket in self._open.items()}
        for socket in tuple(self._running):
            since = socket.sending_since
            if since is None or now - since <= self._blocked_s:
                continue
            socket.sending_since = None
            if (number := numbers.get(id(socket))) is not None:
                failure = Failure(Kind.TIMEOUT, "the provider does not read what it is sent")
                self._fail(number, socket, failure)
            if socket.socket is not None:
                socket.socket.abort()


_BROKEN: Final = Failure(Kind.CONNECTION_LOST, "the provider's connection broke off")
