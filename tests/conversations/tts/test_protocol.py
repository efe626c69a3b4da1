"""What may be said on /tts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations.tts.protocol import (
    TEXT_CHARS_MAX,
    CloseSession,
    Create,
    Flush,
    InputText,
    Style,
    read_message,
    read_model,
)
from gateway.upstreams.errors import Failure
from tests.conversations.hostile import anything, assert_is_a_clear_refusal

CREATE: dict[str, Any] = {
    "type": "session.create",
    "sample_rate": "24000",
    "encoding": "pcm_s16le",
    "model": "cartesia/sonic-3",
    "voice": "anna",
    "language": "en",
    "extra": {"speed": 1.1},
    "fallback": {"models": [{"model": "rime/coda", "voice": "ben", "extra": {}}]},
    "connection": {"timeout": 10.0, "retries": 3},
}
TEXT: dict[str, Any] = {
    "type": "input_transcript",
    "transcript": "One sentence. ",
    "generation_config": {"voice": "anna", "model": "cartesia/sonic-3", "language": "en"},
    "extra": {"speed": 1.1},
}


@given(
    anything(CREATE, TEXT, {"type": "session.flush"}, {"type": "session.close"}),
    st.sampled_from([None, "acme/one", "a\0"]),
)
def test_whatever_comes_is_a_message_or_a_clear_refusal(text: str, default: str | None) -> None:
    message = read_message(text, default)
    if isinstance(message, Failure):
        assert_is_a_clear_refusal(message)
    else:
        assert isinstance(message, Create | InputText | Flush | CloseSession)
    if isinstance(message, Create):
        assert message.style.model
        assert all(style.model for style in message.fallback)


def read(message: dict[str, Any], default: str | None = None) -> Any:
    return read_message(json.dumps(message), default)


def test_a_create_says_how_texts_shall_be_spoken() -> None:
    create = read(CREATE)
    assert create.sample_rate == 24_000
    assert create.style == Style("cartesia/sonic-3", "anna", "en", {"speed": 1.1})
    assert create.fallback == (Style("rime/coda", "ben"),)


def test_the_model_may_stand_in_the_url_alone() -> None:
    assert read({"type": "session.create"}, "acme/one").style == Style("acme/one")
    assert read({"type": "session.create", "model": ""}, "acme/one").style == Style("acme/one")
    assert read({"type": "session.create"}).param == "model"
    assert read({"type": "session.create"}, "acme/one\0").param == "model"


def test_a_model_in_the_url_is_a_name() -> None:
    assert read_model({"model": "acme/one"}, "acme/two") == "acme/one"
    assert read_model({"model": ""}, "acme/two") == "acme/two"
    assert read_model({}, None) is None
    failure = read_model({"model": "acme/one\0"}, None)
    assert isinstance(failure, Failure)
    assert failure.param == "model"


def test_a_text_says_only_what_differs() -> None:
    text = read({"type": "input_transcript", "transcript": "Hi. "})
    assert (text.text, text.model, text.voice, text.language, text.extra) == (
        "Hi. ",
        None,
        None,
        None,
        None,
    )
    text = read(TEXT)
    assert (text.model, text.voice, text.language) == ("cartesia/sonic-3", "anna", "en")
    assert text.extra == {"speed": 1.1}


@pytest.mark.parametrize("fallback", [None, {}, [], {"models": None}, {"models": []}])
def test_there_may_be_no_fallback(fallback: Any) -> None:
    assert read(CREATE | {"fallback": fallback}).fallback == ()


def test_a_text_that_is_too_long_is_too_large() -> None:
    failure = read(TEXT | {"transcript": "x" * (TEXT_CHARS_MAX + 1)})
    assert failure.status == 413
    assert failure.message == (
        "transcript: expected at most 20000 characters, got a string of 20001 characters"
    )


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (CREATE | {"sample_rate": "24000.5"}, "sample_rate"),
        (CREATE | {"sample_rate": True}, "sample_rate"),
        (CREATE | {"voice": "anna\0"}, "voice"),
        (CREATE | {"language": ["en"]}, "language"),
        (CREATE | {"fallback": {"models": [{"voice": "x"}]}}, "fallback.models.0.model"),
        (
            CREATE | {"fallback": {"models": [{"model": "m", "voice": 1}]}},
            "fallback.models.0.voice",
        ),
        ({"type": "input_transcript"}, "transcript"),
        (TEXT | {"generation_config": 5}, "generation_config"),
        (TEXT | {"generation_config": {"model": "a\nb"}}, "generation_config.model"),
        (TEXT | {"extra": []}, "extra"),
    ],
)
def test_a_bad_message_names_the_field(message: dict[str, Any], param: str) -> None:
    failure = read(message)
    assert isinstance(failure, Failure)
    assert failure.param == param
    assert failure.message.startswith(f"{param}: expected ")
