"""JSON from outside, with a bound on how much work it is. Pure.

What a text costs to read depends on how many values it holds, not on its length: 16 MB of `{},` are
five million objects and stop the process for a second, 16 MB of pictures take milliseconds. So the
values are counted before anything is read.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

VALUES_MAX: Final = 50_000
"""Values in one message, lists and objects among them: some 10 ms to read. A conversation of 2000
turns with 100 tools has about 15,000; whoever made more gets no answer from any provider."""


_WINDOW_BYTES: Final = 256 << 10


def loads(text: str | bytes | bytearray, values_max: int = VALUES_MAX) -> Any:
    """The JSON value in `text`. Raises orjson.JSONDecodeError, also for more than `values_max`."""
    if holds_more(text, values_max):
        raise orjson.JSONDecodeError(f"it holds more than {values_max} values", "", 0)
    return orjson.loads(text)


def holds_more(text: str | bytes | bytearray, values_max: int = VALUES_MAX) -> bool:
    """Whether `text` holds more values than this. Looking takes a hundredth of reading it."""
    if len(text) <= values_max:
        return False
    return _separators(text) > values_max and count_values(text, values_max) > values_max


def count_values(text: str | bytes | bytearray, most: int = VALUES_MAX) -> int:
    """How many values `text` holds, or some number above `most`. Of text that is no JSON: at least
    as many as are read before that shows."""
    # words in strings have commas too: only what stands outside of strings counts
    data = text.encode(errors="replace") if isinstance(text, str) else text
    counted = 1
    inside = 0  # whether a window begins inside a string
    at = 0
    while at < len(data) and counted <= most:
        window = bytes(data[at : at + _WINDOW_BYTES])
        backslashes = len(window) - len(window.rstrip(b"\\"))
        if backslashes % 2:  # what it escapes belongs to it
            window += bytes(data[at + len(window) : at + len(window) + 1])
        at += len(window)
        plain = window.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in window else window
        pieces = plain.split(b'"')
        counted += _separators(b"".join(pieces[inside::2])) - 1
        inside ^= (len(pieces) - 1) % 2
    return counted


def _separators(text: str | bytes | bytearray) -> int:
    """Values of JSON text, and what looks like one inside its strings."""
    if isinstance(text, str):
        return 1 + text.count(",") + text.count("[") + text.count("{")
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")
