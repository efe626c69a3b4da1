"""Thin helpers over ASGI: headers, JSON answers, and one side of a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from gateway.runtime.loop import Gate, Inbox, Performed
from gateway.server.http import EXCHANGE, Exchange
from gateway.server.websocket import EXTENSION, WebSocketProtocol
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, error_body
from gateway.upstreams.events import Binary, ClientLeft, Text

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON_TYPE: Final[Header] = (b"content-type", b"application/json")

LABEL_CHARS_MAX: Final = 128
"""A longer identification header is cut: it goes to logs alone, but those are bounded too."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header called `name` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def query(scope: Scope) -> dict[str, str]:
    """The query parameters; of one that stands twice, the last."""
    parsed = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}


async def read_body(
    scope: Scope, receive: Receive, bytes_max: int, timeout_s: float
) -> bytes | Failure | None:
    """The whole request body, or why it is refused (408, 413), or None if the client left. One that
    says itself that it is too large is not waited for."""
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared[:20]) > bytes_max:
        return too_large(bytes_max)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_body(receive, bytes_max)
    except TimeoutError:
        message = f"the body did not come within {timeout_s:g} s"
        return Failure(Kind.IDLE, message, headers={"connection": "close"}, bound=Bound.BODY_TIME)


async def _read_body(receive: Receive, bytes_max: int) -> bytes | Failure | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            return too_large(bytes_max)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else bytes(part)
        parts.append(part)


def exchange_of(scope: Scope) -> Exchange | None:
    """The exchange of our own server, if the request came by it."""
    found: Exchange | None = scope.get("extensions", {}).get(EXCHANGE)
    return found


def too_large(bytes_max: int) -> Failure:
    return Failure(
        Kind.TOO_LARGE, f"the body is larger than {bytes_max} bytes", bound=Bound.BODY_BYTES
    )


async def answer(
    send: Send, status: int, body: bytes, headers: Iterable[Header] = (JSON_TYPE,)
) -> None:
    """One whole HTTP answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


def failure_headers(failure: Failure) -> list[Header]:
    """Headers of an error answer: JSON, and when to come back."""
    headers = [JSON_TYPE]
    if failure.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(failure.retry_after_s))).encode()))
    for name, value in (failure.headers or {}).items():
        headers.append((name.encode(), value.encode("latin-1", "replace")))
    if failure.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def refuse(
    scope: Scope, send: Send, failure: Failure, further: Sequence[Header] = ()
) -> None:
    """Answer `failure`: an HTTP error, for a WebSocket before its upgrade completes. `further`
    headers go with it. Silent once the client is gone."""
    body = orjson.dumps(error_body(failure))
    headers = [*failure_headers(failure), *further]
    if scope["type"] == "http":
        await answer(send, failure.status, body, headers)
        return
    headers.append((b"content-length", str(len(body)).encode()))
    with contextlib.suppress(OSError):
        await send(
            {"type": "websocket.http.response.start", "status": failure.status, "headers": headers}
        )
        await send({"type": "websocket.http.response.body", "body": body})


class _Pour:
    """Puts messages into an inbox as they come from the socket; while that is full, the socket is
    read no further, and what one read had brought waits here."""

    __slots__ = ("_direct", "_draining", "_inbox", "_waiting")

    def __init__(self, inbox: Inbox[Any] | Gate[Any], direct: WebSocketProtocol) -> None:
        self._inbox = inbox
        self._direct = direct
        self._waiting: deque[Text | Binary] = deque()
        self._draining: asyncio.Task[None] | None = None

    def take(self, message: str | bytes) -> bool:
        """Whether more may come."""
        event = Text(message) if isinstance(message, str) else Binary(message)
        if self._draining is None and not self._inbox.full:
            self._inbox.post(event)
            return True
        self._waiting.append(event)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return False

    async def _drain(self) -> None:
        while self._waiting:
            await self._inbox.put(self._waiting.popleft())
        self._draining = None
        self._direct.go_on()

    async def drained(self) -> None:
        """Nothing waits any more."""
        if self._draining is not None:
            await self._draining

    def end(self) -> None:
        """Nobody reads the inbox any more."""
        if self._draining is not None:
            self._draining.cancel()


class ClientSocket:
    """The client's WebSocket after its upgrade: a source of events and a place to say things."""

    __slots__ = ("_accept", "_direct", "_receive", "_send", "code", "gone")

    def __init__(
        self,
        receive: Receive,
        send: Send,
        scope: Scope,
        blocked_s: float | None = None,
        subprotocol: str | None = None,
    ) -> None:
        """`blocked_s`: a client that reads nothing for so long is cut off; `say` then returns.
        `subprotocol`: chosen if the client offers it."""
        self._accept: Message = {"type": "websocket.accept"}
        if subprotocol is not None and subprotocol in scope.get("subprotocols", ()):
            self._accept["subprotocol"] = subprotocol
        self._receive = receive
        self._send = send
        self._direct: WebSocketProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        if self._direct is not None:
            self._direct.blocked_s = blocked_s
        self.gone = False
        self.code: int | None = None
        """With which the client's end came; 1006: it was cut."""

    async def accept(self) -> bool:
        """Complete the upgrade; False if the client has gone already."""
        if (await self._receive())["type"] != "websocket.connect":
            return False
        try:
            await self._send(self._accept)
        except OSError:  # it went while others were asked whether it may come in
            return False
        return True

    def cut(self) -> None:
        """Cut the connection; that the client is gone comes as an event."""
        if self._direct is not None:
            self._direct.abort()

    async def listen(self, inbox: Inbox[Any] | Gate[Any]) -> None:
        """Put every message into `inbox` (waiting while it is full), then ClientLeft."""
        if self._direct is not None:
            pour = _Pour(inbox, self._direct)
            self._direct.pour(pour.take)
            try:
                await self._listen(inbox, pour)
            finally:
                pour.end()
        else:
            await self._listen(inbox, None)

    async def _listen(self, inbox: Inbox[Any] | Gate[Any], pour: _Pour | None) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.gone = True
                if isinstance(inbox, Gate):
                    inbox.open()  # nothing more comes that would have to be held back
                if pour is not None:
                    await pour.drained()
                self.code = message.get("code") or 1005
                inbox.post(ClientLeft(self.code))
                return
            text = message.get("text")
            if text is not None:
                await inbox.put(Text(text))
            else:
                await inbox.put(Binary(message["bytes"]))

    async def say(self, text: str) -> None:
        """Send one text message; waits while the client does not read. Silent once it is gone."""
        if self.gone:
            return
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError):
            self.gone = True

    def said(self, text: str) -> bool:
        """Whether the message was sent at once, or nobody is there for it; else `say` it."""
        return self.gone or (self._direct is not None and self._direct.send_text(text))

    def say_now(self, text: str) -> Performed:
        """As `say`, at once if the client reads."""
        return None if self.said(text) else self._say_later(text)

    async def _say_later(self, text: str) -> bool:
        await self.say(text)
        return True

    async def say_binary(self, data: bytes) -> None:
        """Send one binary message, as `say`."""
        if self.gone:
            return
        try:
            await self._send({"type": "websocket.send", "bytes": data})
        except (OSError, RuntimeError):
            self.gone = True

    async def close(self, code: int, reason: str = "") -> None:
        """Close with `code`; silent once the client is gone."""
        if self.gone:
            return
        self.gone = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            return
