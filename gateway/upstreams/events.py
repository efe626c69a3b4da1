"""What happens to a session: words of the client, of an upstream, and of the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.upstreams.errors import Failure


class DeadlinePassed:
    """The session's deadline has passed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DeadlinePassed()"


DEADLINE_PASSED = DeadlinePassed()


# The client's side


class Text(NamedTuple):
    """A text message of the client."""

    text: str


class Binary(NamedTuple):
    """A binary message of the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """The client is gone; `code` is its WebSocket close code."""

    code: int = 1006


# An upstream's side; `attempt` numbers the tries, so that a late word is known as such.


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """An upstream has answered by HTTP: status, and headers with names in lower case."""

    attempt: int
    status: int
    headers: Mapping[str, str]


class BodyChunk(NamedTuple):
    """Bytes of an upstream's HTTP body."""

    attempt: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """An upstream's HTTP body has ended as it should."""

    attempt: int


class SocketOpened(NamedTuple):
    """An upstream's WebSocket is open."""

    attempt: int


class SocketFrame(NamedTuple):
    """A message on an upstream's WebSocket."""

    attempt: int
    data: str | bytes


class SocketClosed(NamedTuple):
    """An upstream's WebSocket was closed by the other side, with its code and reason."""

    attempt: int
    code: int
    reason: str


class ConnectionFailed(NamedTuple):
    """An upstream could not be reached, or broke off without a close."""

    attempt: int
    failure: Failure


HttpEvent = ResponseHead | BodyChunk | BodyEnd | ConnectionFailed
SocketEvent = SocketOpened | SocketFrame | SocketClosed | ConnectionFailed
