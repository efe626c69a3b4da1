"""The server's side of an HTTP/1 connection, for uvicorn.Config(http=...).

`http1.py` reads requests and writes answers; this is the socket and the application's task beside
them. What uvicorn asks of the class is the constructor, `shutdown`, and that it keeps
`server_state` up to date. A WebSocket handshake goes to the class of uvicorn.Config(ws=...).

A connection is parsed a slice in each turn of the event loop, so that others get theirs. What is
refused is answered in OpenAI's form, after what was asked before it, and the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import unquote

import orjson
import uvicorn
from uvicorn.server import ServerState

from gateway.server.addresses import endpoint
from gateway.server.http1 import (
    CONTINUE,
    Answer,
    End,
    Event,
    Head,
    Refusal,
    RequestReader,
    Upgrade,
    last_answer,
)
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, error_body

_logger = logging.getLogger(__name__)

HEAD_S: Final = 10.0
"""From the beginning of a connection, and from the first byte of a request, to the end of its
head. Clients send a head in one piece; a connection that waits holds a file descriptor."""

BODY_WAITING_BYTES: Final = 64 << 10
"""While the application has so much of a body to read, the socket is read no further."""

DISCARD_S: Final = 10.0
"""How long the rest of a body may come that was answered before it was complete. Clients read an
answer once they have sent all."""

LINGER_S: Final = 1.0
"""After an answer that ends the connection while the client may still send, it stays so long,
unread: to close it at once would take the answer back (TCP reset)."""

CLOSE_S: Final = 10.0
"""A closed connection whose client has read nothing of what is still buffered for so long is
cut."""

_JSON: Final = ((b"content-type", b"application/json"),)

EXCHANGE: Final = "parley.exchange"
"""Where a scope has the exchange itself: a body that is there need not be waited for, and a client
that leaves need not be waited for by a task."""


def _error(status: int, failure: Failure) -> bytes:
    return last_answer(status, _JSON, orjson.dumps(error_body(failure)))


class Exchange:
    """A request and its answer: what the application is called with."""

    __slots__ = (
        "_asked",
        "_body",
        "_connection",
        "_continue",
        "_ended",
        "_told",
        "_when_left",
        "answer",
        "gone",
        "scope",
    )

    def __init__(self, connection: HttpProtocol, scope: dict[str, Any], head: Head) -> None:
        self._connection = connection
        self.scope = scope
        scope["extensions"] = {EXCHANGE: self}
        self._when_left: Callable[[], None] | None = None
        self.answer = Answer(head)
        self.gone = False  # nobody will read the answer
        self._continue = head.expects_continue  # and has not been told to go on
        self._body: bytes | bytearray = b""  # so much of it waits for the application
        self._ended = False  # the body has come to its end
        self._told = False  # and the application knows
        self._asked = asyncio.Event()  # there is something for `receive`

    # -- from the connection

    @property
    def full(self) -> bool:
        return len(self._body) > BODY_WAITING_BYTES

    def take(self, piece: bytes) -> None:
        """A piece of the body."""
        self._continue = False
        if self.answer.complete:
            return
        if not self._body:
            self._body = piece
        else:  # not a list: a piece may be one byte
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece
        self._asked.set()

    def end(self) -> None:
        """The end of the body."""
        self._ended = True
        self._continue = False
        self._asked.set()

    def leave(self) -> None:
        """The client has gone."""
        self.gone = True
        self._asked.set()
        if self._when_left is not None:
            self._when_left()

    async def run(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            _logger.exception("internal error", extra={"path": self.scope["path"]})
        finally:
            if not (self.answer.complete or self.gone):
                self._connection.unanswered(self)
            self._when_left = None  # no circles: what it holds is freed at once
            del self.scope["extensions"]

    # -- to who knows more than ASGI

    def whole_body(self) -> bytes | None:
        """The body, if all of it is there and nothing of it was taken yet."""
        if not self._ended or self._told or self.gone:
            return None
        self._told = True
        body, self._body = bytes(self._body), b""
        self._connection.balance()
        return body

    def when_left(self, call: Callable[[], None]) -> None:
        """Have `call` called once if the client leaves before its answer is complete."""
        if self.gone:
            call()
        else:
            self._when_left = call

    # -- ASGI

    async def receive(self) -> dict[str, Any]:
        if self._continue:
            self._continue = False
            self._connection.write(CONTINUE)
        while not (self.gone or self.answer.complete):
            if self._body or (self._ended and not self._told):
                self._told = self._ended
                body, self._body = bytes(self._body), b""
                self._connection.balance()
                return {"type": "http.request", "body": body, "more_body": not self._ended}
            self._asked.clear()
            await self._asked.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Waits while the client does not read; once it is gone, nothing happens."""
        connection, answer = self._connection, self.answer
        if not connection.writable.is_set():
            await connection.writable.wait()
        if self.gone:
            return
        kind = message["type"]
        if kind == "http.response.body":
            output = answer.body(message.get("body", b""), message.get("more_body", False))
            if output:
                connection.write(output)
            if answer.complete:
                self._body = b""
                self._asked.set()
                connection.answered(self)
        elif kind == "http.response.start":
            if self._continue or connection.closing():  # a body that may never come, or the end
                answer.keep_alive = False
            connection.write(answer.begin(message["status"], message.get("headers", ())))
        else:
            raise RuntimeError(f"{kind} is nothing that an answer has")


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.client: tuple[str, int] | None = None
        self._peer: dict[str, Any] = {}  # what each scope says of the connection
        self.writable = asyncio.Event()  # what is buffered is little
        self.writable.set()

        self._reader = RequestReader(upgrades=config.ws_protocol_class is not None)
        self._rest = bytearray()  # read and not parsed
        self._unsent: list[bytes] = []  # said in this turn of the loop
        self._scheduled = False  # the next slice is
        self._paused = False  # the socket is not read
        self._over = False  # nothing more is parsed
        self._exchanges: deque[Exchange] = deque()  # the first is served, the others wait for it
        self._reading: Exchange | None = None  # whose request is not complete
        self._refusal: Refusal | None = None  # waits until the exchanges are over
        self._ends = False  # the server does
        self._timer: asyncio.TimerHandle | None = None
        self._arranged: tuple[float, Callable[..., None], tuple[Any, ...]]

    def closing(self) -> bool:
        """Whether no connection is to be kept after its answer."""
        return self._ends

    def reached(self, bound: Bound) -> None:
        """The client has come to `bound`. For who counts them."""

    # -- from uvicorn and the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(cast(Any, self))
        extra = transport.get_extra_info
        self.client = endpoint(extra("peername"))
        self._peer = {
            "scheme": "https" if extra("sslcontext") else "http",
            "server": endpoint(extra("sockname")),
            "client": self.client,
        }
        self._after(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(cast(Any, self))
        self._stop()
        self._unsent.clear()
        for exchange in self._exchanges:
            exchange.leave()
        self._exchanges.clear()
        self.writable.set()  # who waits to send learns that nobody will read it

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def shutdown(self) -> None:
        """The server ends."""
        self._ends = True
        if not self._exchanges:
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        used = 0
        if not self._rest and self._may_parse():
            used = self._parse(data)
        if used < len(data) and not self._over:
            self._rest += memoryview(data)[used:]
        self.balance()

    # -- requests

    def _may_parse(self) -> bool:
        """Whether no request waits for its turn, and no body for the application."""
        return len(self._exchanges) < 2 and not (self._reading is not None and self._reading.full)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._over and self._may_parse():
            used = self._parse(self._rest)
            del self._rest[:used]
        self.balance()

    def _parse(self, data: bytes | bytearray) -> int:
        """Handle a slice; how long it was."""
        events, used = self._reader.read(data)
        for event in events:
            if isinstance(event, Upgrade):
                self._upgrade(event, bytes(data[used:]))
                return len(data)
            self._handle(event)
        return used

    def _handle(self, event: Event) -> None:
        if isinstance(event, Head):
            self._stop_timer()
            self._reading = exchange = Exchange(self, self._scope(event), event)
            self._exchanges.append(exchange)
            if len(self._exchanges) == 1:
                self._serve(exchange)
        elif isinstance(event, Refusal):
            self._refuse(event)
        elif self._reading is not None:
            if isinstance(event, End):
                self._reading.end()
                self._reading = None
            elif isinstance(event, bytes):
                self._reading.take(event)

    def _scope(self, head: Head) -> dict[str, Any]:
        root = self._config.root_path
        path = head.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            **self._peer,
            "method": head.method,
            "root_path": root,
            "path": root + (unquote(path) if "%" in path else path),
            "raw_path": root.encode("ascii") + head.path,
            "query_string": head.query,
            "headers": head.headers,
            "state": self._app_state.copy(),
        }

    def _serve(self, exchange: Exchange) -> None:
        task = self._loop.create_task(exchange.run(self._config.loaded_app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _upgrade(self, upgrade: Upgrade, further: bytes) -> None:
        """Hand the connection to the WebSocket protocol."""
        if self._exchanges:  # it would write into the middle of an answer
            self._refuse(Refusal(400, Kind.BAD_REQUEST, "an upgrade cannot be pipelined"))
            return
        self._stop()
        self._set_paused(False)
        self._server.connections.discard(cast(Any, self))
        made = cast(Callable[..., asyncio.Protocol], self._config.ws_protocol_class)
        protocol = made(config=self._config, server_state=self._server, app_state=self._app_state)
        protocol.connection_made(self._transport)
        protocol.data_received(upgrade.head.to_bytes() + further)
        self._transport.set_protocol(protocol)

    def balance(self) -> None:
        """Read the socket, or not, and arrange what comes next."""
        if self._over or self._transport.is_closing():
            return
        may_parse = self._may_parse()
        if self._rest and may_parse and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        self._set_paused(bool(self._rest) or not may_parse)
        if self._reading is None and not self._reader.between:
            self._after(HEAD_S, self._too_slow)
        elif self._reading is not None and self._reading.answer.complete:
            self._after(DISCARD_S, self._close)
        elif self._exchanges:
            self._stop_timer()
        else:
            self._after(self._config.timeout_keep_alive, self._close)

    def _set_paused(self, paused: bool) -> None:
        if paused != self._paused and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # -- answers

    def write(self, output: bytes) -> None:
        """What is said in one turn of the loop goes to the socket in one piece: a head, a first
        piece and an end in three cost as much again as all that makes them."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(output)

    def _flush(self) -> None:
        if self._unsent:
            output = b"".join(self._unsent)
            self._unsent.clear()
            self._transport.write(output)

    def answered(self, exchange: Exchange) -> None:
        """The answer of the first exchange is complete."""
        self._server.total_requests += 1
        self._exchanges.popleft()
        if not exchange.answer.keep_alive or self._ends:
            self._exchanges.clear()
            self._hang_up()
        elif self._exchanges:
            self._serve(self._exchanges[0])
        elif self._refusal is not None:
            self._answer_refusal(self._refusal)
        self.balance()

    def unanswered(self, exchange: Exchange) -> None:
        """The application has ended before its answer has: on purpose, once that has begun."""
        if exchange.answer.began:
            self._stop()
            self._close()
        else:
            self.write(_error(500, Failure(Kind.INTERNAL, "internal error")))
            self._exchanges.clear()
            self._hang_up()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with it once it is its turn, and close."""
        if refusal.bound is not None:
            self.reached(refusal.bound)
        broken, self._reading = self._reading, None
        self._stop()
        self._set_paused(True)
        if broken is not None and broken in self._exchanges:
            broken.leave()
            self._exchanges.remove(broken)
            if broken.answer.began:
                self._close()
                return
        if self._exchanges:
            self._refusal = refusal
        else:
            self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        self.write(_error(refusal.status, Failure(refusal.kind, refusal.message)))
        self._hang_up(lingers=True)

    # -- time and the end

    def _too_slow(self) -> None:
        self._timer = None
        if self._exchanges:  # a request waits behind another; it is not slow
            self.balance()
        elif self._reader.begun:
            message = f"the headers did not come within {HEAD_S:g} s"
            self._refuse(Refusal(408, Kind.IDLE, message, Bound.HEAD_TIME))
        else:
            self.reached(Bound.HEAD_TIME)
            self._close()

    def _hang_up(self, *, lingers: bool = False) -> None:
        """Close once the client has had time to read the answer."""
        lingers = lingers or self._reading is not None
        self._stop()
        if lingers:
            self._set_paused(True)
            self._after(LINGER_S, self._close)
        else:
            self._close()

    def _stop(self) -> None:
        """Parse nothing more."""
        self._over = True
        self._rest.clear()
        self._stop_timer()

    def _close(self) -> None:
        """Close the connection once all is sent, or cut it if the client does not read."""
        self._stop()
        self._flush()
        self._transport.close()
        if unread := self._transport.get_write_buffer_size():
            self._after(CLOSE_S, self._cut, unread)

    def _cut(self, unread: int) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left == unread:
            self._transport.abort()
        else:
            self._after(CLOSE_S, self._cut, left)

    def _after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """Have it done later, in place of anything else; what is arranged already stays so."""
        if self._timer is not None:
            if self._arranged == (seconds, do, args):
                return
            self._timer.cancel()
        self._arranged = (seconds, do, args)
        self._timer = self._loop.call_later(seconds, do, *args)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
