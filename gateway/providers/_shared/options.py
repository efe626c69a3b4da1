"""Provider options: which names a client may use, what they take, what the provider calls them.

The rule for every provider: an option that its table has is checked and passed on; any other is
left out, because clients also send the options of other providers. Null, an empty string and an
empty list mean absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import SPEAKERS, TERMS

TEXT_CHARS_MAX: Final = 4000
LIST_ENTRIES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Option:
    """`read` gives the checked value or None if it is not what was expected, which `expected`
    says. `name` is what the provider calls it; empty: the same."""

    read: Callable[[Any], Any | None]
    expected: str
    name: str = ""

    def called(self, name: str) -> Option:
        return Option(self.read, self.expected, name)


Table = Mapping[str, Option]


def number(low: float, high: float) -> Option:
    def read(value: Any) -> Any | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if math.isfinite(value) and low <= value <= high else None

    return Option(read, f"a number from {low:g} to {high:g}")


def whole(low: int, high: int) -> Option:
    def read(value: Any) -> Any | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return round(value) if math.isfinite(value) and low <= value <= high else None

    return Option(read, f"a whole number from {low} to {high}")


def choice(*values: str) -> Option:
    return Option(lambda value: value if value in values else None, "one of " + ", ".join(values))


def _flag(value: Any) -> Any | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> Any | None:
    return value if isinstance(value, str) and len(value) <= TEXT_CHARS_MAX else None


def _texts(value: Any) -> Any | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or len(values) > LIST_ENTRIES_MAX:
        return None
    texts = [_term(entry) for entry in values]
    return [text for text in texts if text] if None not in texts else None


def _term(value: Any) -> str | None:
    """A key term as text, whatever form it has for its provider: {"content": ...} too."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and len(value) <= TEXT_CHARS_MAX else None


def _object(value: Any) -> Any | None:
    return value if isinstance(value, dict) else None


FLAG: Final = Option(_flag, "true or false")
TEXT: Final = Option(_text, "a string")
TEXTS: Final = Option(_texts, "a string or a list of strings")
OBJECT: Final = Option(_object, "an object")
IGNORED: Final = Option(lambda value: (), "anything")
"""Known to the clients, without a meaning for the provider."""


def is_absent(value: Any) -> bool:
    return value is None or value in ("", [], ())


def check(options: Mapping[str, Any], table: Table) -> Failure | None:
    """What is wrong with `options`, if anything."""
    for name, option in table.items():
        value = options.get(name)
        if not is_absent(value) and option.read(value) is None:
            return Failure(
                Kind.BAD_REQUEST,
                f"settings.extra.{name}: expected {option.expected}",
                param=f"settings.extra.{name}",
            )
    return None


def known(options: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """The options that `table` has, under the provider's names; what is wrong is left out."""
    read = {}
    for name, option in table.items():
        given = options.get(name)
        if is_absent(given) or option is IGNORED:
            continue
        value = option.read(given)
        if value is not None:
            read[option.name or name] = value
    return read


def translated(extra: Mapping[str, Any], terms: str | None, speakers: str | None) -> dict[str, Any]:
    """`SttUpstream.translate` for a vendor that takes key terms under the option `terms` and tells
    speakers apart under `speakers` (None: not at all)."""
    given = dict(extra)
    if terms is not None and is_absent(given.get(terms)):
        for name in TERMS:
            value = TEXTS.read(extra[name]) if not is_absent(extra.get(name)) else None
            if value:
                given[terms] = value
                break
    if speakers is not None and speakers not in given:
        wanted = [extra[name] for name in SPEAKERS if name in extra]
        if any(value not in (None, False, "none", "") for value in wanted):
            given[speakers] = True
    return given


def query_string(parameters: Mapping[str, Any]) -> str:
    """A URL's query: lists repeat their name, true and false are small, spaces are %20."""
    parts = []
    for name, value in parameters.items():
        values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
        for one in values:
            text = ("true" if one else "false") if isinstance(one, bool) else f"{one}"
            parts.append(f"{name}={quote(text, safe='')}")
    return "&".join(parts)


def base_language(language: str | None) -> str | None:
    """`pt-BR` as `pt`; None stays None."""
    return language.split("-")[0].lower() if language else None
