"""The server's side of a WebSocket: uvicorn's, with a short way for the messages of every moment.

uvicorn leads each message through a parser of generators, stops and starts its socket for it (two
system calls), and has a task fetch it. A whole, masked, unfragmented data frame needs none of that;
all else (handshake, control frames, fragments, mistakes) is still uvicorn's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # C, where built
from websockets.protocol import State

EXTENSION: Final = "parley.direct"
"""Under this name an ASGI scope offers the connection to who wants its messages at once."""

WAITING_MAX: Final = 16
"""Messages that wait for the application; then the socket is read no further."""

LONG_BYTES: Final = 1 << 16
"""After a message of this length the socket is not read before the message is."""

_TEXT, _BINARY = 0x81, 0x82  # with the bit that says that it is the whole message
_MASKED: Final = 0x80
_HEAD_BYTES_MIN: Final = 6
"""Two bytes and the mask."""

Sink = Callable[[str | bytes], bool]
"""Takes a message; False: no more before `go_on`."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. For uvicorn.Config(ws=...)."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._short = False  # the parser of generators stands between two frames
        self._fragments = False  # of a message whose end has not come
        self._rest = bytearray()
        self._wanted = _HEAD_BYTES_MIN  # bytes from which on there may be a whole frame
        self._bytes_max: int = self.config.ws_max_size
        self._sink: Sink | None = None
        self._held = False

    # -- for the application

    def pour(self, sink: Sink) -> None:
        """From now on messages go to `sink` when they come, in place of `receive`, which then
        only tells of the end."""
        self._sink = sink

    def go_on(self) -> None:
        """`sink` takes messages again."""
        if self._held:
            self._held = False
            self.transport.resume_reading()

    # -- from the socket

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), EXTENSION: self}  # type: ignore[dict-item]

    def data_received(self, data: bytes) -> None:
        if self._short:
            self._cut(data)
            return
        first = not self.handshake_initiated
        super().data_received(data)
        # frames that a client sends before it was answered stay with the parser they went to
        self._short = first and self.handshake_initiated and data.endswith(b"\r\n\r\n")

    def _cut(self, data: bytes) -> None:
        """Cut off frame after frame."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at, have = 0, len(data)
        while have - at >= _HEAD_BYTES_MIN:
            first, size = data[at], data[at + 1] & 0x7F
            body = at + _HEAD_BYTES_MIN
            if size == 126:
                size = int.from_bytes(data[at + 2 : at + 4], "big")
                body += 2
            elif size == 127:
                if have - at < _HEAD_BYTES_MIN + 8:
                    break
                size = int.from_bytes(data[at + 2 : at + 10], "big")
                body += 8
            if not data[at + 1] & _MASKED or size > self._bytes_max:
                self._give_up(data[at:])  # an end for which uvicorn has the words
                return
            if have < body + size:
                self._wanted = body - at + size
                self._rest = bytearray(data[at:])
                return
            if first in (_TEXT, _BINARY) and not self._fragments:
                payload = apply_mask(data[body : body + size], data[body - 4 : body])
                try:
                    self._deliver(payload.decode() if first == _TEXT else payload)
                except UnicodeDecodeError:
                    self._give_up(data[at:])
                    return
            else:
                if first & 0x08 == 0:
                    self._fragments = first & 0x80 == 0
                super().data_received(data[at : body + size])
                if self.conn.state is not State.OPEN:
                    self._give_up(data[body + size :])
                    return
            at = body + size
        if at < have:
            self._wanted = _HEAD_BYTES_MIN
            self._rest = bytearray(data[at:])

    def _give_up(self, data: bytes) -> None:
        """The long way for `data` and all that follows."""
        self._short = False
        if data:
            super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        """A message that came the long way is whole."""
        if self._sink is None:
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        if self.curr_msg_data_type == "bytes":
            self._deliver(data)
            return
        try:
            self._deliver(data.decode())
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()

    def _deliver(self, message: str | bytes) -> None:
        if self.close_sent:
            return
        if self._sink is not None:
            if not self._sink(message) and not self._held:
                self._held = True
                self.transport.pause_reading()
            return
        if isinstance(message, str):
            self.queue.put_nowait({"type": "websocket.receive", "text": message})
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": message})
        if not self.read_paused and (
            self.queue.qsize() >= WAITING_MAX or len(message) >= LONG_BYTES
        ):
            self.read_paused = True
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self._held and self.close_sent:
            self.go_on()  # the answer to a close is to be read
