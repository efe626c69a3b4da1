"""Chat completions by way of OpenAI's Responses API, both ways.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.providers._openai.chunk_writer import EXTRA_BYTES_MAX, Call, Writer
from gateway.providers._openai.stream_reader import EventReader
from gateway.providers._openai.tool_calls import checked
from gateway.providers._shared.chat_errors import failure_in_stream, read_error_object
from gateway.providers._shared.history import OPENAI
from gateway.upstreams.chat import ChatRequest, Usage, token_count
from gateway.upstreams.errors import Failure, FailureError, Kind

_SAME: Final = frozenset(
    {"model", "temperature", "top_p", "parallel_tool_calls", "metadata", "service_tier", "user",
     "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
     "top_logprobs", "store"}
)  # fmt: skip
"""Parameters with the same name and meaning in both."""

_STATE: Final = "openai_reasoning"
"""Under `extra_content.livekit` of a call: the reasoning items that led to it, which the model
wants back with the call's result, or it reasons afresh."""


HISTORY: Final = replace(OPENAI, tool_parts=True)
"""Rules for conversations: as /chat/completions, but results of tools may hold images."""


def to_responses(body: Mapping[str, Any], *, stream: bool = True) -> dict[str, Any]:
    """A chat completions body as one for /responses. Where the two protocols have different
    defaults, that of /chat/completions is said: nothing is stored, tools and schemas are loose."""
    made: dict[str, Any] = {name: value for name, value in body.items() if name in _SAME}
    made["input"] = [item for message in body["messages"] for item in _items(message)]
    if stream:
        made["stream"] = True
    made.setdefault("store", False)
    if not made["store"]:
        made["include"] = ["reasoning.encrypted_content"]
    if body.get("tools"):
        made["tools"] = [_tool(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "name": _of(choice, "function").get("name")}
    if choice is not None:
        made["tool_choice"] = choice
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        made["max_output_tokens"] = limit
    if body.get("reasoning_effort") is not None:
        made["reasoning"] = {"effort": body["reasoning_effort"]}
    text: dict[str, Any] = {}
    if body.get("verbosity") is not None:
        text["verbosity"] = body["verbosity"]
    if isinstance(wanted := body.get("response_format"), dict):
        schema = _of(wanted, "json_schema")
        text["format"] = {"type": wanted.get("type"), **schema}
        if schema:
            text["format"].setdefault("strict", False)
    if text:
        made["text"] = text
    return made


def _items(message: Any) -> Iterator[Any]:
    if not isinstance(message, dict):
        yield message
        return
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.get("tool_call_id"),
            "output": _output(content),
        }
        return
    if content:
        yield {"role": role, "content": _parts(content, str(role))}
    for call in message.get("tool_calls") or ():
        if isinstance(call, dict):
            state = _of(_of(call, "extra_content"), "livekit").get(_STATE)
            if isinstance(state, list):
                yield from state
            function = _of(call, "function")
            yield {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments") or "{}",
            }


def _parts(content: Any, role: str) -> Any:
    if not isinstance(content, list):
        return content
    made: list[Any] = []
    for part in content:
        match part:
            case {"type": "text", "text": text, **rest}:
                kind = "output_text" if role == "assistant" else "input_text"
                made.append({"type": kind, "text": text, **rest})
            case {"type": "image_url", "image_url": {"url": url, **rest}}:
                detail = rest.get("detail", "auto")
                made.append({"type": "input_image", "image_url": url, "detail": detail})
            case {"type": "file", "file": dict(file)}:
                names = ("file_id", "filename", "file_data")
                made.append({"type": "input_file", **_some(file, names)})
            case {"type": "refusal"}:
                made.append(part)
            case {"type": str(kind)}:
                raise FailureError(
                    Failure(
                        Kind.UNABLE,
                        f"messages: this model takes no content of type {kind[:64]!r}",
                        param="messages",
                    )
                )
            case _:
                made.append(part)
    return made


def _some(of: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What `of` has of `names`."""
    return {name: of[name] for name in names if of.get(name)}


def _output(content: Any) -> Any:
    """A tool's result: a text, or a list of parts where there are others."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    if all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return _parts(content, "user")


def _tool(tool: Any) -> Any:
    function = _of(tool, "function")
    if not function:
        return tool
    return {"type": "function", "strict": False, **function}


def _of(value: Any, name: str) -> dict[str, Any]:
    """The object under `name`, or an empty one."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


class ResponsesEvents:
    """The events of /responses, said as an answer of chat completions."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._arguments: dict[int, list[str]] = {}
        self._state: list[dict[str, Any]] = []
        self._calls: list[Call] = []
        self._finish: str | None = None

    @property
    def complete(self) -> bool:
        return self._finish is not None

    @property
    def ending(self) -> bool:
        return self._finish is not None

    def whole(self, answer: dict[str, Any]) -> Failure | None:
        self._writer.begin(answer.get("id"), answer.get("model"), answer.get("created_at"))
        output = answer.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            if not isinstance(item, dict):
                continue
            content = item.get("content")
            for part in content if isinstance(content, list) else ():
                match part:
                    case {"type": "output_text", "text": str(text)}:
                        self._writer.text(text)
                    case {"type": "refusal", "refusal": str(text)}:
                        self._writer.refusal(text)
                    case _:
                        pass
            self._item(item, index)
        status = answer.get("status", "completed")
        return self.event({"type": f"response.{status}", "response": answer})

    def event(self, event: dict[str, Any]) -> Failure | None:
        match event:
            case {"type": "response.output_text.delta", "delta": str(text)}:
                self._writer.text(text)
            case {"type": "response.refusal.delta", "delta": str(text)}:
                self._writer.refusal(text)
            case {
                "type": "response.reasoning_text.delta" | "response.reasoning_summary_text.delta",
                "delta": str(text),
            }:
                self._writer.reasoning(text)
            case {"type": "response.function_call_arguments.delta", "delta": str(text)}:
                self._arguments.setdefault(_index(event), []).append(text)
                if text:
                    self._writer.work()
            case {"type": "response.output_item.added"}:
                self._writer.work()
            case {"type": "response.output_item.done", "item": dict(item)}:
                self._item(item, _index(event))
            case {"type": "response.completed", "response": dict(response)}:
                self._end("stop", response)
            case {"type": "response.incomplete", "response": dict(response)}:
                reason = _of(response, "incomplete_details").get("reason")
                known = {"max_output_tokens": "length", "content_filter": "content_filter"}
                self._end(known.get(str(reason), "stop"), response)
            case {"type": "response.failed", "response": dict(response)}:
                return failure_in_stream(read_error_object({"error": response.get("error") or {}}))
            case {"type": "error"}:
                inner = event.get("error")
                return failure_in_stream(
                    read_error_object(inner if inner else dict(event, type=""))
                )
            case {
                "type": "response.created" | "response.in_progress" | "response.queued",
                "response": dict(response),
            }:
                self._writer.begin(
                    response.get("id"), response.get("model"), response.get("created_at")
                )
            case _:
                pass  # OpenAI adds events without notice
        return None

    def ended(self) -> Failure | None:
        if self._finish is None:
            return Failure(Kind.CONNECTION_LOST, "the provider's stream ended early")
        if self._finish != "content_filter":
            calls = checked(self._calls, cut=self._finish == "length")
            if isinstance(calls, Failure):
                return calls
            for call in calls:
                self._writer.call(call)
        self._writer.end(self._finish)
        return None

    def _item(self, item: dict[str, Any], index: int) -> None:
        match item:
            case {"type": "reasoning", "encrypted_content": str()}:
                self._state.append({k: v for k, v in item.items() if k != "status"})
            case {"type": "function_call", "call_id": str(call_id), "name": str(name)}:
                given = item.get("arguments")
                if isinstance(given, dict):
                    given = orjson.dumps(given).decode()
                arguments = given if isinstance(given, str) and given else ""
                arguments = arguments or "".join(self._arguments.get(index, ()))
                extra = None
                if self._state and len(orjson.dumps(self._state)) <= EXTRA_BYTES_MAX:
                    extra = {"livekit": {_STATE: self._state}}
                self._state = []
                self._calls.append(Call(call_id, name, arguments, extra))
            case _:
                pass

    def _end(self, finish: str, response: dict[str, Any]) -> None:
        self._finish = finish
        usage = response.get("usage")
        if isinstance(usage, dict):
            given, written = _of(usage, "input_tokens_details"), _of(usage, "output_tokens_details")
            self._writer.usage(
                Usage(
                    prompt=_count(usage, "input_tokens"),
                    completion=_count(usage, "output_tokens"),
                    cached=_count(given, "cached_tokens"),
                    cache_write=_count(given, "cache_write_tokens"),
                    reasoning=_count(written, "reasoning_tokens"),
                ),
                response.get("service_tier"),
            )


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("output_index")
    return index if isinstance(index, int) else 0


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return token_count(value) or 0


def responses_reader(request: ChatRequest, model: str) -> EventReader:
    """A reader for a stream of /responses."""
    writer = Writer(request, model)
    return EventReader(ResponsesEvents(writer), writer, streamed=request.stream)
