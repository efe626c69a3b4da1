"""What the vendors of voices share."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._shared.tts import (
    base_language,
    by_close,
    by_status,
    encoded_audio,
    query_value,
    read_object,
    samples,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.tts import Audio


def test_a_failure_has_the_kind_of_its_status_and_always_some_text() -> None:
    assert by_status(401, "bad key").kind is Kind.UPSTREAM_AUTH
    assert by_status(503, "").message == "the provider answered with status 503"


def test_a_close_in_the_middle_is_a_lost_connection() -> None:
    failure = by_close(1011, "oops")
    assert (failure.kind, failure.upstream_status) == (Kind.CONNECTION_LOST, 1011)
    assert failure.message == "the provider closed the connection with code 1011: oops"


@pytest.mark.parametrize("frame", ["[]", "{", b"\xff", "null"])
def test_a_frame_that_is_no_object_is_a_failure(frame: str | bytes) -> None:
    failure = read_object(frame)
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.PROTOCOL_ERROR


def test_a_frame_that_is_an_object_is_read() -> None:
    assert read_object('{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("encoded", [None, 7, "a", "====a"])
def test_what_is_no_base64_is_no_audio(encoded: Any) -> None:
    assert samples(encoded) is None


def test_values_as_they_stand_in_an_address() -> None:
    assert query_value(True) == "true"
    assert query_value(["a", 1, False]) == "a,1,false"


def test_a_base_language_has_no_region_however_it_is_written() -> None:
    assert [base_language(one) for one in ("en-US", "pt_BR", "DE", None)] == [
        "en",
        "pt",
        "de",
        None,
    ]


@given(st.binary(max_size=200))
def test_audio_keeps_the_base64_that_it_came_in(pcm: bytes) -> None:
    encoded = base64.b64encode(pcm).decode()
    heard = encoded_audio(encoded)
    assert heard == Audio(pcm)
    assert heard.encoded == encoded


@given(st.text('AB+/=-_ "\n\u00e9', max_size=24))
def test_a_text_that_is_no_plain_base64_is_never_passed_on(text: str) -> None:
    heard = encoded_audio(text)
    if heard is not None and heard.encoded is not None:
        assert base64.b64decode(heard.encoded, validate=True) == heard.pcm
