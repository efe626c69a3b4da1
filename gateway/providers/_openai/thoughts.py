"""Thoughts that a model writes into its content: found, and kept out of what is said. Pure.

Templates of reasoning models put `<think>` into the prompt, so an answer may begin inside thoughts
and end them with a `</think>` that nothing opened.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OPEN: Final = "<think>"
CLOSE: Final = "</think>"

HELD_CHARS_MAX: Final = 64 << 10
"""Content held back while it may turn out to be thoughts; then it is taken for what is said."""

THINKING_MODELS: Final = re.compile(
    r"deepseek-r\d|(?<![a-z])r1(?![a-z0-9])|qwq|thinking|reasoner|magistral", re.IGNORECASE
)
"""Names of models whose template opens the thoughts for them."""


class Piece(NamedTuple):
    """Part of an answer."""

    text: str
    thought: bool


class ThoughtFilter:
    """Splits content into what is said and what is thought, whatever pieces it comes in.

    `opened` says that the answer begins inside thoughts: it is held back until they end, or until
    the answer does, when all of it was said.
    """

    __slots__ = ("_held", "_held_chars", "_opened", "_tail", "_thinking", "unpaired")

    def __init__(self, *, opened: bool = False) -> None:
        self._opened = opened
        self._held: list[str] = []
        self._held_chars = 0
        self._thinking = False
        self._tail = ""
        self.unpaired = False
        """Whether thoughts ended that had no beginning."""

    def is_plain(self, text: str) -> bool:
        """Whether `text` is said as it is: nearly all pieces are."""
        return "<" not in text and not (self._tail or self._opened or self._thinking)

    def feed(self, text: str) -> list[Piece]:
        """What can be told of the content so far."""
        if self.is_plain(text):
            return [Piece(text, False)]
        text, self._tail = self._tail + text, ""
        pieces: list[Piece] = []
        while text:
            tag = CLOSE if self._thinking else None
            at, found = _first_tag(text, tag)
            if found is None:
                keep = _beginning_of_tag(text)
                text, self._tail = text[: len(text) - keep], text[len(text) - keep :]
                self._add(text, pieces)
                break
            self._add(text[:at], pieces)
            text = text[at + len(found) :]
            if found == OPEN:
                self._release(pieces, thought=False)
                self._thinking = True
            else:
                self.unpaired = self.unpaired or not self._thinking
                self._release(pieces, thought=True)
                self._thinking = False
                text = text.lstrip("\n") if not text.strip("\n") else text
        return pieces

    def told_apart(self) -> None:
        """The provider sends thoughts under a name of their own: content holds none."""
        if not self._held:
            self._opened = False

    def finish(self) -> list[Piece]:
        """What is left when the answer ends."""
        pieces: list[Piece] = []
        tail, self._tail = self._tail, ""
        self._add(tail, pieces)
        self._release(pieces, thought=False)
        return pieces

    def _add(self, text: str, pieces: list[Piece]) -> None:
        if not text:
            return
        if self._opened and not self._thinking:
            self._held.append(text)
            self._held_chars += len(text)
            if self._held_chars > HELD_CHARS_MAX:
                self._release(pieces, thought=False)
            return
        pieces.append(Piece(text, self._thinking))

    def _release(self, pieces: list[Piece], *, thought: bool) -> None:
        self._opened = False
        if self._held:
            pieces.append(Piece("".join(self._held), thought))
            self._held.clear()
            self._held_chars = 0


def _first_tag(text: str, only: str | None) -> tuple[int, str | None]:
    found = [(at, tag) for tag in (OPEN, CLOSE) if (at := text.find(tag)) >= 0]
    if only is not None:
        found = [one for one in found if one[1] == only]
    return min(found) if found else (-1, None)


def _beginning_of_tag(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    at = text.rfind("<", max(0, len(text) - len(CLOSE) + 1))
    if at < 0:
        return 0
    end = text[at:]
    return len(end) if OPEN.startswith(end) or CLOSE.startswith(end) else 0
