"""What a client's messages mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from gateway.conversations.stt.protocol import (
    RETRIES_MAX,
    TIMEOUT_S_MAX,
    Asked,
    CloseSession,
    Create,
    FinalizeSession,
    Update,
    read_message,
)
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import FallbackModel
from tests.conversations.hostile import anything, assert_is_a_clear_refusal

CREATE: dict[str, Any] = {
    "type": "session.create",
    "model": "deepgram/nova-3",
    "settings": {
        "sample_rate": "16000",
        "encoding": "pcm_s16le",
        "language": "en",
        "extra": {"keyterm": []},
    },
    "fallback": {"models": [{"model": "assemblyai/universal-streaming", "extra": None}]},
    "connection": {"timeout": 10.0, "retries": 3},
}
UPDATE: dict[str, Any] = {
    "type": "session.update",
    "settings": {"model": "deepgram/nova-3", "language": "de", "extra": {"keyterm": ["x"]}},
}
AUDIO = {"type": "input_audio", "audio": "AAECAw=="}


@given(anything(CREATE, UPDATE, AUDIO, {"type": "session.finalize"}, {"type": "session.close"}))
def test_whatever_comes_is_a_message_or_a_clear_refusal(text: str) -> None:
    message = read_message(text)
    if isinstance(message, Failure):
        assert_is_a_clear_refusal(message)
    else:
        assert isinstance(message, bytes | Create | Update | FinalizeSession | CloseSession)


def created(**fields: Any) -> Create:
    message = read_message(json.dumps({"type": "session.create", **fields}))
    assert isinstance(message, Create)
    return message


def test_a_create_says_what_the_session_is_to_do() -> None:
    create = created(**CREATE)
    assert create.asked == Asked(
        "deepgram/nova-3",
        "en",
        {"keyterm": []},
        (FallbackModel("assemblyai/universal-streaming"),),
    )
    assert (create.sample_rate, create.timeout_s, create.retries) == (16_000, 10.0, 3)


def test_a_create_may_be_bare() -> None:
    create = created()
    assert create.asked == Asked()
    assert (create.sample_rate, create.timeout_s, create.retries) == (16_000, None, None)


@pytest.mark.parametrize("model", [None, "", "auto", "NOT_GIVEN"])
def test_what_is_no_model_is_chosen_by_language(model: str | None) -> None:
    assert created(model=model).asked.model is None


@pytest.mark.parametrize("rate", ["8000", 8000, 48_000, "44100"])
def test_the_rate_is_a_number_or_a_string(rate: Any) -> None:
    assert created(settings={"sample_rate": rate}).sample_rate == int(rate)


def test_wishes_for_connections_are_bounded() -> None:
    create = created(connection={"timeout": 1e9, "retries": 10**6})
    assert (create.timeout_s, create.retries) == (TIMEOUT_S_MAX, RETRIES_MAX)


def test_an_update_says_only_what_has_changed() -> None:
    update = read_message('{"type": "session.update", "settings": {"language": "de"}}')
    assert isinstance(update, Update)
    assert (update.model, update.language, update.extra) == (None, "de", None)


@pytest.mark.parametrize("language", ["en", "pt-BR", "multi", "zh-Hant-TW", ""])
def test_languages_are_tags(language: str) -> None:
    assert created(settings={"language": language}).asked.language == (language or None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "deepgram/nova-3\0"}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"settings": {"language": "en\n"}}, "settings.language"),
        ({"settings": {"language": "e" * 40}}, "settings.language"),
        ({"settings": {"sample_rate": True}}, "settings.sample_rate"),
        ({"settings": {"sample_rate": "9" * 5000}}, "settings.sample_rate"),
        ({"settings": {"channels": 2}}, "settings.channels"),
        ({"settings": {"extra": {str(i): i for i in range(65)}}}, "settings.extra"),
        ({"fallback": {"models": ["m"] * 9}}, "fallback.models"),
        ({"fallback": {"models": ["\x1b[2J"]}}, "fallback.models.0.model"),
        ({"fallback": {"models": [{"model": "m", "extra": 1}]}}, "fallback.models.0.extra"),
        ({"connection": 5}, "connection"),
    ],
)
def test_a_bad_create_names_the_field(fields: dict[str, Any], param: str) -> None:
    failure = read_message(json.dumps({"type": "session.create", **fields}))
    assert isinstance(failure, Failure)
    assert failure.param == param
    assert failure.message.startswith(f"{param}: expected ")


def test_an_unknown_type_hears_which_there_are() -> None:
    failure = read_message('{"type": "session.begin"}')
    assert isinstance(failure, Failure)
    assert failure.message == (
        "type: expected session.create, input_audio, session.update, session.finalize or "
        "session.close, got a string of 13 characters"
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "input_audio", "audio": "AAEC"}',
        '{"type":"input_audio","audio":"AAEC"}',
        '{ "audio": "AAEC", "type": "input_audio" }',
        '{"type":"input_audio","audio":"AAEC","note":"x"}',
        '{"type":"input_audio","audio":"\\u0041AEC"}',
        '{"type":"input_audio","audio":"AQID","audio":"AAEC"}',
    ],
)
def test_audio_is_the_same_in_every_spelling(text: str) -> None:
    assert read_message(text) == b"\x00\x01\x02"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"input_audio","audio":"AAE"}',
        '{"type":"input_audio","audio":"AA==EC"}',
        '{"type":"input_audio","audio":"AAEC\n"}',
        '{"type":"input_audio","audio":"äAEC"}',
        '{"type":"input_audio","audio":"AAEC"}}"}',
        '{"type":"input_audio","audio":7}',
        '{"type":"input_audio","audio":"}',
    ],
)
def test_what_is_not_base64_is_told_so(text: str) -> None:
    assert isinstance(read_message(text), Failure)


def test_a_message_without_samples_is_none_the_less_audio() -> None:
    assert read_message('{"type":"input_audio","audio":""}') == b""
