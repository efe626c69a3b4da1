"""Anthropic: the Messages API, translated both ways. https://docs.claude.com/en/api/messages"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import Field

from gateway.providers._openai.byte_relay import unknown_ending
from gateway.providers._openai.chunk_writer import Call, Writer
from gateway.providers._openai.stream_reader import EventReader
from gateway.providers._openai.tool_calls import checked
from gateway.providers._shared.chat_errors import (
    exhausted_for_s,
    failure_in_stream,
    failure_of,
    read_error_object,
)
from gateway.providers._shared.history import ANTHROPIC, PLACEHOLDER, normalised
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.chat import ChatRequest, Reader, Usage, token_count
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure, FailureError, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Offer, ProviderSettings, Vendor

_SAMPLING_MODELS: Final = (
    "claude-3 claude-opus-4-0 claude-opus-4-1 claude-opus-4-2 claude-opus-4-5 claude-opus-4-6 "
    "claude-sonnet-4-0 claude-sonnet-4-2 claude-sonnet-4-5 claude-sonnet-4-6 claude-haiku-4-5"
).split()


class Settings(ProviderSettings):
    """Settings of an Anthropic provider."""

    version: str = "2023-06-01"
    """Header `anthropic-version`. From 2026-10-21 on, sampling parameters are refused by every
    model, and so left out."""
    max_tokens: int = Field(4096, ge=1)
    """Longest answer where the client sets no limit: Anthropic wants one in every request."""
    sampling_models: list[str] = Field(default_factory=lambda: list(_SAMPLING_MODELS))
    """Beginnings of the names of models that take a temperature; later ones (4.7 and up) refuse
    every value but the default, so it is not sent."""


_NO_SAMPLING_FROM: Final = "2026-10-21"
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
_NATIVE: Final = frozenset({"thinking", "top_k", "metadata", "mcp_servers", "context_management"})
"""Anthropic's own parameters, passed on as they are."""

_OWN_TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}

_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class AnthropicChat:
    """POST {base_url}/v1/messages."""

    def __init__(self, account: Account[Settings]) -> None:
        self._settings = account.settings
        self._url = join_url(account.base_url.removesuffix("/v1"), "v1/messages")
        self._models_url = join_url(account.base_url.removesuffix("/v1"), "v1/models")
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-api-key": account.api_key,
            "anthropic-version": self._settings.version,
            **account.headers,
        }

    def warm(self) -> Dial | None:
        return Dial(self._models_url, self._headers, method="GET")

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        asked = {**request.body, **attempt.options}
        asked = {name: value for name, value in asked.items() if value is not None}
        body = to_messages(asked, attempt.model, self._settings.max_tokens)
        if not request.stream:
            del body["stream"]
        if not self._takes_sampling(attempt.model):
            for name in ("temperature", "top_p", "top_k"):
                body.pop(name, None)
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        writer = Writer(request, attempt.model)
        return EventReader(MessagesEvents(writer), writer, streamed=request.stream)

    def exhausted_for_s(self, headers: Mapping[str, str]) -> float | None:
        return exhausted_for_s(headers)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)

    def _takes_sampling(self, model: str) -> bool:
        return self._settings.version < _NO_SAMPLING_FROM and model.startswith(
            tuple(self._settings.sampling_models)
        )


def to_messages(asked: Mapping[str, Any], model: str, max_tokens: int) -> dict[str, Any]:
    """A chat completions body as one of the Messages API."""
    system, messages = _conversation(normalised(asked["messages"], ANTHROPIC))
    limit = asked.get("max_completion_tokens", asked.get("max_tokens", max_tokens))
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": limit,
        "stream": True,
        "messages": messages,
        **{name: value for name, value in asked.items() if name in _NATIVE},
    }
    wanted = asked.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_object":
        system = [*system, {"type": "text", "text": _JSON_OBJECT}]
    if any("cache_control" in block for block in system):
        body["system"] = system
    elif system:
        body["system"] = "\n".join(block["text"] for block in system)
    if isinstance(temperature := asked.get("temperature"), int | float):
        body["temperature"] = min(temperature, 1.0)
    elif "top_p" in asked:  # one of the two, not both
        body["top_p"] = asked["top_p"]
    if stop := asked.get("stop"):
        sequences = [stop] if isinstance(stop, str) else _list(stop)
        body["stop_sequences"] = [one for one in sequences if isinstance(one, str) and one.strip()]
    if tools := asked.get("tools"):
        body["tools"] = [_tool(tool) for tool in _list(tools)]
        if (choice := _tool_choice(asked)) is not None:
            body["tool_choice"] = choice
    config: dict[str, Any] = {}
    effort = asked.get("reasoning_effort")
    if isinstance(effort, str) and effort in _EFFORTS:
        config["effort"] = effort
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        config["format"] = {
            "type": "json_schema",
            "schema": _of(wanted, "json_schema").get("schema"),
        }
    if config:
        body["output_config"] = config
    if (tier := _OWN_TIERS.get(str(asked.get("service_tier")))) is not None:
        body["service_tier"] = tier
    # the signed thoughts that a tool's result must be preceded by have no place in this protocol
    if "thinking" not in body and effort in ("none", "minimal"):
        body["thinking"] = {"type": "disabled"}
    return body


_JSON_OBJECT: Final = "Answer with one JSON object and nothing else."
"""Stands for `response_format: {"type": "json_object"}`, which this protocol does not have."""

_IMAGE_TYPES: Final = {"image/jpg": "image/jpeg"}
"""Names that some callers use, and those that Anthropic takes."""


def _conversation(messages: Sequence[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system's blocks, and turns of user and assistant by turns, a user's first and last."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []

    def add(role: str, blocks: list[dict[str, Any]]) -> None:
        if not blocks:
            return
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})

    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        content, place = message.get("content"), f"messages[{at}].content"
        match message.get("role"):
            case "system" | "developer":
                system += _blocks(content, place)
            case "tool":
                result: dict[str, Any] = {
                    "type": "tool_result",
                    "tool_use_id": message.get("tool_call_id"),
                }
                blocks = _blocks(content, place)
                if any(block["type"] != "text" for block in blocks):
                    result["content"] = blocks
                elif blocks:
                    result["content"] = "".join(block["text"] for block in blocks)
                add("user", [result])
            case "assistant":
                blocks = _blocks(content, place)
                blocks += [_tool_use(call) for call in _list(message.get("tool_calls"))]
                add("assistant", blocks)
            case _:
                add("user", _blocks(content, place))
    for turn in turns:
        # results first: text between a call and its result is refused
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": PLACEHOLDER}]})
    return system, turns


def _blocks(content: Any, place: str) -> list[dict[str, Any]]:
    """A message's content as blocks. Raises FailureError for a part that has no form here: the
    model would answer a question that it was never shown."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    blocks: list[dict[str, Any]] = []
    for at, part in enumerate(_list(content)):
        match part:
            case {"type": "text", "text": str(text)}:
                if not text.strip():
                    continue
                block: dict[str, Any] = {"type": "text", "text": text}
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                block = {"type": "image", "source": _source(url)}
            case {"type": "file", "file": {"file_data": str(data)}}:
                block = {"type": "document", "source": _source(data)}
            case {"type": "refusal", "refusal": str(text)} if text.strip():
                block = {"type": "text", "text": text}
            case _:
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise FailureError(
                    Failure(
                        Kind.UNABLE,
                        f"{place}[{at}]: this model takes no content of type {str(kind)[:64]!r}",
                        param=f"{place}[{at}]",
                    )
                )
        if isinstance(part.get("cache_control"), dict):
            block["cache_control"] = part["cache_control"]
        elif part.get("prompt_cache_breakpoint"):
            block["cache_control"] = {"type": "ephemeral"}
        blocks.append(block)
    return blocks


def _source(url: str) -> dict[str, str]:
    """Where an image or document is: at an address, or inside the request."""
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.removeprefix("data:").partition(",")
    kind = head.partition(";")[0].lower()
    return {"type": "base64", "media_type": _IMAGE_TYPES.get(kind, kind), "data": data}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_use(call: Any) -> dict[str, Any]:
    function = _of(call, "function")
    try:
        arguments = loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = {}
    return {
        "type": "tool_use",
        "id": call.get("id") if isinstance(call, dict) else None,
        "name": function.get("name"),
        "input": arguments if isinstance(arguments, dict) else {},
    }


def _tool(tool: Any) -> dict[str, Any]:
    function = _of(tool, "function")
    made = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for name in ("description", "strict"):
        if function.get(name) is not None:
            made[name] = function[name]
    cache = tool.get("cache_control") if isinstance(tool, dict) else None
    if isinstance(cache := cache or function.get("cache_control"), dict):
        made["cache_control"] = cache
    return made


def _tool_choice(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    choice = asked.get("tool_choice")
    made: dict[str, Any] | None
    match choice:
        case "none":
            return {"type": "none"}
        case "required":
            made = {"type": "any"}
        case {"function": {"name": str(name)}}:
            made = {"type": "tool", "name": name}
        case "auto":
            made = {"type": "auto"}
        case _:
            made = None
    if asked.get("parallel_tool_calls") is False:
        made = {**(made or {"type": "auto"}), "disable_parallel_tool_use": True}
    return made


def _of(value: Any, name: str) -> dict[str, Any]:
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


class MessagesEvents:
    """The events of the Messages API, said as an answer of chat completions."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._calls: list[tuple[str, str, list[str]]] = []
        self._open: dict[int, tuple[str, str, list[str]]] = {}
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._done = False

    @property
    def complete(self) -> bool:
        return self._done

    @property
    def ending(self) -> bool:
        return self._stop is not None

    def whole(self, answer: dict[str, Any]) -> Failure | None:
        self._writer.begin(answer.get("id"), answer.get("model"))
        self._note_usage(answer.get("usage"))
        content = answer.get("content")
        for index, block in enumerate(content if isinstance(content, list) else ()):
            if isinstance(block, dict):
                self._block(block, index)
        self._done = True
        return self._ended_by(answer.get("stop_reason"))

    def event(self, event: dict[str, Any]) -> Failure | None:
        match event:
            case {"type": "message_start", "message": dict(message)}:
                self._writer.begin(message.get("id"), message.get("model"))
                self._note_usage(message.get("usage"))
            case {"type": "content_block_start", "content_block": dict(block)}:
                self._block(block, event.get("index"))
            case {"type": "content_block_delta", "delta": dict(delta)}:
                self._delta(delta, event.get("index"))
            case {"type": "message_delta", "delta": dict(delta)}:
                self._note_usage(event.get("usage"))
                return self._ended_by(delta.get("stop_reason"))
            case {"type": "message_stop"}:
                self._done = True
            case {"type": "error"}:
                return failure_in_stream(read_error_object(event))
            case _:
                pass  # pings, and whatever is new
        return None

    def ended(self) -> Failure | None:
        if self._stop is None:
            return Failure(
                Kind.CONNECTION_LOST, "the provider's stream ended without a stop reason"
            )
        finish = _FINISH[self._stop]
        if finish != "content_filter":
            made = [Call(call_id, name, "".join(pieces)) for call_id, name, pieces in self._calls]
            calls = checked(made, cut=finish == "length")
            if isinstance(calls, Failure):
                return calls
            for call in calls:
                self._writer.call(call)
        self._writer.end(finish)
        return None

    def _ended_by(self, stop: object) -> Failure | None:
        if not isinstance(stop, str):
            return None
        if stop not in _FINISH:
            return unknown_ending(stop)
        self._stop = stop
        return None

    def _block(self, block: dict[str, Any], index: Any) -> None:
        match block:
            case {"type": "tool_use", "id": str(call_id), "name": str(name)}:
                given = block.get("input")
                pieces = [orjson.dumps(given).decode()] if given else []
                call = (call_id, name, pieces)
                self._calls.append(call)
                if isinstance(index, int):
                    self._open[index] = call
                self._writer.work()
            case {"type": "text", "text": str(text)}:
                self._writer.text(text)
            case _:
                pass

    def _delta(self, delta: dict[str, Any], index: Any) -> None:
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                self._writer.text(text)
            case {"type": "input_json_delta", "partial_json": str(piece)}:
                if isinstance(index, int) and index in self._open:
                    self._open[index][2].append(piece)
                if piece:
                    self._writer.work()
            case {"type": "thinking_delta", "thinking": str(text)}:
                self._writer.reasoning(text)
            case _:
                pass

    def _note_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        # counts are cumulative, and what is not repeated still holds
        self._usage.update({k: v for k, v in usage.items() if v is not None})
        cached = self._count("cache_read_input_tokens")
        written = self._count("cache_creation_input_tokens")
        details = self._usage.get("output_tokens_details")
        thought = details.get("thinking_tokens") if isinstance(details, dict) else 0
        self._writer.usage(
            Usage(
                prompt=self._count("input_tokens") + cached + written,
                completion=self._count("output_tokens"),
                cached=cached,
                cache_write=written,
                reasoning=thought if isinstance(thought, int) else 0,
            )
        )

    def _count(self, name: str) -> int:
        value = self._usage.get(name)
        return token_count(value) or 0


VENDOR = Vendor(
    title="Anthropic",
    base_url="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    settings=Settings,
    chat=Offer(
        AnthropicChat,
        # LiveKit's clients list no Claude; any of its names reaches it as anthropic/<name>
        {
            f"anthropic/{name}": name
            for name in ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-6")
        },
    ),
)
