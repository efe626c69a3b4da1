"""Readers for answers that are not passed on as bytes: what came in is understood and rewritten."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from gateway.providers._openai.byte_relay import (
    ANSWER_BYTES_MAX,
    ANSWER_VALUES_MAX,
    REASONING,
    error_in,
    read_usage,
    unknown_ending,
)
from gateway.providers._openai.chunk_writer import FINISH, Writer
from gateway.providers._openai.thoughts import THINKING_MODELS, ThoughtFilter
from gateway.providers._openai.tool_calls import CallCollector, tool_names
from gateway.providers._shared.chat_errors import failure_in_stream, read_error, read_error_object
from gateway.providers._shared.sse import EVENT_BYTES_MAX, SseEvent, SseOverflowError, SseParser
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.chat import ChatRequest, ReaderUpdate
from gateway.upstreams.errors import Failure, Kind

_BLANK_BYTES_MAX: Final = 1 << 10
"""White space before an answer that is kept; more of it means no more."""

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"


class Events(Protocol):
    """What a provider's answer says, in its own words: its events in, calls of a Writer out."""

    def event(self, event: dict[str, Any]) -> Failure | None:
        """One parsed event; a failure ends the answer."""

    def whole(self, answer: dict[str, Any]) -> Failure | None:
        """The answer of a provider that did not stream it."""

    def ended(self) -> Failure | None:
        """The answer has ended: finish it, or say why it is not whole."""

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""

    @property
    def ending(self) -> bool:
        """Whether the model has finished: usage and the end of the stream may still come."""


class EventReader:
    """A Reader over a provider's events, for answers in whatever form they come: a stream, one JSON
    body, either of them gzipped; an HTML page is a failure. `streamed` says that a stream was
    asked for. For a client that wants its answer whole it is put together."""

    def __init__(self, events: Events, writer: Writer, *, streamed: bool = True) -> None:
        self.streamed = streamed
        self._events = events
        self._writer = writer
        self._read: Callable[[bytes], ReaderUpdate] = self._first_bytes
        self._sse = SseParser()
        self._head = b""
        self._body = bytearray()
        self._unzip: Any = None
        self._finished = False

    def feed(self, data: bytes) -> ReaderUpdate:
        if self._finished:
            return ReaderUpdate(finished=True)
        if self._unzip is not None:
            try:
                data = self._unzip.decompress(data, EVENT_BYTES_MAX)
            except zlib.error:
                return self._failed(_nonsense("the provider's answer is no valid gzip"))
        return self._read(data)

    def finish(self) -> ReaderUpdate:
        if self._finished:
            return ReaderUpdate(finished=True)
        if self._read == self._json:
            return self._finish_json()
        heard = self._take(self._sse.finish())
        if heard.failure is None and not heard.finished:
            forward = heard.forward
            self._end(heard)
            self._writer.take(heard)
            heard.forward = forward + heard.forward
            heard.usage = self._writer.reported
        return heard

    def _first_bytes(self, data: bytes) -> ReaderUpdate:
        """Judge the answer's form by what it begins with: headers are not to be relied on."""
        self._head += data
        if self._unzip is None and _GZIP.startswith(self._head[:2]) and self._head:
            if len(self._head) < len(_GZIP):
                return ReaderUpdate()
            self._unzip = zlib.decompressobj(wbits=31)
            head, self._head = self._head, b""
            return self.feed(head)
        begun = self._head.removeprefix(_BOM).lstrip()
        if not begun or _BOM.startswith(self._head):
            if not begun and len(self._head) > _BLANK_BYTES_MAX:
                self._head = b""  # it may go on for as long as it likes
            return ReaderUpdate()
        if begun.startswith((b"{", b"[")):
            self._read = self._json
        elif begun.startswith(b"<"):
            words = read_error(begun[:4096]).message[:200]
            return self._failed(_nonsense(f"the provider answered with a web page: {words}"))
        else:
            self._read = self._stream
        head, self._head = self._head, b""
        return self._read(head)

    def _json(self, data: bytes) -> ReaderUpdate:
        self._body += data
        if len(self._body) > ANSWER_BYTES_MAX:
            return self._failed(
                _nonsense(f"the provider sent an answer longer than {ANSWER_BYTES_MAX} bytes")
            )
        return ReaderUpdate()

    def _finish_json(self) -> ReaderUpdate:
        try:
            if self._body.startswith(_BOM):
                del self._body[: len(_BOM)]
            answer = loads(self._body, ANSWER_VALUES_MAX)
        except orjson.JSONDecodeError:
            return self._failed(_nonsense("the provider's answer is no JSON"))
        failure = error_in(answer)
        if failure is None and isinstance(answer, dict):
            failure = self._events.whole(answer)
        heard = ReaderUpdate(failure=failure)
        if failure is None:
            self._end(heard)
        heard.usage = self._writer.reported
        return self._writer.take(heard)

    def _stream(self, data: bytes) -> ReaderUpdate:
        try:
            events = self._sse.feed(data)
        except SseOverflowError:
            return self._failed(
                _nonsense(f"the provider sent an event longer than {EVENT_BYTES_MAX} bytes")
            )
        return self._take(events)

    def _take(self, events: Sequence[SseEvent]) -> ReaderUpdate:
        heard = ReaderUpdate()
        for event in events:
            failure = self._event(event)
            if failure is not None:
                heard.failure = failure
                break
            if self._events.complete:
                self._end(heard)
                break
        heard.ending = self._events.ending
        heard.usage = self._writer.reported
        return self._writer.take(heard)

    def _event(self, event: SseEvent) -> Failure | None:
        if event.data == b"[DONE]":
            return self._events.event({"type": "[DONE]"})
        if event.type == "error":
            return failure_in_stream(read_error(event.data))
        try:
            parsed = loads(event.data)
        except orjson.JSONDecodeError:
            return _nonsense("the provider sent an event that is no JSON")
        if not isinstance(parsed, dict):
            return _nonsense("the provider sent an event that is no JSON object")
        return self._events.event(parsed)

    def _end(self, heard: ReaderUpdate) -> None:
        heard.failure = self._events.ended()
        if heard.failure is None:
            self._finished = heard.finished = True

    def _failed(self, failure: Failure) -> ReaderUpdate:
        return self._writer.take(ReaderUpdate(failure=failure, usage=self._writer.reported))


def _nonsense(message: str) -> Failure:
    return Failure(Kind.PROTOCOL_ERROR, message)


GOOGLE_AND_XAI: Final = frozenset({"google", "xai"})
"""What clients give back of `extra_content`, besides `livekit`, which is ours."""

_CUT: Final = frozenset(name for name, told in FINISH.items() if told == "length")
_FILTERED: Final = frozenset(name for name, told in FINISH.items() if told == "content_filter")


class OpenAIEvents:
    """Chunks of anybody who is more or less compatible with OpenAI."""

    def __init__(
        self,
        writer: Writer,
        *,
        tools: frozenset[str] = frozenset(),
        carry_reasoning: bool = False,
        thoughts: ThoughtFilter | None = None,
        on_unpaired: Callable[[], None] | None = None,
    ) -> None:
        self._writer = writer
        self._carry_reasoning = carry_reasoning
        self._calls = CallCollector(tools)
        self._thoughts = thoughts or ThoughtFilter()
        self._on_unpaired = on_unpaired
        self._finish: str | None = None
        self._blank_finish = False
        self._done = False

    @property
    def complete(self) -> bool:
        return self._done

    @property
    def ending(self) -> bool:
        return self._finish is not None

    def whole(self, answer: dict[str, Any]) -> Failure | None:
        failure = self.event(answer)
        self._done = True
        return failure

    def event(self, event: dict[str, Any]) -> Failure | None:
        if event.get("type") == "[DONE]":
            self._done = True
            return None
        choices = event.get("choices")
        groq = event.get("x_groq")
        plain = type(choices) is list and "error" not in event and groq is None
        if not plain and (failure := _failure_in(event)) is not None:
            return failure
        self._writer.begin(event.get("id"), event.get("model"), event.get("created"))
        if (usage := event.get("usage")) is not None:
            self._note_usage(event, usage)
        if isinstance(groq, dict):
            self._note_usage(event, groq.get("usage"))
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index") in (0, None):
                if (usage := choice.get("usage")) is not None:
                    self._note_usage(event, usage)
                if (failure := self._choice(choice)) is not None:
                    return failure
        return None

    def ended(self) -> Failure | None:
        for piece in self._thoughts.finish():
            self._say(piece.text, thought=piece.thought)
        if self._thoughts.unpaired and self._on_unpaired is not None:
            self._on_unpaired()
        if self._finish is None:
            if not (self._blank_finish and len(self._calls)):
                return Failure(
                    Kind.CONNECTION_LOST, "the provider's stream ended without a finish reason"
                )
            self._finish = "tool_calls"  # xAI finishes calls with an empty reason
        if self._finish not in _FILTERED:
            calls = self._calls.take(keep_extra=GOOGLE_AND_XAI, cut=self._finish in _CUT)
            if isinstance(calls, Failure):
                return calls
            for call in calls:
                self._writer.call(call, with_reasoning=self._carry_reasoning)
        self._writer.end(self._finish)
        return None

    def _choice(self, choice: dict[str, Any]) -> Failure | None:
        finish = choice.get("finish_reason")
        if finish == "":
            self._blank_finish = True
        elif isinstance(finish, str):
            if finish.lower() not in FINISH:
                return unknown_ending(finish)
            self._finish = finish.lower()
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            return None
        if len(delta) == 1 and isinstance(text := delta.get("content"), str):  # nearly all chunks
            if text:
                self._hear(text, choice.get("logprobs"))
            return None
        extra = delta.get("extra_content")
        thought = False
        if isinstance(extra, dict):
            google = extra.get("google")
            thought = isinstance(google, dict) and google.get("thought") is True
            kept = {key: value for key, value in extra.items() if key in GOOGLE_AND_XAI}
            if kept and not thought:
                self._writer.state(kept)
        for name in REASONING:
            if isinstance(text := delta.get(name), str):
                if text:
                    self._thoughts.told_apart()
                self._writer.reasoning(text)
                break
        said = _said(delta.get("content"), self._writer)
        if thought:
            self._writer.reasoning(said)
        elif said:
            self._hear(said, choice.get("logprobs"))
        if isinstance(text := delta.get("refusal"), str):
            self._writer.refusal(text)
        entries = delta.get("tool_calls")
        if not isinstance(entries, list):
            old = delta.get("function_call")
            entries = [{"function": old}] if isinstance(old, dict) else []
        for entry in entries:
            if isinstance(entry, dict):
                if _says_something(entry):
                    self._writer.work()
                if (failure := self._calls.add(entry)) is not None:
                    return failure
        return None

    def _hear(self, text: str, logprobs: object) -> None:
        """A piece of content, in which thoughts may hide."""
        if self._thoughts.is_plain(text):
            self._writer.text(text, logprobs)
            return
        for piece in self._thoughts.feed(text):
            self._say(piece.text, logprobs if piece.text == text else None, thought=piece.thought)
        self._writer.work()

    def _say(self, text: str, logprobs: object = None, *, thought: bool) -> None:
        if thought:
            self._writer.reasoning(text)
        else:
            self._writer.text(text, logprobs)

    def _note_usage(self, event: dict[str, Any], given: object) -> None:
        if (usage := read_usage(given)) is None or not isinstance(given, dict):
            return
        total = given.get("total_tokens")
        if isinstance(total, int) and total > usage.prompt + usage.completion:
            # xAI counts reasoning in the total alone
            usage = replace(usage, completion=total - usage.prompt)
        self._writer.usage(usage, event.get("service_tier"))


def _says_something(entry: dict[str, Any]) -> bool:
    """Whether a piece of a tool call is more than an empty one that keeps the line warm."""
    function = entry.get("function")
    return bool(
        entry.get("id")
        or (isinstance(function, dict) and (function.get("name") or function.get("arguments")))
    )


def _said(content: object, writer: Writer) -> str:
    """Content as a text; some send it in parts, thoughts among them (Mistral)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking":
            writer.reasoning(_said(part.get("thinking"), writer))
        elif isinstance(text := part.get("text"), str):
            texts.append(text)
    return "".join(texts)


def _failure_in(event: dict[str, Any]) -> Failure | None:
    """The failure that a chunk reports: at its top, in Groq's own field, with Cerebras' status, or
    by being an error object itself."""
    groq = event.get("x_groq")
    if isinstance(groq, dict) and groq.get("error"):
        return failure_in_stream(read_error_object({"error": groq["error"]}))
    status = event.get("status_code")
    if isinstance(status, int) and isinstance(event.get("error"), dict):
        return failure_in_stream(read_error_object({"error": {**event["error"], "code": status}}))
    return error_in(event)


def openai_reader(
    request: ChatRequest,
    model: str,
    *,
    carry_reasoning: bool = False,
    streamed: bool = True,
    thinks: bool = False,
    on_unpaired: Callable[[], None] | None = None,
) -> EventReader:
    """A reader for an answer that is OpenAI's more or less. `thinks`: the model is known to begin
    inside thoughts; `on_unpaired` is called when an answer shows that it does."""
    writer = Writer(request, model)
    opened = thinks or THINKING_MODELS.search(model) is not None
    events = OpenAIEvents(
        writer,
        tools=tool_names(request.body),
        carry_reasoning=carry_reasoning,
        thoughts=ThoughtFilter(opened=opened),
        on_unpaired=on_unpaired,
    )
    return EventReader(events, writer, streamed=streamed)
