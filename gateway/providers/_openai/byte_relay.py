"""Readers for upstreams that speak OpenAI's protocol cleanly: bytes in, the same bytes out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.providers._shared.chat_errors import failure_in_stream, read_error_object
from gateway.upstreams.chat import ReaderUpdate, Usage
from gateway.upstreams.errors import Failure, Kind

LINE_BYTES_MAX: Final = 1 << 20
"""A longer line of a stream is nonsense: OpenAI's are some hundred bytes."""

ANSWER_BYTES_MAX: Final = 32 << 20
"""A longer answer that is not streamed is nonsense."""

_NOTABLE = re.compile(rb'"usage"\s*:\s*\{|"error"|"finish_reason"\s*:\s*"|\[DONE\]')
"""What a line must hold to be looked at once content flows. A quote inside a JSON string is
escaped, so a caller's text cannot look like one of these keys."""


_NULL_DELTA = re.compile(rb'"delta"\s*:\s*null')


REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Under which providers send what a model thinks: for nobody's ears."""


class StreamRelay:
    """Relays a stream line by line. Lines are parsed only until the first content, and after that
    only where they name usage, an error or the end."""

    streamed = True

    def __init__(self) -> None:
        self._tail = bytearray()
        self._content = False
        self._finish_seen = False
        self._done = False

    def feed(self, data: bytes) -> ReaderUpdate:
        heard = ReaderUpdate()
        end = data.rfind(b"\n") + 1
        if not end:
            self._tail += data
            if len(self._tail) > LINE_BYTES_MAX:
                heard.failure = Failure(
                    Kind.PROTOCOL_ERROR,
                    f"the provider sent a line longer than {LINE_BYTES_MAX} bytes",
                )
            return heard
        lines = bytes(self._tail) + data[:end] if self._tail else data[:end]
        self._tail = bytearray(data[end:])
        if (
            b'"delta":null' in lines or b'"delta": null' in lines
        ):  # Azure; Node's client chokes on it
            lines = _NULL_DELTA.sub(b'"delta":{}', lines)
        if self._done:  # nothing counts after [DONE]
            return heard
        if self._content and _NOTABLE.search(lines) is None:
            heard.forward = lines
            return heard
        return self._read(lines, heard)

    def finish(self) -> ReaderUpdate:
        heard = self.feed(b"\n") if self._tail else ReaderUpdate()
        if heard.failure is not None:
            return heard
        if self._finish_seen or self._done:
            heard.finished = True
            if not self._done:  # some servers end after the finish: that is a success too
                heard.forward += b"data: [DONE]\n\n"
        else:
            heard.failure = Failure(Kind.CONNECTION_LOST, "the provider's stream ended early")
        return heard

    def _read(self, lines: bytes, heard: ReaderUpdate) -> ReaderUpdate:
        """Look at the lines that matter: all of them up to the first content, then the notable."""
        begin = 0
        while begin < len(lines):
            if self._content:
                notable = _NOTABLE.search(lines, begin)
                if notable is None:
                    break
                begin = lines.rfind(b"\n", begin, notable.start()) + 1 or begin
            end = lines.index(b"\n", begin) + 1
            if lines.startswith(b"data:", begin):
                payload = lines[begin + 5 : end].strip()
                if payload == b"[DONE]":
                    self._done = heard.finished = True
                    heard.forward = lines[:end] + b"\n"
                    return heard
                heard.failure = self._read_event(payload, heard)
                if heard.failure is not None:
                    heard.forward = lines[:begin]
                    return heard
            begin = end
        heard.forward = lines
        return heard

    def _read_event(self, payload: bytes, heard: ReaderUpdate) -> Failure | None:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON")
        failure = failure_in(chunk)
        if failure is None:
            self._note(chunk, heard)
        return failure

    def _note(self, chunk: dict[str, Any], heard: ReaderUpdate) -> None:
        if (usage := read_usage(chunk.get("usage"))) is not None:
            heard.usage = usage
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            if choice.get("finish_reason"):
                self._finish_seen = True
            if not self._content:
                delta = choice.get("delta")
                if has_content(delta):
                    self._content = heard.content = True
                elif isinstance(delta, dict) and any(delta.get(name) for name in REASONING):
                    heard.progress = True


class WholeRelay:
    """Collects an answer that is not streamed."""

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
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return ReaderUpdate(
                failure=Failure(Kind.PROTOCOL_ERROR, "the provider's answer is no JSON")
            )
        if (failure := failure_in(answer)) is not None:
            return ReaderUpdate(failure=failure)
        return ReaderUpdate(
            forward=body, content=True, finished=True, usage=read_usage(answer.get("usage"))
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
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def failure_in(chunk: object) -> Failure | None:
    """The failure that a parsed event or answer reports, or None."""
    if not isinstance(chunk, dict):
        return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON object")
    if not chunk.get("error"):
        return None
    error = read_error_object(chunk)
    failure = failure_in_stream(error)
    if error.message:
        return failure
    return replace(failure, message="the provider reported an error in its stream")
