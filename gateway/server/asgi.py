"""Thin helpers over ASGI: headers, JSON answers, and one side of a WebSocket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from gateway.runtime.loop import Inbox
from gateway.server.websocket import EXTENSION, WebSocketProtocol
from gateway.upstreams.errors import Failure, error_body
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


class BodyTooLargeError(Exception):
    """A request's body exceeds its bound."""


class ClientLeftError(Exception):
    """The client went away before its request was whole."""


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """The whole request body. Raises BodyTooLargeError past `bytes_max`, ClientLeftError."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > bytes_max:
            raise BodyTooLargeError
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise BodyTooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


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


async def refuse(scope: Scope, send: Send, failure: Failure) -> None:
    """Answer `failure`: an HTTP error, for a WebSocket before its upgrade completes."""
    body = orjson.dumps(error_body(failure))
    headers = failure_headers(failure)
    if scope["type"] == "http":
        await answer(send, failure.status, body, headers)
        return
    headers.append((b"content-length", str(len(body)).encode()))
    await send(
        {"type": "websocket.http.response.start", "status": failure.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": body})


class _Pour:
    """Puts messages into an inbox as they come from the socket; while that is full, the socket is
    read no further, and what one read had brought waits here."""

    __slots__ = ("_direct", "_draining", "_inbox", "_waiting")

    def __init__(self, inbox: Inbox[Any], direct: WebSocketProtocol) -> None:
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

    __slots__ = ("_direct", "_receive", "_send", "gone")

    def __init__(self, receive: Receive, send: Send, scope: Scope | None = None) -> None:
        self._receive = receive
        self._send = send
        self._direct: WebSocketProtocol | None = None
        if scope is not None:
            self._direct = scope.get("extensions", {}).get(EXTENSION)
        self.gone = False

    async def accept(self) -> bool:
        """Complete the upgrade; False if the client has gone already."""
        if (await self._receive())["type"] != "websocket.connect":
            return False
        await self._send({"type": "websocket.accept"})
        return True

    async def listen(self, inbox: Inbox[Any]) -> None:
        """Put every message into `inbox` (waiting while it is full), then Left."""
        if self._direct is not None:
            pour = _Pour(inbox, self._direct)
            self._direct.pour(pour.take)
            try:
                await self._listen(inbox, pour)
            finally:
                pour.end()
        else:
            await self._listen(inbox, None)

    async def _listen(self, inbox: Inbox[Any], pour: _Pour | None) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.gone = True
                if pour is not None:
                    await pour.drained()
                inbox.post(ClientLeft(message.get("code") or 1005))
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


async def gather_until_first(*tasks: asyncio.Task[None]) -> None:
    """Wait until one of `tasks` ends, cancel and await the others, raise what it raised."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
            raise result
