"""Configured secrets are struck out by value from all that leaves the process. Pure.

Shapes of credentials (errors.presentable) catch what vendors' keys look like; many keys are plain
hexadecimal, and a provider or a proxy may repeat ours in an error.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

SECRET_CHARS_MIN: Final = 8
"""A shorter one is found in ordinary words, and is no secret."""

MASK: Final = "***"


class KnownSecrets:
    """The secrets of this process, in the forms that they are sent and repeated in."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._forms: tuple[tuple[str, re.Pattern[str]], ...] = ()
        self.chars_max = 0
        """Length of the longest form."""

    def learn(self, values: Iterable[str]) -> None:
        """Strike these out from now on. Called when a configuration is read."""
        for value in values:
            if len(value) >= SECRET_CHARS_MIN:
                self._values |= {form.lower() for form in _forms(value)}
        # the longest first: one secret may stand in another
        ordered = sorted(self._values, key=lambda form: (-len(form), form))
        self._forms = tuple((form, re.compile(re.escape(form), re.IGNORECASE)) for form in ordered)
        self.chars_max = len(ordered[0]) if ordered else 0

    def strike(self, text: str) -> str:
        """`text` without any of them, in small letters or capitals."""
        small = text.lower()
        for form, pattern in self._forms:
            if form in small:  # hardly ever: a search for each costs less than one for all
                text = pattern.sub(MASK, text)
        return text

    def forget(self) -> None:
        """For tests: as in a new process."""
        self._values.clear()
        self._forms = ()
        self.chars_max = 0


def _forms(value: str) -> Iterator[str]:
    """`value` as it stands in a header, a URL, JSON, a dump; and inside of other text in base64, as
    in Basic credentials."""
    data = value.encode(errors="replace")
    yield value
    yield quote(value, safe="")
    yield "".join(f"%{byte:02x}" for byte in data)
    yield data.hex()
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for offset in range(3):  # bytes before it decide which letters it becomes
        begins, ends = -(-8 * offset // 6), 8 * (offset + len(data)) // 6
        encoded = base64.b64encode(bytes(offset) + data).decode()[begins:ends]
        yield encoded
        yield encoded.translate(_URL_SAFE)


_URL_SAFE: Final = str.maketrans("+/", "-_")

SECRETS: Final = KnownSecrets()
"""One for each process: whatever formats a text for callers or logs asks it."""
