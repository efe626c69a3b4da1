"""What a chat conversation asks of a provider, and what it hears back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.dial import Dial
from gateway.errors import Failure
from gateway.plan import Attempt


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the client asks: its JSON body as sent (not to be changed), and what was read from it.

    `model` is the client's name of the model; `stream` whether the answer is to be streamed.
    """

    body: Mapping[str, Any]
    model: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the provider counted them. `cached` is part of `prompt`,
    `reasoning` part of `completion`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Heard:
    """What a piece of an upstream's answer means.

    `forward` is what the client is to get of it: whole SSE lines in OpenAI's form, or the JSON
    body of an answer that is not streamed. `content` says that text or a tool call is among it.
    `finished` says that the answer is complete. `failure` ends the attempt.
    """

    forward: bytes = b""
    content: bool = False
    finished: bool = False
    usage: Usage | None = None
    failure: Failure | None = None


class Reader(Protocol):
    """Reads one successful answer: bytes as they come in, their meaning out."""

    def feed(self, data: bytes) -> Heard:
        """The next bytes of the body."""

    def finish(self) -> Heard:
        """The body has ended; a failure if it was not complete."""


class ChatUpstream(Protocol):
    """A provider's chat adapter, one for each configured provider. Pure."""

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        """The HTTP request that asks for `attempt.model`."""

    def reader(self, request: ChatRequest) -> Reader:
        """A reader for one answer."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means. Header names are in lower case."""
