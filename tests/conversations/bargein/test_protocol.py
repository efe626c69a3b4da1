"""What may be said on /bargein."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations.bargein.protocol import (
    MIN_FRAMES_MAX,
    CloseSession,
    Create,
    Query,
    Settings,
    read_message,
    read_query,
)
from gateway.upstreams.errors import Failure
from tests.conversations.hostile import anything, assert_is_a_clear_refusal

CREATE: dict[str, Any] = {
    "type": "session.create",
    "settings": {
        "sample_rate": 16000,
        "num_channels": 1,
        "threshold": 0.5,
        "min_frames": 2,
        "encoding": "s16le",
    },
}


@given(anything(CREATE, {"type": "session.close"}))
def test_whatever_comes_is_a_message_or_a_clear_refusal(text: str) -> None:
    message = read_message(text)
    if isinstance(message, Failure):
        assert_is_a_clear_refusal(message)
    else:
        assert isinstance(message, Create | CloseSession)


@given(
    st.dictionaries(
        st.sampled_from(["threshold", "min_frames", "created_at", "x"]),
        st.text(max_size=6) | st.floats().map(str) | st.integers().map(str) | st.just("9" * 5000),
    )
)
def test_whatever_parameters_come_are_a_query_or_a_clear_refusal(
    parameters: dict[str, str],
) -> None:
    query = read_query(parameters)
    if isinstance(query, Failure):
        assert_is_a_clear_refusal(query)
    else:
        assert 1 <= query.min_frames <= MIN_FRAMES_MAX
        assert float("-inf") < query.created_at < float("inf")


def settings(**fields: Any) -> Settings:
    message = read_message(json.dumps({"type": "session.create", "settings": fields}))
    assert isinstance(message, Create)
    return message.settings


def test_what_is_not_said_is_the_usual() -> None:
    assert settings() == Settings(threshold=None, min_frames=2)


@pytest.mark.parametrize(
    ("given", "frames"), [(0, 1), (-3, 1), (1, 1), (120, 120), (121, 120), (10**9, 120), ("4", 4)]
)
def test_frames_that_no_window_has_are_the_nearest_that_it_has(given: Any, frames: int) -> None:
    assert settings(min_frames=given).min_frames == frames
    query = read_query({"min_frames": str(given)})
    assert isinstance(query, Query)
    assert query.min_frames == frames


def test_numbers_may_be_strings() -> None:
    assert settings(sample_rate="16000", num_channels="1", threshold="0.25").threshold == 0.25


@pytest.mark.parametrize(
    ("written", "number"),
    [("1712000000123456789", 1712000000123456789), ("12.5", 12.5), ("-3", -3), ("0", 0)],
)
def test_created_at_is_the_number_that_was_written(written: str, number: float) -> None:
    query = read_query({"created_at": written})
    assert isinstance(query, Query)
    assert query.created_at == number
    assert type(query.created_at) is type(number)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": "high"}, "threshold: expected a number from 0 to 1, got a string of 4 cha"),
        ({"threshold": "1.5"}, "threshold: expected a number from 0 to 1"),
        ({"threshold": ""}, "threshold: expected a number from 0 to 1, got an empty string"),
        ({"min_frames": "2.5"}, "min_frames: expected a whole number"),
        ({"created_at": "now"}, "created_at: expected a number"),
        ({"created_at": "inf"}, "created_at: expected a number"),
    ],
)
def test_a_bad_parameter_is_named(parameters: dict[str, str], message: str) -> None:
    failure = read_query(parameters)
    assert isinstance(failure, Failure)
    assert failure.message.startswith(message)
    assert failure.param in parameters
