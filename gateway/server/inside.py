"""Clients of this server that are inside of it: a session asks other routes for its parts.

They speak to a host as a socket's protocol does (ASGI), so all that a host and its route do for a
caller is done for them: failover, limits, usage, metrics, the line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.server.admission import RequestContext
from gateway.server.asgi import Message, Receive, Scope, Send
from gateway.server.host import ReplyHost, SocketHost

_logger = logging.getLogger(__name__)

WAITING_BYTES_MAX: Final = 8 << 20
"""What waits to be read by a route: two minutes of audio at 24 kHz, in base64. With more, the part
is too slow to be of use."""

_NOT_PASSED_ON: Final = frozenset(
    b"authorization content-length content-type connection upgrade transfer-encoding "
    b"x-livekit-inference-provider".split()
)
"""Headers of the session that mean nothing to its parts: a pin is for its own model."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a part ended. `status`: of a refusal before the upgrade, with its `body`; else 0, and the
    close code and reason. `code` of None: it was cut off."""

    status: int = 0
    body: bytes = b""
    code: int | None = None
    reason: str = ""


def _scope(whole: RequestContext, kind: str, path: str, model: str | None) -> Scope:
    headers = [
        (name, value)
        for name, value in whole.scope["headers"]
        if name not in _NOT_PASSED_ON and not name.startswith(b"sec-websocket-")
    ]
    query = b"" if model is None else b"model=" + quote(model, safe="").encode()
    return {
        "type": kind,
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": headers,
        "client": whole.scope.get("client"),
    }


_running: set[asyncio.Task[None]] = set()


class _Inside:
    """What both kinds have: messages that wait for the route, and a task that is the route."""

    def __init__(self, serve: Callable[[Receive, Send], Awaitable[None]]) -> None:
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._reader: asyncio.Future[None] | None = None
        self.over = False
        self._left = False
        self._serve = serve
        self.task: asyncio.Task[None] = asyncio.create_task(self._run())
        # who asked may forget it: the event loop alone does not keep a task alive
        _running.add(self.task)
        self.task.add_done_callback(_running.discard)

    async def _run(self) -> None:
        try:
            await self._serve(self._receive, self._send)
        except Exception:  # a fault of ours; the session goes on without this part
            _logger.exception("a part of a session failed")
        finally:
            self.over = True
            self._waiting.clear()
            self._room.set()
            if not self._left:
                self._ended()

    def _ended(self) -> None:
        """The route is done, and not because it was left."""
        raise NotImplementedError

    def _put(self, message: Message, size: int = 0) -> None:
        self._waiting.append(message)
        self._waiting_bytes += size
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._room.clear()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def _receive(self) -> Message:
        while not self._waiting:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        message = self._waiting.popleft()
        self._waiting_bytes -= len(message.get("text") or message.get("bytes") or b"")
        if self._waiting_bytes <= WAITING_BYTES_MAX:
            self._room.set()
        return message

    async def _send(self, message: Message) -> None:
        raise NotImplementedError


class InsideSocket(_Inside):
    """A WebSocket to a route. `hear` takes each message, and may return what is to be awaited
    before the next one; `closed` learns how it ended, unless it was left."""

    def __init__(
        self,
        host: SocketHost,
        whole: RequestContext,
        path: str,
        model: str | None,
        hear: Callable[[str | bytes], Awaitable[object] | None],
        closed: Callable[[Closed], None],
    ) -> None:
        self._hear = hear
        self._closed = closed
        self._how = Closed()
        scope = _scope(whole, "websocket", path, model)
        super().__init__(lambda receive, send: host.serve_part(whole, scope, receive, send))
        self._put({"type": "websocket.connect"})

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more should come before `drained`."""
        return self._waiting_bytes > WAITING_BYTES_MAX and not self.over

    async def drained(self) -> None:
        """It is no longer full."""
        while self.full:
            await self._room.wait()

    def say(self, message: str | bytes) -> None:
        """Send a message. Bounded by who sends: see `full`."""
        if self.over or self._left:
            return
        kind = "text" if isinstance(message, str) else "bytes"
        self._put({"type": "websocket.receive", kind: message}, len(message))

    def leave(self) -> None:
        """Close it: nothing more is heard."""
        if not self._left:
            self._left = True
            self._put({"type": "websocket.disconnect", "code": 1000})

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            if self._left:
                return
            text = message.get("text")
            waits = self._hear(message["bytes"] if text is None else text)
            if waits is not None:
                await waits
        elif kind == "websocket.close":
            self._how = Closed(code=message.get("code", 1000), reason=message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self._how = Closed(status=message["status"])
        elif kind == "websocket.http.response.body":
            self._how = Closed(status=self._how.status, body=message.get("body", b""))

    def _ended(self) -> None:
        self._closed(self._how)


class InsideRequest(_Inside):
    """A POST to a route whose answer is a stream. `hear` takes each piece of the body of a good
    answer; `ended` learns how it ended, unless it was left: `code` 1000 for a whole body."""

    def __init__(
        self,
        host: ReplyHost,
        whole: RequestContext,
        path: str,
        body: bytes,
        hear: Callable[[bytes], Awaitable[object] | None],
        ended: Callable[[Closed], None],
    ) -> None:
        self._hear = hear
        self._ended_with = ended
        self._status = 0
        self._body = b""
        self._whole_body = False
        scope = _scope(whole, "http", path, None)
        super().__init__(lambda receive, send: host.serve_part(whole, scope, receive, send))
        self._put({"type": "http.request", "body": body, "more_body": False})

    def leave(self) -> None:
        """The answer is no longer wanted."""
        if not self._left:
            self._left = True
            self._put({"type": "http.disconnect"})

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        self._whole_body = not message.get("more_body", False)
        body: Any = message.get("body", b"")
        if self._left or not body:
            return
        if self._status != 200:
            self._body = (self._body + body)[: 1 << 16]
            return
        waits = self._hear(body)
        if waits is not None:
            await waits

    def _ended(self) -> None:
        if self._status == 200:
            self._ended_with(Closed(code=1000 if self._whole_body else None))
        else:
            self._ended_with(Closed(status=self._status or 500, body=self._body))
