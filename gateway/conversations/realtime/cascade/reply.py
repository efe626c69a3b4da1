"""One response while it is being made: its items, and the events that tell of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.conversations.messages import NAME_CHARS_MAX
from gateway.conversations.realtime.cascade.clauses import Clauses
from gateway.conversations.realtime.cascade.history import (
    CALL_ID_CHARS_MAX,
    Item,
    Sound,
)
from gateway.conversations.realtime.cascade.parts import Trouble
from gateway.conversations.realtime.cascade.protocol import (
    TEXT_CHARS_MAX,
    Settings,
    format_told,
)

Emit = Callable[..., None]
"""Tells the client an event: its type, then its fields."""

CALLS_MAX: Final = 64
"""Function calls of one response."""

_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""`finish_reason` of a chat model, and why a response is incomplete."""

Status = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]


@dataclass(slots=True)
class Reply:
    """A response. `number` is that of its model's answer and its utterance; `settings` are those
    of the session with what response.create said. `waits`: for words of turns that were committed
    before it. `in_history`: its items become part of the conversation."""

    id: str
    number: int
    settings: Settings
    conversation_id: str | None
    metadata: Mapping[str, str] | None
    emit: Emit
    new_id: Callable[[str], str]
    add: Callable[[Item], None]
    """Adds an item to the conversation, and tells the client."""
    in_history: bool = True
    input: list[Item] | None = None
    waits: bool = False
    status: Status = "in_progress"
    output: list[Item] = field(default_factory=list)
    model_done: bool = False
    spoke: bool = False
    """Whether the voice was given text."""
    voice_done: bool = False
    _message: Item | None = None
    _message_index: int = 0
    _text: str = ""
    _calls: dict[int, tuple[Item, int]] = field(default_factory=dict)
    _clauses: Clauses = field(default_factory=Clauses)
    _usage: Mapping[str, Any] | None = None
    _finish: str | None = None

    # -- what the model says

    def begin(self) -> None:
        self.emit("response.created", response=self.told())

    def take(self, chunk: Mapping[str, Any]) -> list[str]:
        """A chunk of the model's answer; what of it the voice shall say."""
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return []
        said: list[str] = []
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if isinstance(text := delta.get("content"), str) and text:
                said = self._said(text)
            if isinstance(calls := delta.get("tool_calls"), list):
                for call in calls:
                    if isinstance(call, dict):
                        self._called(call)
        if isinstance(finish := choice.get("finish_reason"), str):
            self._finish = finish
        return said

    def end_of_text(self) -> str:
        """The model has answered; what is left for the voice."""
        self.model_done = True
        for item, index in self._calls.values():
            self._end_call(item, index)
        rest = self._clauses.finish() if self.speaks else ""
        if self._message is not None and not self.speaks:
            self._end_message("completed")
        return rest

    @property
    def speaks(self) -> bool:
        return self.settings.modality == "audio"

    def _said(self, text: str) -> list[str]:
        if len(self._text) + len(text) > TEXT_CHARS_MAX:
            return []
        if self._message is None:
            self._begin_message()
        assert self._message is not None
        self._text += text
        kind = "output_audio_transcript" if self.speaks else "output_text"
        self.emit(
            f"response.{kind}.delta",
            **self._place(self._message, self._message_index),
            content_index=0,
            delta=text,
        )
        part = self._message.parts[0]
        part["transcript" if self.speaks else "text"] = self._text
        return self._clauses.feed(text) if self.speaks else []

    def _begin_message(self) -> None:
        part = (
            {"type": "output_audio", "transcript": ""}
            if self.speaks
            else {"type": "output_text", "text": ""}
        )
        item = Item(self.new_id("item"), "message", "assistant", status="in_progress")
        if self.speaks:
            item.sound = Sound()
        self._message, self._message_index = item, self._begin_item(item)
        item.parts.append(part)
        self.emit(
            "response.content_part.added",
            **self._place(item, self._message_index),
            content_index=0,
            part={"type": "audio", "transcript": ""}
            if self.speaks
            else {"type": "text", "text": ""},
        )

    def _begin_item(self, item: Item) -> int:
        self.output.append(item)
        index = len(self.output) - 1
        self.emit(
            "response.output_item.added",
            response_id=self.id,
            output_index=index,
            item=item.told(),
        )
        if self.in_history:
            self.add(item)
        return index

    def _called(self, call: Mapping[str, Any]) -> None:
        index = call.get("index", 0)
        if not isinstance(index, int):
            return
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        if index not in self._calls:
            if len(self._calls) >= CALLS_MAX:
                return
            given = call.get("id")
            call_id = given if isinstance(given, str) and given else ""
            if not 0 < len(call_id) <= CALL_ID_CHARS_MAX:
                call_id = self.new_id("call")
            item = Item(
                self.new_id("item"),
                "function_call",
                call_id=call_id,
                name=str(function.get("name") or "")[:NAME_CHARS_MAX],
                status="in_progress",
            )
            own = call.get("extra_content")
            item.own = own if isinstance(own, dict) else None
            self._calls[index] = item, self._begin_item(item)
        item, output_index = self._calls[index]
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            if len(item.text) + len(arguments) > TEXT_CHARS_MAX:
                return
            item.text += arguments
            self.emit(
                "response.function_call_arguments.delta",
                **self._place(item, output_index),
                call_id=item.call_id,
                delta=arguments,
            )

    # -- what the voice says

    @property
    def sound(self) -> Sound | None:
        """How its message sounds so far."""
        return None if self._message is None else self._message.sound

    @property
    def message(self) -> Item | None:
        return self._message

    def heard(self, audio: str) -> None:
        """Audio of its message, base64 in the format of the settings."""
        assert self._message is not None
        self.emit(
            "response.output_audio.delta",
            **self._place(self._message, self._message_index),
            content_index=0,
            delta=audio,
        )

    # -- its end

    @property
    def over(self) -> bool:
        """Whether all is said that will be."""
        return self.model_done and (not self.spoke or self.voice_done)

    def end(
        self, status: Status | None = None, reason: str | None = None, why: Trouble | None = None
    ) -> None:
        """Tell that it is over. A `status` of None: as the model says."""
        if status is None:
            reason = _REASONS.get(self._finish or "")
            status = "incomplete" if reason else "completed"
        self.status = status
        whole = status == "completed"
        if self._message is not None and self._message.status == "in_progress":
            if self._message.sound is not None:
                self._message.sound.complete = whole or self.voice_done
            self._end_message("completed" if whole else "incomplete")
        for item, index in self._calls.values():
            if item.status == "in_progress":
                item.status = "incomplete"
                self._tell_item(item, index)
        details: dict[str, Any] | None = None
        if not whole:
            details = {"type": status}
            if reason is not None:
                details["reason"] = reason
            if why is not None:
                details["error"] = {"type": why.type, "code": why.code, "message": why.message}
        self.emit("response.done", response=self.told(details))

    def _end_message(self, status: Literal["completed", "incomplete"]) -> None:
        item, index = self._message, self._message_index
        assert item is not None
        place = self._place(item, index)
        if self.speaks:
            self.emit("response.output_audio.done", **place, content_index=0)
            self.emit(
                "response.output_audio_transcript.done",
                **place,
                content_index=0,
                transcript=self._text,
            )
            part = {"type": "audio", "transcript": self._text}
        else:
            self.emit("response.output_text.done", **place, content_index=0, text=self._text)
            part = {"type": "text", "text": self._text}
        self.emit("response.content_part.done", **place, content_index=0, part=part)
        item.status = status
        self._tell_item(item, index)

    def _end_call(self, item: Item, index: int) -> None:
        self.emit(
            "response.function_call_arguments.done",
            **self._place(item, index),
            call_id=item.call_id,
            name=item.name,
            arguments=item.text,
        )
        item.status = "completed"
        self._tell_item(item, index)

    def _tell_item(self, item: Item, index: int) -> None:
        self.emit(
            "response.output_item.done",
            response_id=self.id,
            output_index=index,
            item=item.told(),
        )
        if self.in_history:
            self.emit("conversation.item.done", item=item.told())

    def _place(self, item: Item, index: int) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": item.id, "output_index": index}

    def told(self, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`response` of response.created and response.done."""
        settings = self.settings
        told: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": [item.told() for item in self.output],
            "conversation_id": self.conversation_id,
            "output_modalities": [settings.modality],
            "max_output_tokens": settings.max_tokens or "inf",
            "audio": {"output": {"format": format_told(settings.output), "voice": settings.voice}},
            "metadata": self.metadata,
            "usage": None,
        }
        if self.status != "in_progress":
            told["usage"] = _usage(self._usage)
        return told


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A chat model's usage as the protocol has it. All of it is text: words are recognised and
    spoken by others, which are counted for themselves."""
    if usage is None:
        return None

    def number(found: Any) -> int:
        return found if isinstance(found, int) and found > 0 else 0

    read, written = number(usage.get("prompt_tokens")), number(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    cached = number(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return {
        "total_tokens": read + written,
        "input_tokens": read,
        "output_tokens": written,
        "input_token_details": {
            "text_tokens": read,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {
                "text_tokens": cached,
                "audio_tokens": 0,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": written, "audio_tokens": 0},
    }
