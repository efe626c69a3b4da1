"""Readers for answers that are not passed on as bytes: what came in is understood and rewritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from gateway.providers._openai.byte_relay import LINE_BYTES_MAX, REASONING, failure_in, read_usage
from gateway.providers._openai.chunk_writer import Call, Writer
from gateway.providers._shared.chat_errors import failure_in_stream, read_error_object
from gateway.upstreams.chat import ChatRequest, ReaderUpdate
from gateway.upstreams.errors import Failure, Kind

CALLS_MAX: Final = 64
"""More tool calls in one answer are nonsense."""

CALL_BYTES_MAX: Final = 1 << 20
"""Longer arguments of the calls of one answer are nonsense."""


class SseLines:
    """Splits a body into the payloads of its `data:` lines, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self.overlong = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are whole now; sets `overlong` at LINE_BYTES_MAX."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._tail += data
            self.overlong = len(self._tail) > LINE_BYTES_MAX
            return
        lines = bytes(self._tail) + data[:end] if self._tail else data[:end]
        self._tail = bytearray(data[end:])
        for line in lines.splitlines():
            if line.startswith(b"data:") and (payload := line[5:].strip()):
                yield payload

    def rest(self) -> Iterator[bytes]:
        """The payload of a last line without a line end."""
        return self.feed(b"\n") if self._tail else iter(())


class Events(Protocol):
    """What a provider's stream says, in its own words: its events in, calls of a Writer out."""

    def event(self, event: dict[str, Any]) -> Failure | None:
        """One parsed event; a failure ends the answer."""

    def ended(self) -> Failure | None:
        """The stream has ended: finish the answer, or say why it is not whole."""

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""


class EventReader:
    """A Reader over a provider's events. The answer is read as a stream in any case; for a client
    that wants it whole it is put together."""

    streamed = True

    def __init__(self, events: Events, writer: Writer) -> None:
        self._events = events
        self._writer = writer
        self._lines = SseLines()
        self._finished = False

    def feed(self, data: bytes) -> ReaderUpdate:
        return self._read(self._lines.feed(data))

    def finish(self) -> ReaderUpdate:
        heard = self._read(self._lines.rest())
        if heard.failure is None and not heard.finished:
            self._end(heard)
            forward = heard.forward
            self._writer.take(heard)
            heard.forward = forward + heard.forward
            heard.usage = self._writer.reported
        return heard

    def _read(self, payloads: Iterator[bytes]) -> ReaderUpdate:
        heard = ReaderUpdate()
        if self._finished:
            heard.finished = True
            return heard
        for payload in payloads:
            heard.failure = self._event(payload)
            if heard.failure is not None:
                break
            if self._events.complete:
                self._end(heard)
                break
        if self._lines.overlong:
            heard.failure = Failure(
                Kind.PROTOCOL_ERROR, f"the provider sent a line longer than {LINE_BYTES_MAX} bytes"
            )
        heard.usage = self._writer.reported
        return self._writer.take(heard)

    def _event(self, payload: bytes) -> Failure | None:
        if payload == b"[DONE]":
            return self._events.event({"type": "[DONE]"})
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON")
        if not isinstance(event, dict):
            return Failure(Kind.PROTOCOL_ERROR, "the provider sent an event that is no JSON object")
        return self._events.event(event)

    def _end(self, heard: ReaderUpdate) -> None:
        heard.failure = self._events.ended()
        if heard.failure is None:
            self._finished = heard.finished = True


@dataclass(slots=True)
class _Partial:
    """A tool call while it is being written."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether its arguments are a complete JSON text."""
        text = "".join(self.arguments)
        if not text.rstrip().endswith("}"):
            return False
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return True


class CallCollector:
    """Puts tool calls together from pieces, whatever a provider does with ids and indices.

    A piece belongs to the call with its id; else to the one at its index; else to the last one.
    A new id, or a name after whole arguments, begins a new call also at an index that is taken.
    """

    def __init__(self) -> None:
        self._calls: list[_Partial] = []
        self._at: dict[int, _Partial] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, entry: Mapping[str, Any]) -> Failure | None:
        """One entry of `delta.tool_calls`."""
        given = entry.get("function")
        function: Mapping[str, Any] = given if isinstance(given, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        name = name if isinstance(name, str) else ""
        index = entry.get("index")
        index = index if isinstance(index, int) else None
        call_id = entry.get("id")
        call = self._find(call_id if isinstance(call_id, str) else "", index, name)
        if call is None:
            return Failure(
                Kind.PROTOCOL_ERROR, f"the provider made more than {CALLS_MAX} tool calls"
            )
        if arguments is not None:
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
            self._size += len(text)
            call.arguments.append(text)
        if isinstance(extra := entry.get("extra_content"), dict):
            call.extra.update(extra)
        if self._size > CALL_BYTES_MAX:
            return Failure(Kind.PROTOCOL_ERROR, f"the tool calls exceed {CALL_BYTES_MAX} bytes")
        return None

    def take(self, *, keep_extra: frozenset[str]) -> list[Call]:
        """The calls in order of their first appearance; of `extra_content` what is kept."""
        calls = [
            Call(
                one.id,
                one.name,
                "".join(one.arguments),
                {key: value for key, value in one.extra.items() if key in keep_extra},
            )
            for one in self._calls
        ]
        self._calls, self._at = [], {}
        return calls

    def _find(self, call_id: str, index: int | None, name: str) -> _Partial | None:
        if call_id:
            for call in self._calls:
                if call.id == call_id:
                    return call
        current = self._at.get(index) if index is not None else None
        if current is None and index is None and self._calls:
            current = self._calls[-1]
        new = (
            current is None
            or (call_id and current.id)  # another id at the same place
            or (name and current.name and (name != current.name or current.whole))
        )
        if new or current is None:
            if len(self._calls) >= CALLS_MAX:
                return None
            current = _Partial(call_id, name)
            self._calls.append(current)
            if index is not None:
                self._at[index] = current
        current.id = current.id or call_id
        current.name = current.name or name
        return current


GOOGLE_AND_XAI: Final = frozenset({"google", "xai"})
"""What clients give back of `extra_content`, besides `livekit`, which is ours."""


class OpenAIEvents:
    """Chunks of anybody who is more or less compatible with OpenAI."""

    def __init__(self, writer: Writer, *, carry_reasoning: bool = False) -> None:
        self._writer = writer
        self._carry_reasoning = carry_reasoning
        self._calls = CallCollector()
        self._finish: str | None = None
        self._done = False

    @property
    def complete(self) -> bool:
        return self._done

    def event(self, event: dict[str, Any]) -> Failure | None:
        if event.get("type") == "[DONE]":
            self._done = True
            return None
        if (failure := _failure_in(event)) is not None:
            return failure
        self._writer.begin(event.get("id"), event.get("model"), event.get("created"))
        groq = event.get("x_groq")
        self._note_usage(event, event.get("usage"))
        if isinstance(groq, dict):
            self._note_usage(event, groq.get("usage"))
        for choice in event.get("choices") or ():
            if isinstance(choice, dict) and choice.get("index") in (0, None):
                self._note_usage(event, choice.get("usage"))
                if (failure := self._choice(choice)) is not None:
                    return failure
        return None

    def ended(self) -> Failure | None:
        if self._finish is None:
            # some end with [DONE] alone; without either it was cut
            if not self._done or (self._writer.empty and not len(self._calls)):
                return Failure(Kind.CONNECTION_LOST, "the provider's stream ended early")
            self._finish = "stop"
        cut = self._finish in ("length", "max_tokens", "model_context_window_exceeded")
        if len(self._calls) and cut:
            return Failure(Kind.PROTOCOL_ERROR, "the answer's length ran out inside a tool call")
        if self._finish not in ("content_filter", "sensitive"):
            for call in self._calls.take(keep_extra=GOOGLE_AND_XAI):
                self._writer.call(call, with_reasoning=self._carry_reasoning)
        self._writer.end(self._finish)
        return None

    def _choice(self, choice: dict[str, Any]) -> Failure | None:
        finish = choice.get("finish_reason")
        if finish in ("error", "network_error"):
            return Failure(Kind.UPSTREAM_ERROR, "the provider reported an error in its stream")
        if isinstance(finish, str) and finish:
            self._finish = finish
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
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
                self._writer.reasoning(text)
                break
        said = _said(delta.get("content"), self._writer)
        if thought:
            self._writer.reasoning(said)
        else:
            self._writer.text(said, choice.get("logprobs"))
        if isinstance(text := delta.get("refusal"), str):
            self._writer.refusal(text)
        entries = delta.get("tool_calls")
        if not isinstance(entries, list):
            old = delta.get("function_call")
            entries = [{"function": old}] if isinstance(old, dict) else []
        for entry in entries:
            if isinstance(entry, dict):
                self._writer.work()
                if (failure := self._calls.add(entry)) is not None:
                    return failure
        return None

    def _note_usage(self, event: dict[str, Any], given: object) -> None:
        if (usage := read_usage(given)) is None or not isinstance(given, dict):
            return
        total = given.get("total_tokens")
        if isinstance(total, int) and total > usage.prompt + usage.completion:
            # xAI counts reasoning in the total alone
            usage = replace(usage, completion=total - usage.prompt)
        self._writer.usage(usage, event.get("service_tier"))


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
    """The failure that a chunk reports: at its top, in Groq's own field, with Cerebras' status."""
    groq = event.get("x_groq")
    if isinstance(groq, dict) and groq.get("error"):
        return failure_in_stream(read_error_object({"error": groq["error"]}))
    if not event.get("error"):
        return None
    status = event.get("status_code")
    if isinstance(status, int) and isinstance(event["error"], dict):
        return failure_in_stream(read_error_object({"error": {**event["error"], "code": status}}))
    return failure_in(event)


def openai_reader(
    request: ChatRequest, model: str, *, carry_reasoning: bool = False
) -> EventReader:
    """A reader for a stream that is OpenAI's more or less."""
    writer = Writer(request, model)
    return EventReader(OpenAIEvents(writer, carry_reasoning=carry_reasoning), writer)
