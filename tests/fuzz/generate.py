"""Makes hostile messages: JSON in the words that a module of ours reads, with values that break
things, or bytes that are no JSON at all."""

from __future__ import annotations

import ast
import base64
import contextlib
import copy
import importlib.util
import json
import pkgutil
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    200,
    16000,
    1 << 31,
    1 << 63,
    1 << 64,
    10**400,
    0.5,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "0",
    "-1",
    "1e400",
    "9" * 5000,
    "\0",
    "\x1b[2J\r\n",
    "\ud800",
    "ä" * 130,
    "中文。",
    "x" * 3000,
    "u1",
    "AAAA",
    "%%%=",
    "é===",
    base64.b64encode(b"RIFF" + bytes(60)).decode(),
    "2026-01-01T00:00:00Z",
    "99999-01-01T00:00:00Z",
)
WORDS_MAX = 400
SAMPLES_MAX = 400
TESTS = Path(__file__).parents[1]
Samples = tuple[dict[str, Any], ...]
LEVELS = 4


def _files(module: str) -> list[Path]:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)]
    folder = Path(spec.origin).parent
    return [folder / f"{one.name}.py" for one in pkgutil.iter_modules([str(folder)])]


@cache
def words_of(*modules: str) -> tuple[str, ...]:
    """The short strings in the source of `modules`: names of fields, types of messages."""
    found: dict[str, None] = {}
    for module in modules:
        for file in _files(module):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    for word in node.value.split() if len(node.value) > 30 else [node.value]:
                        if 0 < len(word) <= 30 and word.isprintable():
                            found.setdefault(word)
    return tuple(found)[:WORDS_MAX] or ("type",)


@cache
def samples_of(*patterns: str) -> tuple[dict[str, Any], ...]:
    """The JSON objects that stand in these files of the tests, as literals or as text."""
    found = []
    for pattern in patterns:
        for file in sorted(TESTS.glob(pattern)):
            for node in ast.walk(ast.parse(file.read_text())):
                try:
                    literal = ast.literal_eval(node)  # raises for most
                except (ValueError, TypeError, SyntaxError):
                    continue
                if isinstance(literal, (str, bytes)) and len(literal) > 8:
                    text = literal if isinstance(literal, str) else literal.decode(errors="replace")
                    for line in text.splitlines():
                        with contextlib.suppress(ValueError):
                            found.append(json.loads(line.removeprefix("data:")))
                else:
                    found.append(literal)
    return tuple(one for one in found if isinstance(one, dict) and _is_json(one))[:SAMPLES_MAX]


def _is_json(made: Any) -> bool:
    try:
        json.dumps(made)
    except (TypeError, ValueError):
        return False
    return all(isinstance(name, str) for name in made)


def nearly(chance: Random, sample: dict[str, Any], words: tuple[str, ...]) -> dict[str, Any]:
    """`sample` with up to three of its values replaced or taken out."""
    made = copy.deepcopy(sample)
    for _ in range(chance.randrange(4)):
        holder: Any = made
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(holder[key], (dict, list)) and chance.randrange(4):
                holder = holder[key]
                continue
            if chance.randrange(5):
                holder[key] = value(chance, words, 1)
            else:
                del holder[key]
            break
    return made


def value(chance: Random, words: tuple[str, ...], levels: int = LEVELS) -> Any:
    """Any JSON value."""
    kind = chance.randrange(8)
    if levels and kind < 3:
        return message(chance, words, levels - 1)
    if levels and kind == 3:
        return [value(chance, words, levels - 1) for _ in range(chance.randrange(4))]
    if kind == 4:
        return chance.choice(words)
    if kind == 6 and levels:
        return [chance.choice(SCALARS)]
    if kind == 5 and not chance.randrange(20):
        return _deep(chance.choice((100, 250, 260, 900)))
    return chance.choice(SCALARS)


def message(chance: Random, words: tuple[str, ...], levels: int = LEVELS) -> dict[str, Any]:
    """A JSON object in these words."""
    made = {
        chance.choice(words): value(chance, words, levels) for _ in range(chance.randrange(1, 7))
    }
    if not chance.randrange(3):
        made["type"] = chance.choice(words)
    return made


def _deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


def text(chance: Random, words: tuple[str, ...], samples: Samples = ()) -> str:
    """A text message."""
    kind = chance.randrange(12)
    if kind == 0:
        return "".join(chr(chance.choice((0, 10, 34, 92, 123, 0xE9, 0x4E2D))) for _ in range(20))
    if kind == 1:
        return chance.choice(("", "{", "[]", "null", "NaN", '"', "[" * 3000, '{"a":' * 2000))
    if samples and kind < 10:
        made: Any = nearly(chance, chance.choice(samples), words)
    else:
        made = message(chance, words) if kind < 11 else value(chance, words)
    said = json.dumps(made)
    return said[: chance.randrange(len(said) + 1)] if kind == 2 else said


def data(chance: Random, words: tuple[str, ...], samples: Samples = ()) -> bytes:
    """A message of bytes: text, server-sent events, or noise."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.randbytes(chance.randrange(64))
    if kind == 1:
        return b"RIFF" + chance.randbytes(4) + b"WAVEfmt " + chance.randbytes(40) + b"data1234"
    encoded = text(chance, words, samples).encode(errors="surrogatepass")
    if kind < 6:
        event = b"event: " + chance.choice(words).encode() + b"\n" if chance.randrange(2) else b""
        return event + b"data: " + encoded + chance.choice((b"\n\n", b"\r\n\r\n", b"\n", b""))
    return encoded


def frame(chance: Random, words: tuple[str, ...], samples: Samples = ()) -> str | bytes:
    """A message on a WebSocket."""
    make = text if chance.randrange(4) else data
    return make(chance, words, samples)


def headers(chance: Random, words: tuple[str, ...]) -> dict[str, str]:
    """Headers of an HTTP answer."""
    names = (
        "content-type retry-after date x-request-id x-ratelimit-remaining-requests "
        "x-ratelimit-reset-requests x-ratelimit-remaining-tokens x-ratelimit-reset-tokens "
        "anthropic-ratelimit-requests-remaining anthropic-ratelimit-requests-reset"
    ).split()
    values = (
        *(one for one in SCALARS if isinstance(one, str)),
        "text/event-stream",
        "application/json",
        "audio/wav",
        "Mon, 30 Nov 99999 09:00:00 GMT",
        "Mon, 30 Nov 2026 09:00:00 +9999",
        "1e308",
        "nan",
        "-5",
        "6m0s",
    )
    count = chance.randrange(5)
    return {chance.choice((*names, *words[:5])): chance.choice(values) for _ in range(count)}
