"""What the vendors share whose chat endpoint is OpenAI's, and how they differ from it, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson

from gateway.providers._openai.byte_relay import StreamRelay, WholeRelay
from gateway.providers._openai.stream_reader import openai_reader
from gateway.providers._shared.chat_errors import exhausted_for_s, failure_of
from gateway.providers._shared.history import ANY, HistoryRules, normalised
from gateway.upstreams.chat import ChatRequest, Reader
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Ended, Offer, ProviderSettings

_NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a vendor differs from OpenAI.

    `clean` streams are OpenAI's to the letter and relayed as bytes; others are read and written
    anew. `drop` and `rename` are top-level parameters that the vendor refuses or calls otherwise
    (a deployment's own options are never dropped). `developer` is the role that stands for
    `developer`. `call_content` is put where an assistant's turn with tool calls has no content.
    `message_names` says whether a message may have a `name`. `extras` are the keys of
    `extra_content` that it understands. `carry_reasoning` says that it wants its reasoning back
    with a tool's result. `stream_options` says whether it takes them; without, it sends usage
    unasked. `history` are its rules for conversations that others wrote. `cache_control` says
    whether content parts may carry Anthropic's cache marks; `breakpoints` for which models they
    may carry prompt cache breakpoints. `adapt` changes a request's body in place, where a table
    cannot say it.
    """

    clean: bool = False
    drop: frozenset[str] = _NOTHING
    rename: Mapping[str, str] = field(default_factory=dict)
    developer: str = "developer"
    call_content: str | None = None
    message_names: bool = True
    extras: frozenset[str] = _NOTHING
    carry_reasoning: bool = False
    stream_options: bool = True
    history: HistoryRules = ANY
    cache_control: bool = False
    breakpoints: Callable[[str], bool] = lambda model: False
    adapt: Callable[[dict[str, Any], str], None] | None = None


CLEAN: Final = Dialect(clean=True)
"""OpenAI itself, and servers that are said to be like it."""

PROXIED_EXTRAS: Final = frozenset({"google", "xai"})
"""What a server that may stand for any provider is given of `extra_content`."""

MAX_TOKENS: Final = {"max_completion_tokens": "max_tokens"}
"""For those who know the older name alone."""

OPENAI_ONLY: Final = frozenset(
    {"store", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
     "safety_identifier", "prediction", "web_search_options", "modalities", "verbosity"}
)  # fmt: skip
"""What is OpenAI's own business and understood by nobody else."""


THINKING_MODELS_KEPT: Final = 256
"""Models that an adapter remembers as beginning inside thoughts."""


class OpenAIChat:
    """POST {base_url}/chat/completions with a bearer key, in a vendor's dialect."""

    def __init__(self, account: Account, dialect: Dialect = CLEAN) -> None:
        self._url = join_url(account.base_url, "chat/completions")
        self._models_url = join_url(account.base_url, "models")
        self._headers = {
            "content-type": "application/json",
            # bytes are relayed as they come, so they must come as they are
            "accept-encoding": "identity",
            **({"authorization": f"Bearer {account.api_key}"} if account.api_key else {}),
            **account.headers,
        }
        self._dialect = dialect
        self._thinking: set[str] = set()  # models whose answers began inside thoughts

    def warm(self) -> Dial | None:
        return Dial(self._models_url, self._headers, method="GET")

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        return Dial(self._url, self._headers, body=orjson.dumps(self.body(request, attempt)))

    def embeddings(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        url = join_url(self._url.removesuffix("chat/completions"), "embeddings")
        return Dial(url, self._headers, body=orjson.dumps(with_options(body, attempt)))

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        dialect = self._dialect
        if dialect.clean and not request.stream:
            return WholeRelay()
        if dialect.clean and request.usage:
            return StreamRelay()
        # read also where a clean stream has a usage chunk that the client did not ask for
        model = attempt.model
        return openai_reader(
            request,
            model,
            carry_reasoning=dialect.carry_reasoning,
            streamed=request.stream,
            thinks=model in self._thinking,
            on_unpaired=lambda: self._remember_thinking(model),
        )

    def _remember_thinking(self, model: str) -> None:
        if len(self._thinking) < THINKING_MODELS_KEPT:
            self._thinking.add(model)

    def exhausted_for_s(self, headers: Mapping[str, str]) -> float | None:
        return exhausted_for_s(headers)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)

    def body(self, request: ChatRequest, attempt: Attempt) -> dict[str, Any]:
        """The request in the vendor's dialect."""
        dialect = self._dialect
        body = merged(request, attempt)
        for name in dialect.drop:
            if name in body and name not in attempt.options:
                del body[name]
        for name, other in dialect.rename.items():
            if name in body:
                value = body.pop(name)
                body.setdefault(other, value)
        body["messages"] = messages_for(dialect, body["messages"], request.marks, attempt.model)
        if request.stream:
            body["stream"] = True
            if dialect.stream_options:
                body["stream_options"] = {"include_usage": True}
            else:
                body.pop("stream_options", None)
        else:
            body.pop("stream", None)
            body.pop("stream_options", None)
        if dialect.adapt is not None:
            dialect.adapt(body, attempt.model)
        return body


def openai_chat(
    dialect: Dialect,
    models: Mapping[str, str] | None = None,
    ended: Mapping[str, Ended] | None = None,
) -> Offer[ProviderSettings, OpenAIChat]:
    """What a vendor offers whose chat endpoint is OpenAI's, in its own dialect."""
    return Offer(partial(OpenAIChat, dialect=dialect), models or {}, ended=ended or {})


def merged(request: ChatRequest, attempt: Attempt) -> dict[str, Any]:
    """The client's body for this attempt: its model, and its options over the client's."""
    return with_options(request.body, attempt)


def with_options(given: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
    """`given` with the model of this attempt, and its options over the client's."""
    body = {**given, "model": attempt.model}
    for name, value in attempt.options.items():
        if value is None:
            body.pop(name, None)
        else:
            body[name] = value
    return body


def messages_for(
    dialect: Dialect, messages: Sequence[Any], marks: frozenset[str], model: str
) -> Sequence[Any]:
    """`messages` as the vendor takes them: unchanged objects where nothing is to be changed."""
    messages = normalised(messages, dialect.history)
    strip_extra = "extra_content" in marks
    strip_cache = "cache_control" in marks and not dialect.cache_control
    strip_breakpoints = "prompt_cache_breakpoint" in marks and not dialect.breakpoints(model)
    rename_developer = "developer" in marks and dialect.developer != "developer"
    if not (
        strip_extra
        or strip_breakpoints
        or strip_cache
        or rename_developer
        or dialect.call_content is not None
        or not dialect.message_names
    ):
        return messages
    changed = []
    for message in messages:
        if isinstance(message, dict):
            message = dict(message)
            if rename_developer and message.get("role") == "developer":
                message["role"] = dialect.developer
            if not dialect.message_names and message.get("role") != "tool":
                message.pop("name", None)
            if strip_extra:
                _strip_extra(dialect, message)
            if isinstance(message.get("content"), list):
                if strip_breakpoints:
                    message["content"] = _without("prompt_cache_breakpoint", message["content"])
                if strip_cache:
                    message["content"] = _without("cache_control", message["content"])
            if (
                dialect.call_content is not None
                and message.get("tool_calls")
                and message.get("content") is None
            ):
                message["content"] = dialect.call_content
        changed.append(message)
    return changed


def _strip_extra(dialect: Dialect, message: dict[str, Any]) -> None:
    """Leave of `extra_content` what the vendor understands; take its own reasoning out of it."""
    extra = message.pop("extra_content", None)
    if isinstance(extra, dict) and (kept := _kept(dialect, extra)):
        message["extra_content"] = kept
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return
    bare = []
    for call in calls:
        if isinstance(call, dict) and "extra_content" in call:
            extra = call["extra_content"]
            call = {key: value for key, value in call.items() if key != "extra_content"}
            if isinstance(extra, dict):
                ours = extra.get("livekit")
                thoughts = ours.get("reasoning_content") if isinstance(ours, dict) else None
                if dialect.carry_reasoning and isinstance(thoughts, str):
                    message.setdefault("reasoning_content", thoughts)
                if kept := _kept(dialect, extra):
                    call["extra_content"] = kept
        bare.append(call)
    message["tool_calls"] = bare


def _kept(dialect: Dialect, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in extra.items() if key in dialect.extras}


def _without(key: str, parts: Sequence[Any]) -> list[Any]:
    """Content parts without this key."""
    return [
        {name: value for name, value in part.items() if name != key}
        if isinstance(part, dict) and key in part
        else part
        for part in parts
    ]
