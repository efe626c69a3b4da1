"""The server's side of HTTP/1, for uvicorn.Config(http=...).

uvicorn's protocol on httptools sets no bound on what comes before a request is complete, and it
parses all that one read of the socket brought before any other connection gets its turn. Here the
head of a request is bounded in bytes, lines and time, and a connection is parsed a slice at a
time. What is refused is answered in OpenAI's form, and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.upstreams.errors import Failure, Kind, error_body

HEAD_BYTES_MAX: Final = 64 << 10
"""URL and header lines of a request together, to the next slice. Tokens are the longest that
clients send, some KB."""

URL_BYTES_MAX: Final = 8 << 10
"""URL of a request; the longest of ours has some hundred bytes. nginx's bound too."""

HEADERS_MAX: Final = 128
"""Header lines of a request; websockets' bound for a handshake too."""

HEAD_S: Final = 10.0
"""From the beginning of a connection, and from the first byte of a request, to the end of its
head. Clients send a head in one piece; a connection that waits holds a file descriptor."""

SLICE_BYTES: Final = 16 << 10
"""So much of a connection is parsed in one turn of the event loop, unless it is body of a known
length, which is only copied. The worst slice (900 requests without headers) takes some 10 ms; one
read brings 256 KB, and without a pause one turn reads 8 MB."""

LINGER_S: Final = 1.0
"""After a refusal the connection stays so long, unread: to close it at once while the client still
sends would take the answer back (TCP reset)."""


class RefusedError(Exception):
    """The request is refused. Raised in a callback of the parser, to stop it."""

    def __init__(self, status: int, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


class _Flow(FlowControl):
    """Reads the socket unless the application has enough, or the parser is not done with what was
    read."""

    def __init__(self, transport: asyncio.Transport, go_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self.full = False  # the application has enough
        self._held = False
        self._go_on = go_on

    def pause_reading(self) -> None:
        self.full = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self.full = False
        if self._held:
            self._go_on()
        else:
            super().resume_reading()

    def hold(self) -> None:
        """The parser is behind."""
        self._held = True
        super().pause_reading()

    def release(self) -> None:
        """It has caught up."""
        self._held = False
        if not self.full:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """One connection. Refuses with 431 (headers), 414 (URL), 408 (time) and 400 (no HTTP)."""

    flow: _Flow

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._rest = bytearray()  # read and not parsed
        self._scheduled = False
        self._over = False  # nothing more is parsed
        self._in_head = False
        self._in_body = False
        self._body_left = 0  # of a body whose length is known
        self._overhead = 0  # bytes since the last end of a request, head or piece of a body
        self._header_count = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._later)
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._unset_keepalive_if_required()
        used = 0
        if not self._rest and not self.pipeline:
            used = self._feed(data)
        if used < len(data) and not self._over:
            self._rest += memoryview(data)[used:]
            self.flow.hold()
            self._later()

    # -- slices

    def _later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Parse a slice of what waits, unless requests wait to be answered, or a body for the
        application to read it: both call again."""
        self._scheduled = False
        if self._over or self.pipeline or self.flow.full:
            return
        used = self._feed(self._rest)
        del self._rest[:used]
        if self._rest:
            self._later()
        else:
            self.flow.release()

    def _feed(self, data: bytes | bytearray) -> int:
        """Parse a slice; how long it was."""
        size = max(SLICE_BYTES, min(len(data), self._body_left))
        piece = bytes(data) if size >= len(data) else bytes(data[:size])
        self._overhead += len(piece)
        try:
            self.parser.feed_data(piece)
            if self._overhead > HEAD_BYTES_MAX:
                raise _too_large(431, f"the headers are longer than {HEAD_BYTES_MAX} bytes")
        except httptools.HttpParserUpgrade:
            if self.cycle is not None and not self.cycle.response_complete:
                # the other protocol would write into the middle of an answer
                self._refuse(RefusedError(400, Kind.BAD_REQUEST, "an upgrade cannot be pipelined"))
            elif self._should_upgrade():
                self._over = True  # what comes next is for the other protocol
                self.flow.release()
                self.handle_websocket_upgrade()
            return len(data)
        except RefusedError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, RefusedError):
                cause = RefusedError(400, Kind.BAD_REQUEST, "this is not a valid HTTP request")
            self._refuse(cause)
        else:
            if self._timer is None and not self._in_body and (self._in_head or self._overhead):
                self._timer = self.loop.call_later(HEAD_S, self._too_slow)
        return len(piece)

    # -- what the parser says

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._header_count = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            raise _too_large(414, f"the URL is longer than {URL_BYTES_MAX} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1  # those after a body count too
        if self._header_count > HEADERS_MAX:
            raise _too_large(431, f"there are more than {HEADERS_MAX} headers")
        super().on_header(name, value)
        if name.lower() == b"content-length":
            self._body_left = int(value)  # the parser has looked at it

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._in_body = False, True
        self._overhead = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._body_left = 0
        self._overhead = 0
        super().on_message_complete()

    # -- refusals

    def send_400_response(self, msg: str) -> None:
        """What uvicorn would answer as text."""
        self._refuse(RefusedError(400, Kind.BAD_REQUEST, msg))

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # a request waits behind another; it is not slow
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)
        elif self._in_head:
            message = f"the headers did not come within {HEAD_S:g} s"
            self._refuse(RefusedError(408, Kind.IDLE, message))
        else:
            self._over = True
            self.transport.close()

    def _refuse(self, refused: RefusedError) -> None:
        """Answer, if it is this request's turn, and close."""
        self._over = True
        self._stop_timer()
        self._rest.clear()
        waiting = self.cycle is not None and not self.cycle.response_complete
        if waiting and (not self._in_body or self.pipeline or self.cycle.response_started):
            self.transport.close()
            return
        body = orjson.dumps(error_body(Failure(refused.kind, refused.message)))
        self.transport.write(
            STATUS_LINE[refused.status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        if waiting:  # its application learns that nobody listens
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.pause_reading()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _too_large(status: int, message: str) -> RefusedError:
    return RefusedError(status, Kind.TOO_LARGE, message)
