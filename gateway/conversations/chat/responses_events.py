"""A chat completion told in the form of the Responses API: as its events, or as one object. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming

The events of one response: `response.created`, `response.in_progress`; for each item of the output
`response.output_item.added`, what the item consists of (`response.content_part.added`,
`response.output_text.delta`, ..., `.done` of each), `response.output_item.done`; at the end one of
`response.completed`, `response.incomplete` (the limit of tokens, or a content filter) and
`response.failed`. Each has a `sequence_number`, from 0. There is no `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.conversations.chat.responses import Asked, state_item
from gateway.upstreams.chat import Reader, ReaderUpdate
from gateway.upstreams.errors import POLICY, Failure, Kind

ITEMS_MAX: Final = 256
"""Items of one answer; a model that makes more has lost its way."""

_INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
"""Why an answer is not whole, by the finish reason of a chat completion."""

_CODES: Final[Mapping[Kind, str]] = {
    Kind.RATE_LIMITED: "rate_limit_exceeded",
    Kind.QUOTA: "rate_limit_exceeded",
    Kind.CONTENT_POLICY: "invalid_prompt",
    Kind.CONTEXT_LENGTH: "invalid_prompt",
    Kind.BAD_REQUEST: "invalid_prompt",
}
"""Codes of a failed response; any other failure is a "server_error"."""


def event(kind: str, number: int, **fields: Any) -> bytes:
    """One event of a stream."""
    data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def failed(response: Mapping[str, Any], failure: Failure, number: int) -> bytes:
    """The last event of a response that failed after it had begun."""
    error = {"code": _CODES.get(failure.kind, "server_error"), "message": failure.message}
    return event(
        "response.failed", number, response={**response, "status": "failed", "error": error}
    )


def empty_response(asked: Asked, response_id: str, created: int) -> dict[str, Any]:
    """A response that has just begun, with what the client asked."""
    request, body = asked.request, asked.body
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None, **(request.reasoning or {})},
        "service_tier": None,
        "store": asked.stored,
        "temperature": body.get("temperature"),
        "text": {"format": {"type": "text"}, **(request.text or {})},
        "tool_choice": "auto" if request.tool_choice is None else request.tool_choice,
        "tools": request.tools or [],
        "top_p": body.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": request.metadata or {},
    }


def usage_object(usage: Any) -> dict[str, Any] | None:
    """A chat completion's usage in the form of a response."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    given, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _count(given, "cached_tokens"),
            "cache_write_tokens": _count(given, "cache_write_tokens"),
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": _count(made, "reasoning_tokens")},
        "total_tokens": prompt + completion,
    }


def _count(of: Any, name: str) -> int:
    value = of.get(name) if isinstance(of, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


@dataclass(slots=True)
class _Item:
    """An item of the output while it is being written."""

    index: int
    item: dict[str, Any]
    text: list[str] = field(default_factory=list)
    part: str | None = None
    """What its one part is: output_text, refusal or reasoning_text."""


class Narrator:
    """Tells one chat completion. What is to be sent collects until `take`."""

    def __init__(self, asked: Asked, response_id: str, created: int) -> None:
        self.response: dict[str, Any] = empty_response(asked, response_id, created)
        self.number = 0
        """Of the next event."""
        self._id = response_id.removeprefix("resp_")
        self._out = bytearray()
        self._output: list[dict[str, Any]] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._extra: dict[str, Any] = {}
        self._finish = "stop"

    def chunk(self, chunk: Mapping[str, Any]) -> None:
        """The next chunk of a streamed completion."""
        if not self.number:
            self._tell("response.created", response=self.response)
            self._tell("response.in_progress", response=self.response)
        if (usage := usage_object(chunk.get("usage"))) is not None:
            self.response["usage"] = usage
        if isinstance(tier := chunk.get("service_tier"), str):
            self.response["service_tier"] = tier
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta") or choice.get("message")
            if isinstance(delta, dict):
                self._delta(delta)
            if isinstance(finish := choice.get("finish_reason"), str) and finish:
                self._finish = finish.lower()

    def end(self) -> None:
        """The completion is whole."""
        self._close()
        for number in sorted(self._calls):
            self._end_call(self._calls[number])
        self._calls.clear()
        if self._extra:
            self._state(self._extra, "message")
        reason = _INCOMPLETE.get(self._finish)
        self.response["status"] = "completed" if reason is None else "incomplete"
        if reason is not None:
            self.response["incomplete_details"] = {"reason": reason}
        self.response["output"] = self._output
        self._tell(f"response.{self.response['status']}", response=self.response)

    def take(self) -> bytes:
        """The events since it was last asked."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _tell(self, kind: str, **fields: Any) -> None:
        self._out += event(kind, self.number, **fields)
        self.number += 1

    def _delta(self, delta: Mapping[str, Any]) -> None:
        if isinstance(text := delta.get("reasoning_content"), str) and text:
            self._say("reasoning_text", text)
        if isinstance(text := delta.get("content"), str) and text:
            self._say("output_text", text)
        if isinstance(text := delta.get("refusal"), str) and text:
            self._say("refusal", text)
        if isinstance(extra := delta.get("extra_content"), dict):
            self._extra.update(extra)
        calls = delta.get("tool_calls")
        for i, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._call(call, i)

    # -- text, refusals, thoughts

    def _say(self, part: str, text: str) -> None:
        item = self._open
        if item is None or item.part != part:
            self._close()
            item = self._begin_text(part)
            if item is None:
                return
        item.text.append(text)
        kind = "response.reasoning_text" if part == "reasoning_text" else f"response.{part}"
        more: dict[str, Any] = {"logprobs": []} if part == "output_text" else {}
        self._tell(f"{kind}.delta", **_place(item), content_index=0, delta=text, **more)

    def _begin_text(self, part: str) -> _Item | None:
        if part == "reasoning_text":
            made = {"id": self._name("rs"), "type": "reasoning", "summary": [], "content": []}
        else:
            made = {"id": self._name("msg"), "type": "message", "role": "assistant", "content": []}
        item = self._begin({**made, "status": "in_progress"})
        if item is not None:
            item.part = part
            self._open = item
            self._tell(
                "response.content_part.added",
                **_place(item),
                content_index=0,
                part=_part(part, ""),
            )
        return item

    def _close(self) -> None:
        """End the message or thought that is open."""
        item, self._open = self._open, None
        if item is None or item.part is None:
            return
        text, part = "".join(item.text), item.part
        where = {**_place(item), "content_index": 0}
        match part:
            case "refusal":
                self._tell("response.refusal.done", **where, refusal=text)
            case "reasoning_text":
                self._tell("response.reasoning_text.done", **where, text=text)
            case _:
                self._tell("response.output_text.done", **where, text=text, logprobs=[])
        whole = _part(part, text)
        self._tell("response.content_part.done", **where, part=whole)
        self._end_item(item, {"content": [whole]})

    # -- tool calls

    def _call(self, call: Mapping[str, Any], place: int) -> None:
        index = call.get("index")
        number = index if isinstance(index, int) else place
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        item = self._calls.get(number)
        if item is None:
            self._close()
            if isinstance(extra := call.get("extra_content"), dict) and extra:
                self._state(extra, "call")
            item = self._begin(
                {
                    "id": self._name("fc"),
                    "type": "function_call",
                    "call_id": str(call.get("id") or self._name("call")),
                    "name": str(function.get("name") or ""),
                    "arguments": "",
                    "status": "in_progress",
                }
            )
            if item is None:
                return
            self._calls[number] = item
        words = function.get("arguments")
        if isinstance(words, str) and words:
            item.text.append(words)
            self._tell("response.function_call_arguments.delta", **_place(item), delta=words)

    def _end_call(self, item: _Item) -> None:
        words = "".join(item.text) or "{}"
        name = item.item["name"]
        self._tell(
            "response.function_call_arguments.done", **_place(item), arguments=words, name=name
        )
        self._end_item(item, {"arguments": words})

    def _state(self, extra: Mapping[str, Any], where: str) -> None:
        made = state_item(self._name("rs"), extra, where)
        if made is not None and (item := self._begin(made)) is not None:
            self._end_item(item, {})

    # -- items

    def _begin(self, made: dict[str, Any]) -> _Item | None:
        if len(self._output) >= ITEMS_MAX:
            return None
        item = _Item(len(self._output), made)
        self._output.append(made)
        self._tell("response.output_item.added", output_index=item.index, item=made)
        return item

    def _end_item(self, item: _Item, more: Mapping[str, Any]) -> None:
        status = "incomplete" if self._finish in _INCOMPLETE else "completed"
        done = {**item.item, **more, "status": status}
        self._output[item.index] = done
        self._tell("response.output_item.done", output_index=item.index, item=done)

    def _name(self, kind: str) -> str:
        return f"{kind}_{self._id}_{len(self._output)}"


def _place(item: _Item) -> dict[str, Any]:
    return {"item_id": item.item["id"], "output_index": item.index}


def _part(kind: str, text: str) -> dict[str, Any]:
    match kind:
        case "refusal":
            return {"type": kind, "refusal": text}
        case "reasoning_text":
            return {"type": kind, "text": text}
        case _:
            return {"type": kind, "text": text, "annotations": [], "logprobs": []}


class Narrated:
    """A Reader that tells in the form of the Responses API what a Reader of chat completions hears.
    `on_end` is told of the whole response before anybody gets its end."""

    def __init__(
        self,
        inner: Reader,
        narrator: Narrator,
        *,
        stream: bool,
        on_end: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.streamed = inner.streamed
        self._inner = inner
        self._narrator = narrator
        self._stream = stream
        self._on_end = on_end

    def feed(self, data: bytes) -> ReaderUpdate:
        return self._told(self._inner.feed(data))

    def finish(self) -> ReaderUpdate:
        return self._told(self._inner.finish())

    def failed(self, failure: Failure) -> bytes:
        """The event with which it ends where it cannot go on."""
        return failed(self._narrator.response, failure, self._narrator.number)

    def _told(self, heard: ReaderUpdate) -> ReaderUpdate:
        if not self._stream:
            if heard.finished and heard.failure is None:
                self._narrator.chunk(orjson.loads(heard.forward))
                self._narrator.end()
                self._on_end(self._narrator.response)
                heard.forward = orjson.dumps(self._narrator.response)
            return heard
        comments = b""
        for block in heard.forward.split(b"\n\n"):
            if block.startswith((b"data: {", b"data:{")):  # relayed as the provider wrote it
                self._narrator.chunk(orjson.loads(block[5:]))
            elif block.startswith(b":"):
                comments += block + b"\n\n"
        if heard.finished and heard.failure is None:
            self._narrator.end()
            self._on_end(self._narrator.response)
        heard.forward = comments + self._narrator.take()
        return heard


def refused_by_none(asked: Asked) -> Failure:
    """Nobody who serves the model has what the request needs."""
    words = f"{asked.native} needs a provider with the Responses API, and none serves this model"
    param = (asked.native or "").partition(":")[0].partition(".")[0]
    return Failure(Kind.UNABLE, words, param=param or None)


def unfound(previous: str) -> Failure:
    """A previous response that is not kept here for this key."""
    details = {"code": "previous_response_not_found", "type": POLICY[Kind.BAD_REQUEST].type}
    return Failure(
        Kind.BAD_REQUEST,
        f"Previous response with id '{previous[:64]}' not found.",
        param="previous_response_id",
        details=details,
    )
