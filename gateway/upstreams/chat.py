"""What a chat conversation asks of a provider, and what it hears back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, FallbackModel

MARKS: Final = (
    "extra_content",
    "prompt_cache_breakpoint",
    "developer",
    "cache_control",
    "image_url",
)
"""What only some providers understand: a key of messages and tool calls, keys of the parts of a
message, a role, and a type of part."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the client asks: its JSON body as sent (not to be changed), and what was read from it.

    `model` is the client's name of the model; `stream` whether the answer is to be streamed.
    `usage` says that the client wants a usage chunk. `fallbacks` are the models that the client
    wants tried after `model`. `marks` are the words of MARKS that its messages hold, so that nobody
    looks for what is not there. `size_bytes` is the body's length. `id` and `created` (Unix time)
    are for answers that the gateway writes itself.
    """

    body: Mapping[str, Any]
    model: str
    stream: bool
    usage: bool = True
    fallbacks: tuple[FallbackModel, ...] = ()
    marks: frozenset[str] = frozenset()
    size_bytes: int = 0
    id: str = "chatcmpl-0"
    created: int = 0


@dataclass(slots=True, eq=False)
class ManagedProcess:
    """A process that a provider needs beside the gateway. It is told `told` (one line) on its
    standard input, answers with a line of JSON that has its `address`, and ends when its standard
    input does. `address` is None while it is not ready; it is started once it is `wanted`."""

    name: str
    command: tuple[str, ...]
    told: str
    wanted: bool = False
    address: str | None = None


class HasProcesses:
    """Base of a chat adapter with processes of its own, by the names of its models. No protocol:
    each request asks for it, and to find out whether a class has what one wants is slow."""

    companions: Mapping[str, ManagedProcess]


@runtime_checkable
class MakesEmbeddings(Protocol):
    """A chat adapter whose provider has OpenAI's /embeddings too."""

    def embeddings(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        """The request for the embeddings that `body` asks for; None: this provider has none."""


TOKENS_MAX: Final = 1 << 53
"""A larger count of tokens is nonsense, and no database takes it."""


def token_count(value: object) -> int | None:
    """`value` if it can be a number of tokens."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= TOKENS_MAX else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the provider counted them. `cached` is part of `prompt`, and
    `cache_write` too, `reasoning` is part of `completion`. `audio_prompt` and `audio_completion`
    are the parts of both that are audio."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0
    audio_prompt: int = 0
    audio_completion: int = 0


@dataclass(slots=True)
class ReaderUpdate:
    """What a piece of an upstream's answer means.

    `forward` is what the client is to get of it: whole SSE lines in OpenAI's form, or the JSON
    body of an answer that is not streamed. `content` says that text or a tool call has come,
    `progress` that this piece shows the model at work (text, reasoning, a tool call, usage):
    comments, pings and empty deltas do not.
    `ending` says that the model has finished: only usage and the end of the stream may follow.
    `finished` says that the answer is complete. `failure` ends the attempt.
    """

    forward: bytes = b""
    content: bool = False
    finished: bool = False
    usage: Usage | None = None
    failure: Failure | None = None
    progress: bool = False
    ending: bool = False


class Reader(Protocol):
    """Reads one successful answer: bytes as they come in, their meaning out.

    `streamed` says that the provider answers piece by piece, so that its silence means something.
    """

    @property
    def streamed(self) -> bool: ...

    def feed(self, data: bytes) -> ReaderUpdate:
        """The next bytes of the body."""

    def finish(self) -> ReaderUpdate:
        """The body has ended; a failure if it was not complete."""


class ResponsesReader(Reader, Protocol):
    """A reader of the Responses API: what it forwards has that API's form."""

    @property
    def response(self) -> Mapping[str, Any]:
        """The response as the provider last told it; whole once the answer is."""

    @property
    def number(self) -> int:
        """The `sequence_number` of the event that would come next."""


@runtime_checkable
class HasResponses(Protocol):
    """A chat adapter whose provider has OpenAI's /responses too."""

    def responses(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        """The request for the response that `body` asks for; None: this provider has none."""

    def responses_reader(self, *, stream: bool) -> ResponsesReader:
        """A reader for one answer to it."""


class ChatUpstream(Protocol):
    """A provider's chat adapter, one for each configured provider. Pure."""

    def warm(self) -> Dial | None:
        """A request that costs nothing, to have a connection before it is needed."""

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        """The HTTP request that asks for `attempt.model`."""

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        """A reader for one answer to `dial(request, attempt)`."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means. Header names are in lower case."""

    def exhausted_for_s(self, headers: Mapping[str, str]) -> float | None:
        """Seconds for which rate-limit headers say that nothing is left; None: some is."""
