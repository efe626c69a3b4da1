"""What a /realtime conversation asks of a provider, and what it hears back.

The client speaks OpenAI's Realtime protocol (https://platform.openai.com/docs/api-reference/realtime)
whoever serves it: JSON objects in text frames, told apart by `type`. A *line* is one connection to
whoever serves a session; its first event has to be `session.created` (or any other that is no
`error`), and only then is the client's upgrade completed.

How a line is plugged in:

- A vendor with a WebSocket: `Vendor.realtime = Offer(adapter, models)`. The adapter is a
  `RealtimeUpstream`; each of its lines says where to `dial` and translates: what the client says
  into the vendor's frames, the vendor's frames into events of the client's protocol. For a vendor
  that speaks that protocol itself both are the identity (`providers/_openai/realtime.py`).
- Parts of this process: `dial` answers `InProcess(kind)`, with `encode` and `decode` as before (the
  identity, if the line speaks the client's protocol). The installation gives the route an *opener*
  for each kind: a function of the request and the attempt that answers a `Connection`, or a
  Failure. `Connection` is what `runtime.connector.UpstreamSocket` is: the session writes text
  frames to it, and it hands `SocketFrame`s to a sink, at last `SocketClosed` or
  `ConnectionFailed`. tests/conversations/realtime/test_route.py has a small one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import orjson

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.events import SocketEvent
from gateway.upstreams.plan import Attempt

Sink = Callable[[SocketEvent], Awaitable[object] | None]
"""Takes an event of a connection at once. Returns None, or what to await before the next one."""


class Connection(Protocol):
    """An open line, as the route uses it."""

    def write(self, frame: str) -> bool:
        """Take one frame; False: the next one should wait for `drained`. Raises ConnectionError
        once it has ended."""

    async def drained(self) -> None:
        """It takes frames again. Raises ConnectionError."""

    async def listen(self, attempt: int, sink: Sink) -> None:
        """Hand every frame to `sink` as SocketFrame(attempt, text), at last SocketClosed or
        ConnectionFailed, and return. May be cancelled."""

    async def close(self) -> None:
        """End it, whether or not it has ended by itself. Called once, after `listen`."""

    def abort(self) -> None:
        """End it at once: it took nothing for too long. `drained` then raises."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """In place of a Dial: the line is served in this process, by the opener of this `kind`."""

    kind: str


class ClientEvent(NamedTuple):
    """What the client says: its `type`, the object (not to be changed), and the text it came as."""

    type: str
    body: Mapping[str, Any]
    text: str


class ServerEvent(NamedTuple):
    """What the client is to be told: its `type`, the object, and the text of it."""

    type: str
    body: Mapping[str, Any]
    text: str


def server_event(kind: str, **fields: Any) -> ServerEvent:
    """An event of the line's own; without an `event_id`, which nothing goes by."""
    body = {"type": kind, **fields}
    return ServerEvent(kind, body, orjson.dumps(body).decode())


class LineFailed(NamedTuple):
    """The line is of no use any more; the event behind it is not to be passed on."""

    failure: Failure


class Line(Protocol):
    """One connection: translates, and does nothing else. Never raises over what a provider says."""

    def dial(self) -> Dial | InProcess:
        """What to open."""

    def opening(self) -> Sequence[str]:
        """Frames to send as soon as it is open."""

    def encode(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        """The frames that say this to the provider, and what of it the line answers itself."""

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed | str]:
        """What a frame of the provider's means, and frames to send it in return."""

    def closed(self, code: int, reason: str) -> Failure:
        """What it means that the provider has closed the connection."""


@runtime_checkable
class Greeter(Protocol):
    """A line to a provider that says nothing before it is told what the session is."""

    def greeting(self) -> Sequence[ServerEvent]:
        """What the client is told as soon as the line is open."""


class RealtimeUpstream(Protocol):
    """A provider's realtime adapter, one for each configured provider. Pure."""

    def line(self, attempt: Attempt) -> Line:
        """A new line to `attempt.model`."""


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """Tokens of one or more responses as the provider counted them. `cached` is part of `input`;
    `audio_input`, `cached_audio` and `audio_output` are the parts of `input`, `cached` and `output`
    that are audio."""

    input: int = 0
    output: int = 0
    cached: int = 0
    audio_input: int = 0
    cached_audio: int = 0
    audio_output: int = 0

    def __add__(self, other: TokensUsed) -> TokensUsed:
        return TokensUsed(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.audio_input + other.audio_input,
            self.cached_audio + other.cached_audio,
            self.audio_output + other.audio_output,
        )
