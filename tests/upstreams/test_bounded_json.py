"""JSON from outside, with a bound on how much work it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.upstreams import bounded_json
from gateway.upstreams.bounded_json import VALUES_MAX, count_values, holds_more, loads


def values_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(values_of, value))
    if isinstance(value, dict):
        return 1 + sum(map(values_of, value.values()))
    return 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.text(st.sampled_from('a,[{"\\}]:é'), max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('k,"\\[')), inner),
    max_leaves=30,
)


@pytest.fixture(params=[7, 256 << 10])
def windows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Texts are looked at piece by piece, however they are cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded_json, "_WINDOW_BYTES", request.param)
        yield


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, st.integers(0, 40))
def test_no_value_is_missed_and_strings_are_not_counted(
    windows: None, value: Any, most: int
) -> None:
    data, real = orjson.dumps(value), values_of(value)
    empty = data.count(b"[]") + data.count(b"{}")  # counted as if there were something in them
    for text in (data, data.decode()):
        counted = count_values(text, most)
        assert counted >= min(real, most + 1)
        assert counted <= max(real + empty, most + 1)
        assert holds_more(text, most) <= (counted > most)
        assert holds_more(text, most) or real <= most


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from('[{,"\\}] 1'), max_size=60))
def test_text_that_is_no_json_is_counted_too(windows: None, text: str) -> None:
    assert count_values(text, 5) >= 1


@pytest.mark.parametrize("piece", ["{}", "[]", "1", '"a"', "null", '{"a":1}', "[[1]]"])
def test_more_values_than_the_bound_are_not_read(piece: str) -> None:
    text = "[" + ",".join([piece] * VALUES_MAX) + "]"
    for given_text in (text, text.encode(), bytearray(text.encode())):
        with pytest.raises(orjson.JSONDecodeError, match=f"more than {VALUES_MAX} values"):
            loads(given_text)
    assert len(loads(text, 4 * VALUES_MAX)) == VALUES_MAX


@pytest.mark.parametrize("letter", [",", "[", "{", '\\"', "\\\\", '\\",'])
def test_a_long_text_is_one_value(letter: str) -> None:
    text = f'{{"content": "{letter * 2 * VALUES_MAX}", "after": ["x"]}}'
    assert loads(text)["after"] == ["x"]
    assert loads(text.encode())["after"] == ["x"]


def test_values_behind_a_quote_that_is_never_closed_are_not_needed() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        loads(b'{"a": "' + b"{}," * VALUES_MAX)
