"""One thing that is wrong in a configuration."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str, ...]
"""Keys from the top of the file down, positions in a list counted from 0; or the name of an
environment variable."""

NAME_CHARS_SHOWN = 64
"""Longer names are shown shortened: a secret in the place of a name is longer than most names."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at `place`. One that is not `fatal` is a warning: the server starts with it."""

    place: Place
    text: str
    fatal: bool = True

    def told(self, line: int | None = None) -> str:
        """One line for people, with the line of the file where it is known."""
        where = ".".join(_short(part) for part in self.place)
        place = f"{where}: " if where else ""
        return f"{place}{self.text}{f' (line {line})' if line else ''}"


def _short(name: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in name)
    if len(printable) <= NAME_CHARS_SHOWN:
        return printable
    return f"{printable[:8]}..."
