"""A session's connections to providers, by the number that its core gave each: opened, written to,
given up. What comes of one is an event in the session's inbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from gateway.runtime.loop import Inbox, Performed
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketOpened

BLOCKED_S: Final = 5.0
"""A provider that takes nothing for so long is given up."""


class Connection(Protocol):
    """As `upstreams.realtime.Connection`, with frames of any kind."""

    def write(self, frame: Any, /) -> bool: ...

    async def drained(self) -> None: ...

    async def listen(self, attempt: int, sink: Any, /) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


class _Line:
    """One connection, from the wish for it to its end."""

    __slots__ = ("connection", "sending_since", "task")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.sending_since: float | None = None


class Lines:
    """Those of one session. `spawn` runs a task that ends with the session."""

    def __init__(
        self,
        inbox: Inbox[Any],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._inbox = inbox
        self._spawn = spawn
        self._open: dict[int, _Line] = {}

    def open(self, number: int, opening: Callable[[], Awaitable[Connection | Failure]]) -> None:
        """Await a connection and listen to it until it ends: SocketOpened, then what it says, at
        last SocketClosed; or ConnectionFailed. `opening` is not called for one that is dropped
        before its task runs."""
        line = self._open[number] = _Line()
        line.task = self._spawn(self._serve(number, line, opening))

    async def _serve(
        self, number: int, line: _Line, opening: Callable[[], Awaitable[Connection | Failure]]
    ) -> None:
        connection = await opening()
        if isinstance(connection, Failure):
            self._inbox.post(ConnectionFailed(number, connection))
            return
        line.connection = connection
        self._inbox.post(SocketOpened(number))
        try:
            await connection.listen(number, self._inbox)
        finally:
            await connection.close()

    def send(self, number: int, frames: Iterable[Any]) -> Performed:
        """Write `frames`; what to await where the provider does not read fast enough."""
        line = self._open.get(number)
        if line is None or (connection := line.connection) is None:
            return None
        ready = True
        try:
            for frame in frames:
                ready = connection.write(frame)
        except (OSError, RuntimeError):
            self._broke_off(number)
        return None if ready else self._wait(number, line, connection)

    async def _wait(self, number: int, line: _Line, connection: Connection) -> bool:
        """Until the provider reads; `watch` sees to it that it does not last."""
        line.sending_since = time.monotonic()
        try:
            await connection.drained()
        except OSError:
            self._broke_off(number)
        finally:
            line.sending_since = None
        return True

    def _broke_off(self, number: int) -> None:
        failure = Failure(Kind.CONNECTION_LOST, "the provider's connection broke off")
        self._inbox.post(ConnectionFailed(number, failure))

    def drop(self, number: int) -> None:
        """Let go of one without waiting for it."""
        line = self._open.pop(number, None)
        if line is not None and line.task is not None:
            line.task.cancel()

    def watch(self, now: float) -> None:
        """Give up those that are stuck. To be called every BLOCKED_S / 2: so it costs nothing on
        the way of a frame."""
        for number, line in tuple(self._open.items()):
            since = line.sending_since
            if since is not None and now - since > BLOCKED_S:
                line.sending_since = None
                failure = Failure(Kind.TIMEOUT, "the provider does not read what it is sent")
                self._inbox.post(ConnectionFailed(number, failure))
                if line.connection is not None:
                    line.connection.abort()
