"""HTTP/1.1 as a server speaks it: bytes to requests, answers to bytes. No socket, no clock.

httptools' parser sets no bound on what comes before a request is complete, and takes whatever it
is given at once. Here the head of a request is bounded in bytes and lines, and a stream is parsed
a slice at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Final

import httptools

from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Kind

HEAD_BYTES_MAX: Final = 64 << 10
"""URL and header lines of a request together, to the next slice. Tokens are the longest that
clients send, some KB."""

URL_BYTES_MAX: Final = 8 << 10
"""URL of a request; the longest of ours has some hundred bytes. nginx's bound too."""

HEADERS_MAX: Final = 128
"""Header lines of a request; websockets' bound for a handshake too."""

SLICE_BYTES: Final = 16 << 10
"""So much of a stream is parsed at a time, unless it is body of a known length, which is only
copied. The worst slice (900 requests without headers) takes some 10 ms; one read of a socket
brings 256 KB, and without slices one turn of the event loop would parse 8 MB."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = Iterable[tuple[bytes, bytes]]

_NOT_A_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]|^$")
_NOT_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_BODY: Final = (204, 304)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 600)}


@dataclass(frozen=True, slots=True)
class Head:
    """A request begins. Names of `headers` are in lower case; `query` is what stands after `?`."""

    method: str
    url: bytes
    path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    """Whether another request may come on the same connection."""

    expects_continue: bool
    """The client waits for `CONTINUE` before it sends the body."""

    def to_bytes(self) -> bytes:
        lines = b"".join(b"%b: %b\r\n" % header for header in self.headers)
        first = f"{self.method} ".encode() + self.url + f" HTTP/{self.version}\r\n".encode()
        return first + lines + b"\r\n"


class End(Enum):
    """A request is complete."""

    END = "end"


END: Final = End.END


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The client asks for the WebSocket protocol: what comes next is not HTTP."""

    head: Head


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came is no request, or exceeds a bound: nothing more is read."""

    status: int
    kind: Kind
    message: str
    bound: Bound | None = None


Event = Head | bytes | End | Upgrade | Refusal
"""What a client said; bytes are a piece of a body."""


class _RefusedError(Exception):
    """Raised in a callback of the parser, to stop it."""


class RequestReader:
    """Reads the requests of one connection. Refuses with 431 (headers), 414 (URL), 505 (version)
    and 400. Without `upgrades` a WebSocket handshake is a request like others."""

    def __init__(self, *, upgrades: bool = True) -> None:
        self._upgrades = upgrades
        self._parser = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._refusal: Refusal | None = None
        self._over = False
        self._in_head = False
        self._overhead = 0  # bytes since the last end of a request, head or piece of a body
        self._body_left = 0  # of a body whose length is known
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_count = 0
        self._upgrading: Head | None = None
        self._keep_alive = True

    @property
    def begun(self) -> bool:
        """Whether the head of a request has come in part."""
        return self._in_head

    @property
    def between(self) -> bool:
        """Whether nothing of a request has come since the last one was complete."""
        return not (self._in_head or self._overhead)

    def read(self, data: bytes | bytearray) -> tuple[list[Event], int]:
        """Parse a slice of `data`: what it says, and how long it was."""
        if self._over:
            return [], len(data)
        used = max(SLICE_BYTES, min(len(data), self._body_left))
        piece = bytes(data) if used >= len(data) else bytes(data[:used])
        used = len(piece)
        self._overhead += used
        events: list[Event] = []
        self._events = events
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as reached:
            used = self._upgrade(reached.args[0])
        except httptools.HttpParserError:
            if self._refusal is None and not self._over:
                message = "this is not a valid HTTP request"
                self._refusal = Refusal(400, Kind.BAD_REQUEST, message)
        if self._overhead > HEAD_BYTES_MAX and self._refusal is None:
            message = f"the headers are longer than {HEAD_BYTES_MAX} bytes"
            self._refusal = Refusal(431, Kind.TOO_LARGE, message, Bound.HEAD_BYTES)
        if self._refusal is not None and not self._over:
            self._over = True
            events.append(self._refusal)
        return events, used

    def _upgrade(self, offset: int) -> int:
        """The parser stopped at the end of a head; how much of the slice was read."""
        head, self._upgrading = self._upgrading, None
        assert head is not None
        wanted = [value.lower() for name, value in head.headers if name == b"upgrade"]
        if self._upgrades and wanted == [b"websocket"]:
            self._over = True
            self._events.append(Upgrade(head))
            return offset
        # Any other is ignored, as it may be. httptools skips the body of such a request, so its
        # head is read once more without the wish.
        headers = [header for header in head.headers if header[0] != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(replace(head, headers=headers).to_bytes())
        return offset

    def _refuse(
        self, status: int, kind: Kind, message: str, bound: Bound | None = None
    ) -> _RefusedError:
        self._refusal = Refusal(status, kind, message, bound)
        return _RefusedError(message)

    # -- what the parser says

    def on_message_begin(self) -> None:
        if self._over:
            raise _RefusedError
        self._in_head = True
        self._url = b""
        self._headers = []
        self._header_count = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > URL_BYTES_MAX:
            message = f"the URL is longer than {URL_BYTES_MAX} bytes"
            raise self._refuse(414, Kind.TOO_LARGE, message, Bound.URL_BYTES)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1  # those after a body count too
        if self._header_count > HEADERS_MAX:
            message = f"there are more than {HEADERS_MAX} headers"
            raise self._refuse(431, Kind.TOO_LARGE, message, Bound.HEAD_LINES)
        if self._in_head:  # what stands behind a body says nothing about the request
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        head = self._head()
        self._in_head = False
        self._overhead = 0
        if self._parser.should_upgrade():
            self._upgrading = head
        else:
            self._events.append(head)
            self._keep_alive = head.keep_alive

    def _head(self) -> Head:
        method = self._parser.get_method().decode("ascii")
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._refuse(505, Kind.BAD_REQUEST, "HTTP/1.1 is spoken here")
        try:
            if method == "CONNECT":
                raise self._refuse(400, Kind.BAD_REQUEST, "this server is no proxy")
            url = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError:
            raise self._refuse(400, Kind.BAD_REQUEST, "this URL is not valid") from None
        expects_continue = False
        for name, value in self._headers:
            if name == b"content-length":
                self._body_left = int(value)  # the parser has looked at it
            elif name == b"expect":
                expects_continue = value.lower() == b"100-continue"
        return Head(
            method,
            self._url,
            url.path or b"/",
            url.query or b"",
            version,
            self._headers,
            version == "1.1" and self._parser.should_keep_alive(),
            expects_continue and version == "1.1",
        )

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._body_left = max(0, self._body_left - len(body))
        self._events.append(body)

    def on_message_complete(self) -> None:
        if self._upgrading is not None:
            return
        self._body_left = 0
        self._overhead = 0
        self._events.append(END)
        if not self._keep_alive:
            self._over = True  # what comes after the last request is nobody's


class Answer:
    """Writes the answer to one request. Raises RuntimeError if what is said does not make one."""

    def __init__(self, head: Head) -> None:
        self.keep_alive = head.keep_alive
        """Whether the connection serves another request after this one."""

        self.began = False
        self.complete = False
        self._is_head = head.method == "HEAD"
        self._may_chunk = head.version == "1.1"
        self._chunked = False
        self._left: int | None = None  # bytes of the body that must still come; None: any number

    def begin(self, status: int, headers: Headers) -> bytes:
        """Status line and headers. The body is chunked unless they say how long it is."""
        if self.began:
            raise RuntimeError("the answer has begun")
        lines = [_STATUS_LINES[status]]
        left: int | None = None
        chunked = False
        for name, value in headers:
            if _NOT_A_NAME.search(name) or _NOT_A_VALUE.search(value):
                raise RuntimeError(f"this is no header: {name!r}: {value!r}")
            lower = name.lower()
            if lower == b"content-length":
                left = int(value)
            elif lower == b"transfer-encoding":
                chunked = value.lower() == b"chunked"
                continue
            elif lower == b"connection":
                if b"close" in value.lower():
                    self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if status in _NO_BODY:
            left = 0
        elif self._is_head:
            chunked = False
        elif chunked or left is None:
            left = None
            chunked = self._may_chunk
            if not chunked:
                self.keep_alive = False  # its end is that of the connection
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self.began = True
        self._left, self._chunked = left, chunked
        return b"".join(lines)

    def body(self, data: bytes, more: bool) -> bytes:
        """A piece of the body; `more`: others follow."""
        if not self.began:
            raise RuntimeError("the answer has not begun")
        if self.complete:
            raise RuntimeError("the answer is complete")
        if self._chunked:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if not more:
                data += b"0\r\n\r\n"
        elif self._is_head:
            data = b""
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
            if self._left and not more:
                raise RuntimeError("the answer is shorter than its Content-Length")
        self.complete = not more
        return data


def last_answer(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole answer, after which the connection is closed."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        _STATUS_LINES[status],
        lines,
        len(body),
        body,
    )
