"""One WebSocket of the Responses API: which response is made when. Pure.

https://platform.openai.com/docs/guides/websocket-mode

The client
    `{"type": "response.create", "model": ..., "input": ..., "previous_response_id": ...}`: the body
    of POST /responses; `stream` and `background` mean nothing here. `model` may stand in the URL
    (`?model=`) instead. With a `stream_id` it has a lane of its own, and the events of the answer
    carry it. Responses of one lane are made one after the other.

The server
    The events of each response, one a message (responses_events.py). What cannot be begun is
    `{"type": "error", "status": 400, "error": {"type", "code", "message", "param", "headers"}}`;
    the connection stays open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.conversations.messages import bad_request, parse
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, error_body, quoted
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text

LANES_MAX: Final = 8
"""Responses that one connection may have under way at the same time."""

WAITING_MAX: Final = 16
"""Requests of one connection that wait for their turn."""

LANE_CHARS_MAX: Final = 128
"""Of a `stream_id`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The response of this lane is told to its end."""

    lane: str


@dataclass(frozen=True, slots=True)
class Create:
    """Make a response, and say Ended. `body` is that of POST /responses."""

    lane: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message to the client."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, and be done."""

    code: int
    reason: str


Action = Create | Say | Close
Event = Text | Binary | ClientLeft | Ended


class ResponsesSocket:
    """Events in, actions out."""

    def __init__(self, model: str | None, idle_s: float, now: float) -> None:
        """`model` is that of the URL, for requests that name none."""
        self._model = model
        self._idle_s = idle_s
        self._idle_at = now + idle_s
        self._running: set[str] = set()
        self._waiting: deque[Create] = deque()
        self.failure: Failure | None = None
        self.too_many = False
        """More requests came than may wait."""

        self.left = False

    @property
    def deadline(self) -> float | None:
        return None if self._running else self._idle_at

    def may_end(self, now: float) -> bool:
        """Whether no response is under way."""
        return not self._running

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        self._idle_at = (
            max(self._idle_at, now) if isinstance(event, DeadlinePassed) else (now + self._idle_s)
        )
        match event:
            case Text(text):
                return self._hear(text)
            case Binary():
                return [error(bad_request("expected text messages, got a binary one"))]
            case Ended(lane):
                self._running.discard(lane)
                return self._next()
            case ClientLeft():
                self.left = True
                return [Close(1000, "")]
            case DeadlinePassed():
                if self._running:
                    return []
                words = f"nothing was heard for {self._idle_s:g} s"
                self.failure = Failure(Kind.IDLE, words, bound=Bound.SESSION_IDLE)
                return [Close(1000, words)]

    def _hear(self, text: str) -> list[Action]:
        parsed = parse(text, "the message")
        if isinstance(parsed, Failure):
            return [error(parsed)]
        kind = parsed.pop("type", None)
        lane = parsed.pop("stream_id", None) or ""
        if not isinstance(lane, str) or len(lane) > LANE_CHARS_MAX:
            words = f"stream_id: expected a text of at most {LANE_CHARS_MAX} characters"
            return [error(bad_request(words, "stream_id"))]
        if kind != "response.create":
            words = f"type: expected response.create, got {quoted(str(kind))}"
            return [error(bad_request(words, "type"), lane)]
        for name in ("background", "stream_options"):
            parsed.pop(name, None)
        parsed["stream"] = True
        if self._model is not None:
            parsed.setdefault("model", self._model)
        if len(self._waiting) >= WAITING_MAX:
            words = f"{WAITING_MAX} requests wait on this connection already"
            self.too_many = True
            failure = Failure(Kind.TOO_MANY_SESSIONS, words, bound=Bound.WAITING_REQUESTS)
            return [error(failure, lane)]
        self._waiting.append(Create(lane, orjson.dumps(parsed)))
        return self._next()

    def _next(self) -> list[Action]:
        """Begin what waits, as far as there is room: the first of each lane that is free."""
        begun: list[Action] = []
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            if one.lane in self._running or len(self._running) >= LANES_MAX:
                self._waiting.append(one)
            else:
                self._running.add(one.lane)
                begun.append(one)
        return begun


def error(failure: Failure, lane: str = "") -> Say:
    """Something that could not be begun."""
    return Say(error_text(failure.status, error_body(failure), lane))


def error_text(
    status: int, body: Mapping[str, Any], lane: str, headers: Mapping[str, str] | None = None
) -> str:
    """The same, from the answer to an HTTP request. `headers` say how a quota stands, and when to
    come back."""
    told: dict[str, Any] = {"type": "error", "status": status, **body}
    if headers and isinstance(error := told.get("error"), dict):
        told["error"] = {**error, "headers": dict(headers)}
    if lane:
        told["stream_id"] = lane
    return orjson.dumps(told).decode()


class EventText:
    """Cuts the body of a stream of events into the messages of a WebSocket."""

    def __init__(self, lane: str) -> None:
        self._begins = orjson.dumps({"stream_id": lane})[:-1] + b"," if lane else b"{"
        self._tail = b""

    def feed(self, data: bytes) -> list[str]:
        """The messages that are whole now. Comments are none."""
        *blocks, self._tail = (self._tail + data).split(b"\n\n")
        return [text for block in blocks if (text := self._message(block)) is not None]

    def _message(self, block: bytes) -> str | None:
        lines = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if not data.startswith(b"{"):
            return None
        return (self._begins + data[1:]).decode("utf-8", "replace")
