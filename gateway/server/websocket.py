"""The server's side of a WebSocket, for uvicorn.Config(ws=...).

websockets' sans-I/O `ServerProtocol` does the handshake, control frames, fragments and mistakes; a
whole, masked, unfragmented data frame, which is nearly all that comes, is cut off here and handed
on without it. What uvicorn asks of this class is the constructor, `shutdown`, and that it keeps
`server_state` up to date; it feeds it the request that it has read already.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import uvicorn
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import SecurityError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.server.addresses import endpoint
from gateway.upstreams.bounds import Bound

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets was installed without its C extension

    def apply_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
        """`data` xor the 4 bytes of `mask`, repeated."""
        size = len(data)
        key = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


_logger = logging.getLogger(__name__)

EXTENSION: Final = "parley.direct"
"""Under this name an ASGI scope offers the connection to an application that wants its messages
as they arrive."""

WAITING_MAX: Final = 16
"""Messages that wait for the application; then the socket is read no further."""

LONG_BYTES: Final = 1 << 16
"""After a message of this length the socket is not read before the message is."""

FRAMES_PER_TURN: Final = 64
"""Frames of one connection that are handled in one turn of the event loop. One read can bring
300,000 empty frames, some seconds of work: the rest waits, so that other connections get their
turn."""

FRAGMENTS_MAX: Final = 1024
"""Fragments of one message. Their bytes are bounded by `ws_max_size`; this bounds empty ones."""

CLOSE_S: Final = 10.0
"""How long a closing handshake, and the sending of what is still buffered, may take."""

LINGER_S: Final = 1.0
"""After a mistake of the client, what it still sends is read and thrown away for so long: to close
at once would take our close frame, and with it the reason, back (TCP reset)."""

REASON_BYTES_MAX: Final = 123
"""Of a close frame's 125 bytes, 2 are the code."""

_TEXT, _BINARY, _PING, _PONG = 0x81, 0x82, 0x89, 0x8A  # with the bit that says that it is whole
_MASKED: Final = 0x80
_CONTROL_BYTES_MAX: Final = 125
_REQUEST_END: Final = b"\r\n\r\n"
_TEXT_HEAD_2: Final = struct.Struct("!BBH")
_TEXT_HEAD_8: Final = struct.Struct("!BBQ")

Sink = Callable[[str | bytes], bool]
"""Takes a message; False: no more before `go_on`."""


def cut_reason(reason: str) -> str:
    """`reason`, cut between two characters so that a close frame can hold it."""
    return reason.encode(errors="replace")[:REASON_BYTES_MAX].decode(errors="ignore")


class ClientGoneError(ConnectionError):
    """The client's connection has ended; nothing can be sent."""


class WebSocketProtocol(asyncio.Protocol):
    """One connection: an ASGI application's task and the socket that it talks to.

    The disconnect message has the code of the close frame, 1005 if that had none, or 1006 if the
    connection ended without one. `send` raises ClientGoneError (an OSError) after the end.
    """

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
        self._conn = ServerProtocol(max_size=config.ws_max_size)
        self._bytes_max = config.ws_max_size
        self._transport: asyncio.Transport

        self._upgrade: Response | None = None  # the answer that completes it
        self._denial: tuple[int, Headers, bytearray] | None = None  # the answer in its place
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sink: Sink | None = None

        self._buffer = bytearray()  # what waits; it begins where a frame begins
        self._wanted = 2  # length of the buffer from which on there is something to do
        self._more = False  # there is already, in the next turn
        self._scheduled = False
        self._fragments: list[
            bytes | bytearray | memoryview
        ] = []  # of a message whose end has not come
        self._is_text = False

        self._held = False  # the sink takes no more
        self._full = False  # the application has not read what came
        self._paused = False  # hence the socket is not read
        self._writable = asyncio.Event()
        self._writable.set()
        self._told = False  # the application has been told of the end
        self._ended = False  # no more frames are read
        self._lost = False
        self._ping_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self.blocked_s: float | None = None
        """A send that waits so long for the client to read cuts the connection."""

    # -- for an application that wants its messages at once

    def pour(self, sink: Sink) -> None:
        """From now on messages go to `sink` when they come, in place of `receive`, which then
        only tells of the end."""
        self._sink = sink

    def go_on(self) -> None:
        """`sink` takes messages again."""
        self._held = False
        self._balance()

    def abort(self) -> None:
        """Cut the connection: what is buffered is not sent, a send that waits fails."""
        self._transport.abort()

    def reached(self, bound: Bound) -> None:
        """The client has come to `bound`. For who counts them."""

    # -- from uvicorn and the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(cast(Any, self))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._server.connections.discard(cast(Any, self))
        for timer in (self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._tell_end(1006)
        self._writable.set()  # who waits to send learns that nobody will read it

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def shutdown(self) -> None:
        """The server ends."""
        if self._conn.state is State.OPEN:
            self._conn.send_close(1012)
            self._flush()
            self._tell_end(1012)
            self._hang_up()
        elif self._conn.state is State.CONNECTING and not self._told:
            self._answer(self._conn.reject(503, "this server is shutting down\n"))
        else:
            self._hang_up()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._conn.state is State.CONNECTING:
            self._buffer += data
            if self._upgrade is None:
                self._read_request()
            else:  # too early: frames are read after the upgrade
                self._more = True
                self._balance()
        elif self._buffer:
            self._buffer += data
            if not self._more and len(self._buffer) >= self._wanted:
                self._read_buffer()
        else:
            used = self._read_frames(data)
            if used < len(data):
                self._buffer += memoryview(data)[used:]
            if self._more or self._held or self._full:
                self._balance()

    # -- the handshake

    def _read_request(self) -> None:
        end = self._buffer.find(_REQUEST_END) + len(_REQUEST_END)
        if end < len(_REQUEST_END):
            return
        self._conn.receive_data(self._buffer[:end])
        del self._buffer[:end]
        events = self._conn.events_received()
        if not events:
            self._answer(None)
            return
        assert isinstance(events[0], Request)
        response = self._conn.accept(events[0])
        if response.status_code != 101:
            self._answer(response)
            return
        self._upgrade = response
        self._more = bool(self._buffer)
        self._balance()
        self._messages.put_nowait({"type": "websocket.connect"})
        task = self._loop.create_task(self._run(self._scope(events[0])))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _scope(self, request: Request) -> dict[str, Any]:
        root = self._config.root_path
        path, _, query = request.path.partition("?")
        offered = request.headers.get_all("Sec-WebSocket-Protocol")
        extra = self._transport.get_extra_info
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if extra("sslcontext") else "ws",
            "server": endpoint(extra("sockname")),
            "client": endpoint(extra("peername")),
            "root_path": root,
            "path": root + unquote(path),
            "raw_path": (root + path).encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [
                (name.lower().encode("ascii"), value.encode("latin-1"))
                for name, value in request.headers.raw_items()
            ],
            "subprotocols": [name.strip() for value in offered for name in value.split(",")],
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }

    def _answer(self, response: Response | None) -> None:
        """Answer the handshake with anything but an upgrade, and hang up. None: websockets could
        not read the request."""
        if response is not None:
            self._conn.send_response(response)
        output = b"".join(self._conn.data_to_send())
        if not output:  # websockets says nothing to a body, before version 17 to no mistake
            error = self._conn.handshake_exc
            reason = (error.__cause__ if error is not None else None) or error
            status = 431 if isinstance(reason, SecurityError) else 400
            text = f"this WebSocket handshake cannot be read: {reason}\n"
            output = self._conn.reject(status, text).serialize()
        self._transport.write(output)
        self._ended = True
        self._tell_end(1006)
        self._hang_up()

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
        except ClientGoneError:
            pass
        except Exception:
            _logger.exception("internal error", extra={"path": scope["path"]})
        finally:
            if self._conn.state is State.CONNECTING and not self._told:
                self._answer(self._conn.reject(500, "internal error\n"))
            elif self._close_timer is None:
                self._hang_up()

    # -- frames

    def _read_frames(self, data: bytes | bytearray) -> int:
        """Handle the frames of one turn; how many bytes they were."""
        at, have = 0, len(data)
        self._more = False
        self._wanted = 2
        for _ in range(FRAMES_PER_TURN):
            if have - at < 2:
                return at
            first, size = data[at], data[at + 1]
            if size < _MASKED:
                self._fail(1002, "a frame is not masked")
                return have
            size -= _MASKED
            body = at + 6
            if size == 126:
                body += 2
            elif size == 127:
                body += 8
            if have >= body:
                if size == 126:
                    size = int.from_bytes(data[at + 2 : at + 4], "big")
                elif size == 127:
                    size = int.from_bytes(data[at + 2 : at + 10], "big")
                if size > self._bytes_max:
                    self.reached(Bound.MESSAGE_BYTES)
                    self._fail(1009, f"a message is longer than {self._bytes_max} bytes")
                    return have
            end = body + size
            if have < end:
                self._wanted = end - at
                return at
            if first in (_TEXT, _BINARY) and not self._fragments:
                payload = apply_mask(data[body:end], data[body - 4 : body])
                self._take(payload, first == _TEXT)
            else:
                self._take_odd(first, data[at:end])
            if self._ended:
                return have
            at = end
        self._more = at < have
        return at

    def _take_odd(self, first: int, frame: bytes | bytearray) -> None:
        """A control frame, a fragment or a mistake, by way of websockets' parser."""
        unanswered = first == _PONG or (first == _PING and not self._writable.is_set())
        if unanswered and frame[1] - _MASKED <= _CONTROL_BYTES_MAX:
            return  # a client that does not read gets no pongs: they would pile up
        self._conn.receive_data(frame)
        for event in self._conn.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._is_text = event.opcode is Opcode.TEXT
            elif event.opcode is not Opcode.CONT:
                continue
            self._fragments.append(event.data)
            if event.fin:
                message, self._fragments = b"".join(self._fragments), []
                self._take(message, self._is_text)
            elif len(self._fragments) >= FRAGMENTS_MAX:
                self.reached(Bound.MESSAGE_FRAGMENTS)
                self._fail(1009, f"a message has more than {FRAGMENTS_MAX} fragments")
        failed = self._conn.parser_exc is not None
        close = self._conn.close_sent if failed else self._conn.close_rcvd
        if close is not None and not self._ended:
            if failed and close.code == 1009:
                self.reached(Bound.MESSAGE_BYTES)
            self._end(close.code, close.reason, lingers=failed)
        self._flush()

    def _take(self, data: bytes, is_text: bool) -> None:
        """A whole message."""
        if self._told:
            return
        message: str | bytes = data
        if is_text:
            try:
                message = data.decode()
            except UnicodeDecodeError:
                self._fail(1007, "a text message is not UTF-8")
                return
        if self._sink is not None:
            if not self._sink(message):
                self._held = True
            return
        self._messages.put_nowait(
            {"type": "websocket.receive", "text" if is_text else "bytes": message}
        )
        if self._messages.qsize() >= WAITING_MAX or len(data) >= LONG_BYTES:
            self._full = True

    def _turn(self) -> None:
        self._scheduled = False
        if not (self._held or self._full or self._ended):
            self._read_buffer()

    def _read_buffer(self) -> None:
        used = self._read_frames(self._buffer)
        del self._buffer[:used]
        self._balance()

    def _balance(self) -> None:
        """Read the socket, or not, and arrange the next turn."""
        if self._ended or self._lost or self._transport.is_closing():
            return
        wait = self._held or self._full or self._conn.state is State.CONNECTING
        if self._more and not wait and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        pause = self._held or self._full or self._more
        if pause != self._paused:
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # -- the end

    def _fail(self, code: int, reason: str) -> None:
        """The client has made a mistake."""
        self._conn.fail(code, reason)
        self._end(code, reason, lingers=True)

    def _end(self, code: int, reason: str = "", *, lingers: bool = False) -> None:
        self._ended = True
        self._tell_end(code, reason)
        self._flush()
        if lingers:
            self._linger()
        else:
            self._hang_up()
        self._writable.set()  # what waits to be sent will not be

    def _linger(self) -> None:
        if self._close_timer is not None or self._lost:
            return
        self._close_timer = self._loop.call_later(LINGER_S, self._lingered)
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _lingered(self) -> None:
        self._close_timer = None
        self._hang_up()

    def _tell_end(self, code: int, reason: str = "") -> None:
        if not self._told:
            self._told = True
            self._messages.put_nowait(
                {"type": "websocket.disconnect", "code": code, "reason": reason}
            )

    def _hang_up(self) -> None:
        """Close the transport once all is sent, or cut it after CLOSE_S."""
        self._transport.close()
        if not self._lost:
            self._abort_later()

    def _abort_later(self) -> None:
        if self._close_timer is None:
            self._close_timer = self._loop.call_later(CLOSE_S, self._transport.abort)

    # -- ASGI

    async def receive(self) -> dict[str, Any]:
        """The next message for the application."""
        message = await self._messages.get()
        if self._full and self._messages.empty():
            self._full = False
            self._balance()
        return message

    async def send(self, message: Any) -> None:
        """Send what the application says; waits while the client does not read."""
        if not self._writable.is_set():
            await self._until_writable()
        if self._lost:
            raise ClientGoneError
        kind = message["type"]
        if self._conn.state is State.OPEN:
            if kind == "websocket.send":
                data = message.get("bytes")
                if data is not None:
                    self._conn.send_binary(data)
                else:
                    self._conn.send_text(message["text"].encode())
                self._flush()
            elif kind == "websocket.close":
                self._close(message.get("code", 1000), message.get("reason") or "")
            else:
                raise RuntimeError(f"{kind} after the upgrade")
        elif self._conn.state is State.CONNECTING and not self._told:
            self._send_answer(kind, message)
        else:
            raise ClientGoneError

    def send_text(self, text: str) -> bool:
        """Send a message at once; False, where `send` would wait or raise."""
        if self._lost or self._conn.state is not State.OPEN or not self._writable.is_set():
            return False
        payload = text.encode()
        size = len(payload)
        if size < 126:
            head = bytes((_TEXT, size))
        elif size < 1 << 16:
            head = _TEXT_HEAD_2.pack(_TEXT, 126, size)
        else:
            head = _TEXT_HEAD_8.pack(_TEXT, 127, size)
        self._transport.write(head + payload)
        return True

    async def _until_writable(self) -> None:
        if self.blocked_s is None:
            await self._writable.wait()
            return
        timer = self._loop.call_later(self.blocked_s, self._cut_blocked)
        try:
            await self._writable.wait()
        finally:
            timer.cancel()

    def _cut_blocked(self) -> None:
        self.reached(Bound.SLOW_READER)
        self._transport.abort()

    def _send_answer(self, kind: str, message: Any) -> None:
        """The application's answer to the handshake."""
        assert self._upgrade is not None
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in message.get("headers", ())
        )
        if kind == "websocket.accept":
            self._upgrade.headers.update(headers)
            if (subprotocol := message.get("subprotocol")) is not None:
                self._upgrade.headers["Sec-WebSocket-Protocol"] = subprotocol
            self._conn.send_response(self._upgrade)
            self._flush()
            self._keep_alive()
            self._balance()
        elif kind == "websocket.close":
            self._answer(self._conn.reject(403, ""))
        elif kind == "websocket.http.response.start" and self._denial is None:
            self._denial = (message["status"], headers, bytearray())
        elif kind == "websocket.http.response.body" and self._denial is not None:
            status, headers, body = self._denial
            body += message.get("body", b"")
            if not message.get("more_body", False):
                headers.setdefault("Content-Length", str(len(body)))
                headers.setdefault("Connection", "close")
                self._answer(Response(status, HTTPStatus(status).phrase, headers, bytes(body)))
        else:
            raise RuntimeError(f"{kind} before the upgrade")

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; what the client says until its end is not heard."""
        self._conn.send_close(code, cut_reason(reason))
        self._flush()
        self._tell_end(code, reason)
        self._abort_later()
        self._held = self._full = False
        self._balance()

    def _flush(self) -> None:
        output = self._conn.data_to_send()
        if output and not self._lost:
            self._transport.write(b"".join(output))

    def _keep_alive(self) -> None:
        """Ping now and then, so that no proxy takes the connection for dead. Pongs are not waited
        for: clients do not answer on the connections that they keep for later."""
        interval_s = self._config.ws_ping_interval
        if interval_s:
            self._ping_timer = self._loop.call_later(interval_s, self._ping)

    def _ping(self) -> None:
        if self._conn.state is State.OPEN and not self._transport.is_closing():
            if self._writable.is_set():
                self._conn.send_ping(b"")
                self._flush()
            self._keep_alive()
