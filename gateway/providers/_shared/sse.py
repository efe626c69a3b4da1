"""Server-sent events by the standard, bounded: bytes in, events out. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
Lines end with LF, CRLF or CR; a byte order mark may stand first; several `data:` lines of an event
are joined with LF; comments are skipped. Beyond the standard: an event at the end of the stream
needs no blank line, and a bare `error: ...` line (some proxies write one) is an event "error".
"""

from __future__ import annotations

from typing import Final, NamedTuple

EVENT_BYTES_MAX: Final = 1 << 20
"""Longest event. OpenAI's have some hundred bytes; an image or a long tool call travels in one."""

_BOM: Final = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its type ("" where none is given) and its data."""

    type: str
    data: bytes


class SseOverflowError(Exception):
    """An event is longer than EVENT_BYTES_MAX."""


class SseParser:
    """Splits a body into events, whatever pieces it comes in."""

    __slots__ = ("_begun", "_cr", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._begun = False
        self._cr = False  # the last byte was a CR, which a LF may follow

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that are whole now. Raises SseOverflowError."""
        if self.is_one_line(data):  # nearly all pieces
            return [SseEvent("", data[5:].strip())]
        blocks = self.blocks(data)
        events: list[SseEvent] = []
        for block in blocks.split(b"\n\n") if blocks else ():
            # nearly all events are one line of data
            if block.startswith(b"data:") and b"\n" not in block:
                if data := block[5:].strip():
                    events.append(SseEvent("", data))
            elif (event := read_block(block)) is not None:
                events.append(event)
        return events

    def is_one_line(self, data: bytes) -> bool:
        """Whether `data` is one whole event on one line, with nothing waiting before it."""
        return (
            data.startswith(b"data:")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and b"\r" not in data
            and self._begun
            and not self._tail
            and not self._cr
            and len(data) > len(b"data: \n\n")
        )

    def finish(self) -> list[SseEvent]:
        """The event that the stream ended in, if there is one."""
        tail, self._tail = bytes(self._tail), bytearray()
        event = read_block(tail)
        return [] if event is None else [event]

    def blocks(self, data: bytes) -> bytes:
        """The bytes of all events that are whole now, lines ending with LF, each event with a
        blank line behind it. Raises SseOverflowError."""
        if (
            data.endswith(b"\n\n")
            and b"\r" not in data
            and self._begun
            and not self._tail
            and not self._cr
        ):  # nearly all pieces
            return data
        if not self._begun:
            data = bytes(self._tail) + data
            self._tail.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._tail += data
                return b""
            self._begun = True
            data = data.removeprefix(_BOM)
        if self._cr and data:
            data = data.removeprefix(b"\n")
            self._cr = False
        if b"\r" in data:
            self._cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        tail = self._tail
        if tail.endswith(b"\n") and data.startswith(b"\n"):
            end = max(data.rfind(b"\n\n"), -1)
        else:
            end = data.rfind(b"\n\n")
            if end < 0:
                tail += data
                if len(tail) > EVENT_BYTES_MAX:
                    raise SseOverflowError
                return b""
        whole = bytes(tail) + data[: end + 2] if tail else data[: end + 2]
        self._tail = bytearray(data[end + 2 :])
        return whole


def read_block(block: bytes) -> SseEvent | None:
    """The event that the lines of a block make; None: there is none (comments, blank lines)."""
    kind, data = "", []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode("utf-8", "replace").strip()
        elif name == b"error" and colon:
            kind = "error"
            data.append(value)
    joined = b"\n".join(data)
    return SseEvent(kind, joined) if joined.strip() or kind == "error" else None
