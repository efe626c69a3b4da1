"""Readers for upstreams that speak OpenAI's protocol cleanly: bytes in, the same bytes out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.providers._openai.chunk_writer import FINISH
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
from gateway.upstreams.errors import Failure, Kind, quoted

ANSWER_BYTES_MAX: Final = 16 << 20
"""A longer answer that is not streamed is nonsense."""

ANSWER_VALUES_MAX: Final = 200_000
"""JSON values in it: `logprobs` of 4000 tokens are some 150,000."""

_NULL_DELTA: Final = re.compile(rb'"delta"\s*:\s*null')

_NOTABLE: Final = tuple(
    re.compile(pattern).search
    for pattern in (
        rb'"usage"\s*:\s*\{',
        rb'"error"',
        rb'"finish_reason"\s*:\s*"',
        rb"\[DONE\]",
        _NULL_DELTA.pattern,
    )
)
"""What an event must hold to be looked at once content flows. A quote inside a JSON string is
escaped, so a caller's text cannot look like one of these keys. One expression for all of them would
take twenty times as long: each of these begins with letters that are searched for at once."""

_PROGRESS: Final = re.compile(
    rb'"(?:content|arguments|reasoning_content|reasoning|thinking|refusal|name)"\s*:\s*"[^"]'
)
"""What shows that the model is at work."""

REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Under which names providers send what a model thinks: for nobody's ears."""


class StreamRelay:
    """Relays a stream event by event, as the bytes it came in. Events are parsed up to the first
    content, and after that only where they name usage, an error or the end, or are not one line
    of data; those are written anew on one line."""

    streamed = True

    def __init__(self) -> None:
        self._sse = SseParser()
        self._content = False
        self._finish: str | None = None
        self._done = False

    def feed(self, data: bytes) -> ReaderUpdate:
        heard = ReaderUpdate()
        if self._done:  # nothing counts after [DONE]
            heard.finished = True
            return heard
        try:
            blocks = self._sse.blocks(data)
        except SseOverflowError:
            heard.failure = Failure(
                Kind.PROTOCOL_ERROR,
                f"the provider sent an event longer than {EVENT_BYTES_MAX} bytes",
            )
            return heard
        if not blocks:
            return heard
        if self._content and self._finish is None and _plain_end(blocks, 0) == len(blocks):
            heard.forward = blocks
            heard.progress = True
            return heard
        return self._read(blocks, heard)

    def finish(self) -> ReaderUpdate:
        heard = ReaderUpdate()
        if not self._done:
            heard = self.feed(b"\n\n")
        if heard.failure is not None or heard.finished:
            return heard
        if self._finish is not None:
            heard.finished = True
            if not self._done:  # some servers end after the finish: that is a success too
                heard.forward += b"data: [DONE]\n\n"
        else:
            heard.failure = Failure(
                Kind.CONNECTION_LOST, "the provider's stream ended without a finish reason"
            )
        return heard

    def _read(self, blocks: bytes, heard: ReaderUpdate) -> ReaderUpdate:
        out = bytearray()
        at, may_skip = 0, True
        while at < len(blocks):
            if may_skip and self._content and self._finish is None:
                may_skip = False  # once in each piece: it looks at all of it
                end = _plain_end(blocks, at)
                out += blocks[at:end]
                heard.progress = heard.progress or end > at
                at = end
                continue
            end = blocks.find(b"\n\n", at)
            if end < 0:
                break  # a blank line
            block, at = blocks[at:end], end + 2
            if not block:
                continue
            event = read_block(block)
            if event is None:
                out += block + b"\n\n"  # a comment
                continue
            if event.data == b"[DONE]":
                self._done = True
                if self._finish is None:
                    heard.failure = Failure(
                        Kind.CONNECTION_LOST, "the provider's stream ended without a finish reason"
                    )
                else:
                    heard.finished = True
                    out += b"data: [DONE]\n\n"
                break
            heard.failure = self._event(event, heard)
            if heard.failure is not None:
                break
            if b"\n" in block:  # on several lines
                parsed = loads(event.data)
                block = b"data: " + orjson.dumps(parsed)
            if _NULL_DELTA.search(block) is not None:  # Azure; Node's client fails on it
                block = _NULL_DELTA.sub(b'"delta":{}', block)
            out += block + b"\n\n"
        heard.forward = bytes(out)
        heard.ending = self._finish is not None
        return heard

    def _event(self, event: SseEvent, heard: ReaderUpdate) -> Failure | None:
        if event.type == "error":
            return failure_in_stream(read_error(event.data))
        try:
            chunk = loads(event.data)
        except orjson.JSONDecodeError:
            return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON")
        failure = error_in(chunk)
        return failure if failure is not None else self._note(chunk, heard)

    def _note(self, chunk: dict[str, Any], heard: ReaderUpdate) -> Failure | None:
        if (usage := read_usage(chunk.get("usage"))) is not None:
            heard.usage = usage
            heard.progress = True
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            finish = choice.get("finish_reason")
            if isinstance(finish, str) and finish:
                if finish.lower() not in FINISH:
                    return unknown_ending(finish)
                self._finish = finish
            delta = choice.get("delta")
            if has_content(delta):
                self._content = heard.content = heard.progress = True
            elif isinstance(delta, dict) and any(delta.get(name) for name in REASONING):
                heard.progress = True
        return None


def _plain_end(blocks: bytes, begin: int) -> int:
    """Where, from `begin` on, the events end in which nothing has to be looked at: each is one
    line of data, and they show that the model is at work."""
    end = len(blocks)
    for search in _NOTABLE:
        found = search(blocks, begin, end)
        if found is not None:
            end = max(begin, blocks.rfind(b"\n\n", begin, found.start()) + 2)
    lines = blocks.count(b"\n", begin, end)
    is_plain = (
        blocks.startswith(b"data:", begin)
        and lines == 2 + 2 * blocks.count(b"\n\ndata:", begin, end)
        and _PROGRESS.search(blocks, begin, end) is not None
    )
    return end if is_plain else begin


class WholeRelay:
    """Collects an answer that is not streamed, and passes it on as it came."""

    streamed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> ReaderUpdate:
        self._parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_BYTES_MAX:
            return ReaderUpdate(
                failure=Failure(
                    Kind.PROTOCOL_ERROR,
                    f"the provider sent an answer longer than {ANSWER_BYTES_MAX} bytes",
                )
            )
        return ReaderUpdate()

    def finish(self) -> ReaderUpdate:
        body = b"".join(self._parts)
        try:
            answer = loads(body, ANSWER_VALUES_MAX)
        except orjson.JSONDecodeError:
            return ReaderUpdate(
                failure=Failure(Kind.PROTOCOL_ERROR, "the provider's answer is no JSON")
            )
        failure = error_in(answer)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if failure is None and not (isinstance(choices, list) and choices):
            failure = Failure(Kind.PROTOCOL_ERROR, "the provider's answer has no choices")
        for choice in choices if isinstance(choices, list) and failure is None else ():
            finish = choice.get("finish_reason") if isinstance(choice, dict) else None
            if not isinstance(finish, str) or finish.lower() not in FINISH:
                failure = unknown_ending(str(finish))
        if failure is not None:
            return ReaderUpdate(failure=failure)
        return ReaderUpdate(
            forward=body, content=True, finished=True, usage=read_usage(answer.get("usage"))
        )


def unknown_ending(reason: str) -> Failure:
    """An answer whose end is not known to be a good one is not whole."""
    if reason in ("error", "network_error"):
        return Failure(Kind.UPSTREAM_ERROR, "the provider reported an error in its stream")
    return Failure(
        Kind.UPSTREAM_ERROR, f"the provider ended its answer with the reason {quoted(reason)}"
    )


def has_content(delta: object) -> bool:
    """Whether a chunk's delta holds what a caller hears or acts on: text or a tool call."""
    return isinstance(delta, dict) and bool(
        delta.get("content") or delta.get("tool_calls") or delta.get("refusal")
    )


def read_usage(usage: object) -> Usage | None:
    """OpenAI's usage object, or None."""
    if not isinstance(usage, dict):
        return None
    prompt_details = usage.get("prompt_tokens_details")
    completion_details = usage.get("completion_tokens_details")
    return Usage(
        prompt=_count(usage, "prompt_tokens"),
        completion=_count(usage, "completion_tokens"),
        cached=_count(prompt_details, "cached_tokens"),
        cache_write=_count(prompt_details, "cache_write_tokens"),
        reasoning=_count(completion_details, "reasoning_tokens"),
    )


def _count(values: object, name: str) -> int:
    return (token_count(values.get(name)) if isinstance(values, dict) else None) or 0


def error_in(answer: object) -> Failure | None:
    """The failure that a parsed event or answer reports, or None. Providers wrap their error in
    `error`, or send the error object itself."""
    if isinstance(answer, list):
        inner = answer[0] if answer else None
        if isinstance(inner, dict) and inner.get("error"):
            return failure_in_stream(read_error_object(answer))
    if not isinstance(answer, dict):
        return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON object")
    if not answer.get("error") and not _is_error_object(answer):
        return None
    error = read_error_object(answer)
    failure = failure_in_stream(error)
    if error.message:
        return failure
    return replace(failure, message="the provider reported an error in its stream")


def _is_error_object(answer: dict[str, Any]) -> bool:
    """Whether an object without choices or usage is an error by itself."""
    if answer.get("object") == "error" or answer.get("type") == "error":
        return True
    if isinstance(answer.get("choices"), list) or answer.get("usage"):
        return False
    if isinstance(answer.get("detail"), str | list):
        return True
    words = any(isinstance(answer.get(name), str) for name in ("message", "msg"))
    return words and any(
        name in answer for name in ("code", "status", "statusCode", "status_code", "type", "error")
    )
