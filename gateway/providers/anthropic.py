"""Anthropic: the Messages API, translated both ways. https://docs.claude.com/en/api/messages"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import Field

from gateway.providers._openai.chunk_writer import Call, Writer
from gateway.providers._openai.stream_reader import EventReader
from gateway.providers._shared.chat_errors import (
    exhausted_for_s,
    failure_in_stream,
    failure_of,
    read_error_object,
)
from gateway.upstreams.chat import ChatRequest, Reader, Usage
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure, Kind
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
    """POST {base_url}/v1/messages, always streamed."""

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
        if not self._takes_sampling(attempt.model):
            for name in ("temperature", "top_p", "top_k"):
                body.pop(name, None)
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        writer = Writer(request, attempt.model)
        return EventReader(MessagesEvents(writer), writer)

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
    system, messages = _conversation(asked["messages"])
    limit = asked.get("max_completion_tokens", asked.get("max_tokens", max_tokens))
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": limit,
        "stream": True,
        "messages": messages,
        **{name: value for name, value in asked.items() if name in _NATIVE},
    }
    if system:
        body["system"] = system
    if isinstance(temperature := asked.get("temperature"), int | float):
        body["temperature"] = min(temperature, 1.0)
    elif "top_p" in asked:  # one of the two, not both
        body["top_p"] = asked["top_p"]
    if stop := asked.get("stop"):
        sequences = [stop] if isinstance(stop, str) else stop
        body["stop_sequences"] = [one for one in sequences if isinstance(one, str) and one.strip()]
    if tools := asked.get("tools"):
        body["tools"] = [_tool(tool) for tool in tools]
        if (choice := _tool_choice(asked)) is not None:
            body["tool_choice"] = choice
    config: dict[str, Any] = {}
    effort = asked.get("reasoning_effort")
    if effort in _EFFORTS:
        config["effort"] = effort
    wanted = asked.get("response_format")
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


def _conversation(messages: Sequence[Any]) -> tuple[str, list[dict[str, Any]]]:
    """The system's text, and turns of user and assistant by turns, a user's first."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []

    def add(role: str, blocks: list[dict[str, Any]]) -> None:
        if not blocks:
            return
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})

    for message in messages:
        if not isinstance(message, dict):
            continue
        match message.get("role"):
            case "system" | "developer":
                system.append(_text(message.get("content")))
            case "tool":
                result: dict[str, Any] = {
                    "type": "tool_result",
                    "tool_use_id": message.get("tool_call_id"),
                }
                if text := _text(message.get("content")):
                    result["content"] = text
                add("user", [result])
            case "assistant":
                blocks = _blocks(message.get("content"))
                blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
                add("assistant", blocks)
            case _:
                add("user", _blocks(message.get("content")))
    for turn in turns:
        # results first: text between a call and its result is refused
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "..."}]})
    last = turns[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()
    return "\n".join(text for text in system if text), turns


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    blocks: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        match part:
            case {"type": "text", "text": str(text)} if text.strip():
                blocks.append({"type": "text", "text": text})
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                blocks.append({"type": "image", "source": _image(url)})
            case _:
                pass
    return blocks


def _image(url: str) -> dict[str, str]:
    if url.startswith("data:"):
        kind, _, data = url.removeprefix("data:").partition(",")
        return {"type": "base64", "media_type": kind.partition(";")[0], "data": data}
    return {"type": "url", "url": url}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tool_use(call: Any) -> dict[str, Any]:
    function = _of(call, "function")
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
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
                if isinstance(stop := delta.get("stop_reason"), str):
                    self._stop = stop
            case {"type": "message_stop"}:
                self._done = True
            case {"type": "error"}:
                return failure_in_stream(read_error_object(event))
            case _:
                pass  # pings, and whatever is new
        return None

    def ended(self) -> Failure | None:
        if self._stop is None:
            return Failure(Kind.CONNECTION_LOST, "the provider's stream ended early")
        finish = _FINISH.get(self._stop, "stop")
        if self._calls and finish == "length":
            return Failure(Kind.PROTOCOL_ERROR, "the answer's length ran out inside a tool call")
        if finish != "content_filter":
            for call_id, name, pieces in self._calls:
                self._writer.call(Call(call_id, name, "".join(pieces)))
        self._writer.end(finish)
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
                if index in self._open:
                    self._open[index][2].append(piece)
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
        return value if isinstance(value, int) and value >= 0 else 0


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
