"""The items of one conversation, and what a chat model is sent of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Literal

from gateway.conversations.messages import bad_request
from gateway.conversations.realtime.cascade.protocol import ItemFields
from gateway.upstreams.errors import Failure

ITEMS_MAX: Final = 1000
"""Items of one conversation; with more, the oldest are deleted, and the client is told."""

CHARS_MAX: Final = 8 << 20
"""Text and images of all items together; the same. Audio is not kept: an item has its words."""

WORDS_MAX: Final = 20_000
"""Words whose place in its audio an item remembers; later ones are estimated."""

CHARS_PER_S: Final = 15.0
"""How fast a voice speaks that tells no words."""

CALL_ID_CHARS_MAX: Final = 32
"""Longer ids of calls are replaced: clients of this protocol shorten them."""


@dataclass(slots=True)
class Sound:
    """How an item sounds. `total_ms` is what was sent of its audio, `plays_until` when a listener
    who plays at once has heard it all. `words`: text, start and end in seconds of the audio."""

    total_ms: float = 0.0
    plays_until: float = 0.0
    words: list[tuple[str, float, float]] = field(default_factory=list)
    complete: bool = False

    def heard_ms(self, now: float) -> float:
        """What of it has been heard."""
        return max(0.0, self.total_ms - 1000 * max(0.0, self.plays_until - now))

    def add(self, length_ms: float, now: float) -> None:
        self.total_ms += length_ms
        self.plays_until = max(self.plays_until, now) + length_ms / 1000

    def place(self, words: Iterable[tuple[str, float, float]]) -> None:
        self.words += words
        del self.words[WORDS_MAX:]

    def text_until(self, text: str, heard_ms: float) -> str:
        """What of `text` is spoken in the first `heard_ms` of it: whole words."""
        if self.complete and heard_ms >= self.total_ms:
            return text
        if not self.words:
            spoken_ms = self.total_ms if self.complete else 1000 * len(text) / CHARS_PER_S
            share = heard_ms / spoken_ms if spoken_ms else 0.0
            return _whole_words(text, int(share * len(text)))
        heard = sum(_letters(word) for word, _, end in self.words if 1000 * end <= heard_ms)
        end = 0
        while heard and end < len(text):
            heard -= text[end].isalnum()
            end += 1
        while end < len(text) and not text[end].isspace() and not text[end].isalnum():
            end += 1  # the comma of the last word
        # a voice that tells characters may stop inside a word
        return _whole_words(text, end)


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _whole_words(text: str, end: int) -> str:
    if end >= len(text):
        return text
    if end and text[end].isalnum() and text[end - 1].isalnum():
        cut = max(text.rfind(" ", 0, end), 0)
        # scripts without spaces are cut anywhere
        end = cut if cut or text[:end].isascii() else end
    return text[:end].rstrip()


@dataclass(slots=True)
class Item:
    """One item. Of a message `parts` are its content in the protocol's form; an assistant's has
    one. `full` is an assistant's whole text, of which a truncation leaves a part."""

    id: str
    kind: Literal["message", "function_call", "function_call_output"]
    role: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    call_id: str = ""
    name: str = ""
    text: str = ""
    """A function call's arguments, or its output."""
    status: Literal["completed", "incomplete", "in_progress"] = "completed"
    sound: Sound | None = None
    full: str | None = None
    own: Mapping[str, Any] | None = None
    """The provider's own state of a function call (`extra_content`), which goes back to it."""

    def told(self) -> dict[str, Any]:
        """As the protocol writes it."""
        told: dict[str, Any] = {
            "id": self.id,
            "object": "realtime.item",
            "type": self.kind,
            "status": self.status,
        }
        if self.kind == "message":
            return told | {"role": self.role, "content": [dict(part) for part in self.parts]}
        told["call_id"] = self.call_id
        if self.kind == "function_call_output":
            return told | {"output": self.text}
        return told | {"name": self.name, "arguments": self.text}

    @property
    def chars(self) -> int:
        """How much of CHARS_MAX it takes."""
        words = self.sound.words if self.sound is not None else ()
        return (
            64
            + len(self.text)
            + len(self.full or "")
            + 16 * len(words)
            + sum(
                len(value)
                for part in self.parts
                for value in part.values()
                if isinstance(value, str)
            )
        )

    def truncate(self, heard_ms: float) -> bool:
        """Leave what was heard; whether this takes any of its text."""
        if self.sound is None or not self.parts:
            return False
        part = self.parts[0]
        if self.full is None:
            self.full = part["transcript"]
        left = self.sound.text_until(self.full, heard_ms)
        cut = bool(left != part["transcript"])
        part["transcript"] = left
        return cut


_SPOKEN: Final = ("input_audio", "output_audio", "audio")


def item_of(given: ItemFields, item_id: str, place: str = "item") -> Item | Failure:
    """An item that a client made, or what it lacks."""
    if given.type != "message":
        needed: dict[str, Any] = {"call_id": given.call_id}
        if given.type == "function_call":
            needed |= {"name": given.name, "arguments": given.arguments}
        else:
            needed["output"] = given.output
        for name, value in needed.items():
            if value is None:
                return bad_request(f"{place}.{name}: expected a string, got nothing", name)
        return Item(
            item_id,
            given.type,
            call_id=given.call_id or "",
            name=given.name or "",
            text=(given.arguments if given.type == "function_call" else given.output) or "",
        )
    if given.role is None:
        return bad_request(f"{place}.role: expected user, assistant or system", f"{place}.role")
    role = "system" if given.role == "developer" else given.role
    parts: list[dict[str, Any]] = []
    for i, part in enumerate(given.content or ()):
        where = f"{place}.content.{i}"
        if part.type == "input_image":
            if not part.image_url:
                return bad_request(f"{where}.image_url: expected a URL", f"{where}.image_url")
            told: dict[str, Any] = {"type": "input_image", "image_url": part.image_url}
            parts.append(told | ({"detail": part.detail} if part.detail else {}))
        elif part.type in _SPOKEN:
            if part.transcript is None:
                return bad_request(
                    f"{where}.transcript: expected the words; audio of an item is not recognised "
                    "here, only that of input_audio_buffer.append",
                    f"{where}.transcript",
                )
            kind = "output_audio" if role == "assistant" else "input_audio"
            parts.append({"type": kind, "transcript": part.transcript})
        else:
            if part.text is None:
                return bad_request(f"{where}.text: expected a string", f"{where}.text")
            kind = "output_text" if role == "assistant" else "input_text"
            parts.append({"type": kind, "text": part.text})
    return Item(item_id, "message", role, parts)


class History:
    """The items in order."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._chars = 0  # no less than they have

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._by_id

    def __iter__(self) -> Any:
        return iter(self._items)

    def get(self, item_id: str) -> Item | None:
        return self._by_id.get(item_id)

    @property
    def last_id(self) -> str | None:
        return self._items[-1].id if self._items else None

    def before(self, item: Item) -> str | None:
        """The id of the item before."""
        i = self._items.index(item)
        return self._items[i - 1].id if i else None

    def add(self, item: Item, after: str | None = None) -> None:
        """Insert after the item `after`, which is there, or at the end; "root": first."""
        if after == "root":
            self._items.insert(0, item)
        elif after is None:
            self._items.append(item)
        else:
            self._items.insert(self._items.index(self._by_id[after]) + 1, item)
        self._by_id[item.id] = item
        self._chars += item.chars

    def grown(self, item: Item) -> None:
        """An item has its text by now."""
        self._chars += item.chars

    def delete(self, item_id: str) -> bool:
        item = self._by_id.pop(item_id, None)
        if item is None:
            return False
        self._items.remove(item)
        return True

    def shrink(self) -> list[str]:
        """Delete what is too much, the oldest first; the last item stays. Their ids."""
        if len(self._items) <= ITEMS_MAX and self._chars <= CHARS_MAX:
            return []
        gone: list[str] = []
        chars = sum(item.chars for item in self._items)
        while len(self._items) > 1 and (len(self._items) > ITEMS_MAX or chars > CHARS_MAX):
            item = self._items[0]
            chars -= item.chars
            self.delete(item.id)
            gone.append(item.id)
        self._chars = chars
        return gone


def messages(items: Iterable[Item], instructions: str) -> list[dict[str, Any]]:
    """What a chat model is sent. Calls without an output and outputs without a call are left out,
    and an output stands right behind its call: providers take nothing else."""
    items = list(items)
    outputs: dict[str, str] = {}
    for item in items:
        if item.kind == "function_call_output":
            outputs.setdefault(item.call_id, item.text)
    made: list[dict[str, Any]] = []
    if instructions:
        made.append({"role": "system", "content": instructions})
    for kind, row in groupby(items, key=lambda item: item.kind):
        if kind == "message":
            made += [message for item in row if (message := _message(item)) is not None]
        elif kind == "function_call":
            # what is taken out of `outputs` has its call
            answers = [(item, outputs.pop(item.call_id, None)) for item in row]
            calls = [(item, output) for item, output in answers if output is not None]
            if not calls:
                continue
            if not made or made[-1]["role"] != "assistant":
                made.append({"role": "assistant", "content": None})
            made[-1]["tool_calls"] = [_call(item) for item, _ in calls]
            made += [
                {"role": "tool", "tool_call_id": item.call_id, "content": output}
                for item, output in calls
            ]
    return made


def _call(item: Item) -> dict[str, Any]:
    call: dict[str, Any] = {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": item.text or "{}"},
    }
    return call if item.own is None else call | {"extra_content": item.own}


def _message(item: Item) -> dict[str, Any] | None:
    texts: list[str] = []
    parts: list[dict[str, Any]] = []
    for part in item.parts:
        if part["type"] == "input_image":
            image = {"url": part["image_url"]}
            if "detail" in part:
                image["detail"] = part["detail"]
            parts.append({"type": "image_url", "image_url": image})
            continue
        text = part.get("text") or part.get("transcript") or ""
        if text:
            texts.append(text)
            parts.append({"type": "text", "text": text})
    if not parts:
        return None
    if len(texts) == len(parts):
        return {"role": item.role, "content": "\n".join(texts)}
    return {"role": item.role, "content": parts}
