"""Configured secrets are struck out by value from all that leaves the process. Pure.

Shapes of credentials (errors.presentable) catch what vendors' keys look like; many keys are plain
hexadecimal, and a provider or a proxy may repeat ours in an error.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

SECRET_CHARS_MIN: Final = 8
"""A shorter one is found in ordinary words, and is no secret."""

MASK: Final = "***"


class KnownSecrets:
    """The secrets of this process, and how they look inside URLs and Basic credentials."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, values: Iterable[str]) -> None:
        """Strike these out from now on. Called when a configuration is read."""
        for value in values:
            if len(value) >= SECRET_CHARS_MIN:
                self._values |= {value, quote(value, safe="")}
                self._values.add(base64.b64encode(value.encode()).decode().rstrip("="))
        if self._values:
            longest_first = sorted(self._values, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def strike(self, text: str) -> str:
        """`text` without any of them."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def forget(self) -> None:
        """For tests: as in a new process."""
        self._values.clear()
        self._pattern = None


SECRETS: Final = KnownSecrets()
"""One for each process: whatever formats a text for callers or logs asks it."""
