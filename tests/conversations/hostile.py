"""What a client might send, and what every refusal owes it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from gateway.conversations.messages import JSON_DEPTH_MAX
from gateway.upstreams.errors import MESSAGE_CHARS_MAX, Failure

PATH_MAX = 16

PYDANTICS_WORDS = ("input should", "be a valid", "validation", "pydantic")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "",
            "auto",
            "16000",
            "0",
            "-1",
            "1e400",
            "nan",
            "inf",
            "9" * 5000,
            "\0",
            "\x1b[2J",
            "ä",
            "x" * 300,
        ]
    )
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


def nested(depth: int, bracket: str = "[") -> Any:
    """A value of `depth` levels."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if bracket == "[" else {"a": value}
    return value


deep_values = st.builds(
    nested,
    st.sampled_from([100, JSON_DEPTH_MAX - 6, JSON_DEPTH_MAX, 255, 900]),
    st.sampled_from(["[", "{"]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside `value`, down to PATH_MAX: a deep value inside of another
    could not be written by the `json` of this test."""
    found = [path] if path else []
    items: Any = ()
    if len(path) == PATH_MAX:
        return found
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, messages: Sequence[Mapping[str, Any]]) -> str:
    """One of `messages` as JSON, in which up to three values are replaced or taken out."""
    message = copy.deepcopy(dict(draw(st.sampled_from(messages))))
    for _ in range(draw(st.integers(0, 3))):
        possible = places(message)
        if not possible:
            break
        *path, last = draw(st.sampled_from(possible))
        holder: Any = message
        for key in path:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(json_values | deep_values)
        else:
            del holder[last]
    return json.dumps(message)


def anything(*messages: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Texts: most of them nearly one of `messages`, some any JSON, some no JSON at all."""
    return (
        changed(messages)
        | json_values.map(json.dumps)
        | deep_values.map(lambda value: json.dumps({"type": messages[0].get("type"), "x": value}))
        | st.text(max_size=40)
        | st.sampled_from(
            ["[" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "\ufeff{}", "NaN", "1" * 400]
        )
    )


def assert_is_a_clear_refusal(failure: Failure) -> None:
    """A 4xx in our own words, short enough to be shown."""
    assert 400 <= failure.status < 500
    assert 0 < len(failure.message) <= MESSAGE_CHARS_MAX
    assert "something else" not in failure.message
    assert not any(word in failure.message.lower() for word in PYDANTICS_WORDS), failure.message
