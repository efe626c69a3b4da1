"""What the session needs to know of texts: whether they can be spoken, how long, where to cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

_TAG: Final = re.compile(r"<[^<>]{1,200}>")
_SENTENCE_END: Final = re.compile(r"[.!?;:,\u3002\uff01\uff1f\uff0c]\s*|\s+")

_WIDE: Final = 2.8
"""Latin letters that take as long to say as one Chinese or Japanese character."""


def speakable(text: str) -> bool:
    """Whether there is anything to say: a letter or a digit of any script."""
    return any(character.isalnum() for character in text)


def letters(text: str) -> str:
    """`text` as a comparable stream: letters and digits in lower case, without markup."""
    plain = unicodedata.normalize("NFKC", _TAG.sub(" ", text)).lower()
    return "".join(character for character in plain if character.isalnum())


def weight(text: str) -> float:
    """How long `text` takes to say, in letters."""
    return sum(
        _WIDE if unicodedata.east_asian_width(character) in "WF" else 1.0
        for character in letters(text)
    )


def split(text: str, chars_max: int) -> Iterator[str]:
    """`text` in parts of at most `chars_max`, cut after punctuation or a space where there is one
    in the second half; joined, the parts are `text`."""
    while len(text) > chars_max:
        ends = [m.end() for m in _SENTENCE_END.finditer(text, chars_max // 2, chars_max)]
        cut = ends[-1] if ends else chars_max
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text
