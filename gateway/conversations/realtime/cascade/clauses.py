"""Cuts a text that is still being written into pieces that a voice can speak. Pure."""

from __future__ import annotations

import re
from typing import Final

FIRST_CHARS_MIN: Final = 12
"""The first piece may end at a comma once it is so long: the listener waits for it."""

CHARS_MIN: Final = 24
"""A later piece ends with a sentence, and is at least so long: a voice sounds better with more."""

CHARS_MAX: Final = 400
"""A piece is cut at a space at the latest here, whatever is written."""

_SENTENCE: Final = re.compile(r"[.!?\u2026][\"')\]\u201d\u2019]*(?=\s)|[\u3002\uff01\uff1f]|\n")
_CLAUSE: Final = re.compile(
    r"[.!?,;:\u2026\u2014][\"')\]\u201d\u2019]*(?=\s)|[\u3002\uff01\uff1f\uff0c\u3001]|\n"
)
_ABBREVIATION: Final = re.compile(r"(?:^|\s)(?:[A-Za-z]|Dr|Mr|Mrs|Ms|St|vs|No|e\.g|i\.e)\.$")
"""A full stop that ends no sentence."""


class Clauses:
    """Text in, pieces out; joined, the pieces are the text."""

    __slots__ = ("_first", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        """What can be spoken now."""
        self._text += text
        found = []
        while (end := self._end()) is not None:
            found.append(self._text[:end])
            self._text = self._text[end:]
            self._first = False
        return found

    def finish(self) -> str:
        """The rest."""
        rest, self._text = self._text, ""
        return rest

    def _end(self) -> int | None:
        text = self._text
        least = FIRST_CHARS_MIN if self._first else CHARS_MIN
        pattern = _CLAUSE if self._first else _SENTENCE
        # no further: an answer may come at once, and is as long as a model likes
        for match in pattern.finditer(text, 0, CHARS_MAX + 1):
            end = match.end()
            if end >= least and not _ABBREVIATION.search(text[:end]):
                # the space goes with what it follows
                while end < len(text) and text[end].isspace():
                    end += 1
                return end
        if len(text) > CHARS_MAX:
            space = text.rfind(" ", CHARS_MAX // 2, CHARS_MAX)
            return CHARS_MAX if space < 0 else space + 1
        return None
