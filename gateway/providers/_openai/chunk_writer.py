"""The gateway's own answer in OpenAI's form, for providers whose own cannot be passed on as it is.

It holds the rules of the client: one id, calls numbered in order with one id and one name each,
a finish reason that fits, one usage chunk, `[DONE]` after success alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.upstreams.chat import ChatRequest, ReaderUpdate, Usage

EXTRA_BYTES_MAX: Final = 16 << 10
"""State that travels through the client in `extra_content.livekit`: larger is left out."""

FINISH: Final[Mapping[str, str]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
}
"""Known good endings of all providers (lower case) in OpenAI's words; any other is a failure."""


@dataclass(frozen=True, slots=True)
class Call:
    """A whole tool call. `arguments` is a JSON text; `extra` its `extra_content`."""

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] | None = None


class Writer:
    """Makes the answer to one request: chunks if it is streamed, else one body at the end.

    What is to be sent collects until `take`.
    """

    def __init__(self, request: ChatRequest, model: str) -> None:
        self._request = request
        self._model = model
        self._id = ""
        self._created = 0
        self._prefix = b""
        self._out = bytearray()
        self._content = False
        self._progress = False
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._reasoning_chars = 0
        self._extra: dict[str, Any] = {}
        self._logprobs: list[Any] = []
        self._calls: list[dict[str, Any]] = []
        self._call_count = 0
        self._usage: Usage | None = None
        self._service_tier: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing that a caller hears or acts on has been written."""
        return not self._content and not self._text and not self._refusal and not self._calls

    @property
    def reported(self) -> Usage | None:
        """The tokens as last told."""
        return self._usage

    def begin(self, answer_id: object = None, model: object = None, created: object = None) -> None:
        """What the provider calls this answer; the first that says something counts."""
        if not self._id and isinstance(answer_id, str):
            self._id = answer_id
        if isinstance(model, str) and model and not self._prefix:
            self._model = model
        if not self._created and isinstance(created, int):
            self._created = created

    def text(self, text: str, logprobs: object = None) -> None:
        """A piece of what is said."""
        if not text:
            return
        if self._request.stream:
            more = b""
            if isinstance(logprobs, dict):
                more = b',"logprobs":' + orjson.dumps(logprobs)
            self._delta(b'"content":' + orjson.dumps(text), more)
            self._content = True
        else:
            self._text.append(text)
            if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
                self._logprobs += logprobs["content"]
        self._progress = True

    def refusal(self, text: str) -> None:
        """A piece of a refusal."""
        if not text:
            return
        if self._request.stream:
            self._delta(b'"refusal":' + orjson.dumps(text))
            self._content = True
        else:
            self._refusal.append(text)
        self._progress = True

    def reasoning(self, text: str) -> None:
        """A piece of what the model thinks: under its own name, never as content."""
        if not text:
            return
        self._progress = True
        self._reasoning_chars += len(text)
        if self._reasoning_chars <= EXTRA_BYTES_MAX or not self._request.stream:
            self._reasoning.append(text)
        if self._request.stream:
            self._delta(b'"reasoning_content":' + orjson.dumps(text))

    def state(self, extra: Mapping[str, Any]) -> None:
        """Opaque state that the client gives back with this turn (`extra_content`)."""
        if self._request.stream:
            self._delta(b'"extra_content":' + orjson.dumps(extra))
        else:
            self._extra.update(extra)

    def call(self, call: Call, *, with_reasoning: bool = False) -> None:
        """A whole tool call. `with_reasoning` lets the model's thoughts so far travel with it,
        for providers that want them back with its result."""
        extra = dict(call.extra or {})
        if with_reasoning and self._reasoning and self._reasoning_chars <= EXTRA_BYTES_MAX:
            state = {"reasoning_content": "".join(self._reasoning)}
            extra["livekit"] = {**extra.get("livekit", {}), **state}
        made: dict[str, Any] = {
            "id": call.id
            or f"call_{self._request.id.removeprefix('chatcmpl-')}_{self._call_count}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments.strip() or "{}"},
        }
        if extra:
            made["extra_content"] = extra
        if self._request.stream:
            entry = {"index": self._call_count, **made}
            self._delta(b'"tool_calls":' + orjson.dumps([entry]))
            self._content = True
        else:
            self._calls.append(made)
        self._call_count += 1
        self._progress = True

    def work(self) -> None:
        """The model is at work on something that is not written yet."""
        self._progress = True

    def usage(self, usage: Usage, service_tier: object = None) -> None:
        """Tokens so far; the last word counts."""
        self._usage = usage
        if isinstance(service_tier, str):
            self._service_tier = service_tier

    def end(self, reason: str) -> None:
        """The answer is whole; `reason` is one of FINISH."""
        finish = FINISH[reason.lower()]
        if self._call_count and finish == "stop":
            finish = "tool_calls"
        elif not self._call_count and finish == "tool_calls":
            finish = "stop"
        if self._request.stream:
            self._end_stream(finish)
        else:
            self._end_whole(finish)

    def take(self, heard: ReaderUpdate) -> ReaderUpdate:
        """Move what has collected into `heard`."""
        heard.forward = bytes(self._out)
        heard.content = heard.content or self._content
        heard.progress = heard.progress or self._progress
        self._out.clear()
        self._progress = False
        return heard

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id or self._request.id,
            "object": "chat.completion.chunk" if self._request.stream else "chat.completion",
            "created": self._created or self._request.created,
            "model": self._model,
        }

    def _delta(self, delta: bytes, more: bytes = b"") -> None:
        if not self._prefix:
            head = orjson.dumps(self._head())[:-1]
            self._prefix = b"data: " + head + b',"choices":[{"index":0,"delta":{'
            delta = b'"role":"assistant",' + delta
        self._out += self._prefix + delta + b"}" + more + b',"finish_reason":null}]}\n\n'

    def _end_stream(self, finish: str) -> None:
        if not self._prefix:
            self._delta(b'"content":""')
        self._out += self._prefix + b'},"finish_reason":"' + finish.encode() + b'"}]}\n\n'
        if self._usage is not None and self._request.usage:
            chunk: dict[str, Any] = {
                **self._head(),
                "choices": [],
                "usage": usage_object(self._usage),
            }
            if self._service_tier is not None:
                chunk["service_tier"] = self._service_tier
            self._out += b"data: " + orjson.dumps(chunk) + b"\n\n"
        self._out += b"data: [DONE]\n\n"

    def _end_whole(self, finish: str) -> None:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text) if self._text or not self._calls else None,
            "refusal": "".join(self._refusal) or None,
        }
        if self._calls:
            message["tool_calls"] = self._calls
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._extra:
            message["extra_content"] = self._extra
        logprobs = {"content": self._logprobs} if self._logprobs else None
        answer: dict[str, Any] = {
            **self._head(),
            "choices": [
                {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
            ],
        }
        if self._usage is not None:
            answer["usage"] = usage_object(self._usage)
        if self._service_tier is not None:
            answer["service_tier"] = self._service_tier
        self._out += orjson.dumps(answer)


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` in OpenAI's form; `total_tokens` is the sum of the two."""
    prompt_details = {"cached_tokens": usage.cached}
    if usage.cache_write:
        prompt_details["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
