"""Readers for answers of OpenAI's Responses API to clients that speak it: bytes in, the same bytes
out.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.providers._openai.byte_relay import ANSWER_BYTES_MAX, ANSWER_VALUES_MAX, error_in
from gateway.providers._shared.chat_errors import failure_in_stream, read_error, read_error_object
from gateway.providers._shared.sse import (
    EVENT_BYTES_MAX,
    SseEvent,
    SseOverflowError,
    SseParser,
    read_block,
)
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.chat import ReaderUpdate, Usage, token_count
from gateway.upstreams.errors import Failure, Kind

_CONTENT: Final = frozenset(
    f"response.{name}.delta"
    for name in (
        "output_text", "refusal", "function_call_arguments", "custom_tool_call_input", "audio",
    )
)  # fmt: skip
"""Events of what a caller hears or acts on."""

_DELTA: Final = re.compile(rb"event: response\.[a-z_.]+\.delta\n")
_NUMBER: Final = re.compile(rb'"sequence_number"\s*:\s*(\d{1,9})')
"""A quote inside a JSON string is escaped, so no text can look like this key."""

_ENDS: Final = frozenset({"completed", "incomplete"})


class ResponsesRelay:
    """Relays a stream event by event. Each is read up to the first content; after that, those that
    are a piece of text or of a call are not."""

    streamed = True

    def __init__(self) -> None:
        self.response: Mapping[str, Any] = {}
        """As the provider last told it; whole once the answer is."""
        self._sse = SseParser()
        self._content = False
        self._finished = False
        self._last = b""

    @property
    def number(self) -> int:
        """Of the event that would come next."""
        found = _NUMBER.findall(self._last)
        return int(found[-1]) + 1 if found else 0

    def feed(self, data: bytes) -> ReaderUpdate:
        heard = ReaderUpdate()
        if self._finished:
            heard.finished = True
            return heard
        try:
            blocks = self._sse.blocks(data)
        except SseOverflowError:
            heard.failure = _nonsense(
                f"the provider sent an event longer than {EVENT_BYTES_MAX} bytes"
            )
            return heard
        out = bytearray()
        for block in blocks.split(b"\n\n"):
            if not block:
                continue
            if self._content and _DELTA.match(block) is not None:
                heard.progress = True
            elif (event := read_block(block)) is not None:
                heard.failure = self._event(event, heard)
                if heard.failure is not None:
                    break
            out += block + b"\n\n"
            if not block.startswith(b":"):
                self._last = block
            if heard.finished:
                break
        heard.forward = bytes(out)
        return heard

    def finish(self) -> ReaderUpdate:
        heard = self.feed(b"\n\n")
        if heard.failure is None and not heard.finished:
            heard.failure = Failure(Kind.CONNECTION_LOST, "the provider's stream ended early")
        return heard

    def _event(self, event: SseEvent, heard: ReaderUpdate) -> Failure | None:
        if event.data == b"[DONE]":
            return None  # not of this protocol, but some proxies write one
        if event.type == "error":
            return failure_in_stream(read_error(event.data))
        try:
            parsed = loads(event.data)
        except orjson.JSONDecodeError:
            return _nonsense("the provider sent an event that is no JSON")
        if not isinstance(parsed, dict):
            return _nonsense("the provider sent an event that is no JSON object")
        kind = parsed.get("type")
        if not isinstance(kind, str):
            return error_in(parsed) or _nonsense("the provider sent an event without a type")
        response = parsed.get("response")
        if isinstance(response, dict):
            self.response = response
        match kind.rpartition(".")[2]:
            case "error":
                return failure_in_stream(read_error_object(parsed.get("error") or parsed))
            case "failed" if isinstance(response, dict):
                error = response.get("error")
                return failure_in_stream(read_error_object({"error": error or {}}))
            case "completed" | "incomplete" if isinstance(response, dict):
                self._finished = heard.finished = True
                self._content = heard.content = True
                heard.usage = read_usage(response)
            case "created" | "in_progress" | "queued":
                return None
            case _ if kind in _CONTENT or _is_call(kind, parsed):
                self._content = heard.content = True
            case _:
                pass  # reasoning, and what the provider's own tools do
        heard.progress = True
        return None


def _is_call(kind: str, event: Mapping[str, Any]) -> bool:
    item = event.get("item")
    return (
        kind == "response.output_item.done"
        and isinstance(item, dict)
        and item.get("type") == "function_call"
    )


class WholeResponseRelay:
    """Collects an answer that is not streamed, and passes it on as it came."""

    streamed = False

    def __init__(self) -> None:
        self.response: Mapping[str, Any] = {}
        self.number = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> ReaderUpdate:
        self._body += data
        if len(self._body) > ANSWER_BYTES_MAX:
            return ReaderUpdate(
                failure=_nonsense(f"the provider sent an answer longer than {ANSWER_BYTES_MAX}")
            )
        return ReaderUpdate()

    def finish(self) -> ReaderUpdate:
        try:
            answer = loads(self._body, ANSWER_VALUES_MAX)
        except orjson.JSONDecodeError:
            return ReaderUpdate(failure=_nonsense("the provider's answer is no JSON"))
        if not isinstance(answer, dict):
            return ReaderUpdate(failure=_nonsense("the provider's answer is no JSON object"))
        if answer.get("error"):
            return ReaderUpdate(failure=failure_in_stream(read_error_object(answer)))
        if answer.get("status") not in _ENDS or not isinstance(answer.get("output"), list):
            return ReaderUpdate(failure=_nonsense("the provider's answer is no whole response"))
        self.response = answer
        return ReaderUpdate(
            forward=bytes(self._body), content=True, finished=True, usage=read_usage(answer)
        )


def read_usage(response: Mapping[str, Any]) -> Usage | None:
    """The tokens of a response, as its provider counted them."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    given, made = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        prompt=_count(usage, "input_tokens"),
        completion=_count(usage, "output_tokens"),
        cached=_count(given, "cached_tokens"),
        cache_write=_count(given, "cache_write_tokens"),
        reasoning=_count(made, "reasoning_tokens"),
    )


def _count(of: Any, name: str) -> int:
    return (token_count(of.get(name)) if isinstance(of, dict) else None) or 0


def responses_relay(*, stream: bool) -> ResponsesRelay | WholeResponseRelay:
    """A reader for one answer of /responses."""
    return ResponsesRelay() if stream else WholeResponseRelay()


def _nonsense(message: str) -> Failure:
    return Failure(Kind.PROTOCOL_ERROR, message)
