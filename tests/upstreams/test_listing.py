"""Which models serve what."""

import pytest

from gateway.upstreams.listing import (
    modalities_of_deployment,
    modalities_of_name,
    modality_by_sound,
    named_models,
    read_models,
    unlisted,
)
from gateway.upstreams.provider import Account, find


def account(type_name: str, **settings: object) -> Account:
    made = find(type_name).settings.model_validate({"type": type_name, **settings})
    return Account("rack", type_name, "http://rack/v1", settings=made)


@pytest.mark.parametrize(
    ("model", "modality"),
    [
        ("qwen3-8b", "chat"),
        ("Systran/faster-whisper-large-v3", "stt"),
        ("nvidia/parakeet-tdt-0.6b", "stt"),
        ("gpt-4o-mini-transcribe", "stt"),
        ("hexgrad/Kokoro-82M", "tts"),
        ("tts-1-hd", "tts"),
        ("canopylabs/orpheus-3b", "tts"),
    ],
)
def test_a_name_tells_what_a_model_is_probably_for(model: str, modality: str) -> None:
    assert modality_by_sound(model) == modality


def test_models_of_a_server_of_ones_own_are_told_apart() -> None:
    rack = account(
        "openai-compatible",
        models=["llama", "whisper-1"],
        stt_models=["ears"],
        tts_models=["mouth"],
    )
    assert named_models(rack, "chat") == ("llama",)
    assert named_models(rack, "stt") == ("ears", "whisper-1")
    assert named_models(rack, "tts") == ("mouth",)


def test_models_of_a_vendor_without_chat_may_be_for_all_that_it_does() -> None:
    deepgram = account("deepgram", models=["nova-9"])
    assert named_models(deepgram, "stt") == named_models(deepgram, "tts") == ("nova-9",)


def test_a_deployment_is_what_the_catalogue_the_settings_or_its_name_say() -> None:
    rack = account("openai-compatible", stt_models=["ears"])
    assert modalities_of_deployment(rack, "ears") == {"stt"}
    assert modalities_of_deployment(rack, "llama") == {"chat"}
    assert modalities_of_deployment(rack, "kokoro") == {"tts"}
    assert modalities_of_deployment(account("openai"), "whisper-1") == {"stt"}
    assert modalities_of_deployment(account("speechmatics"), "anything") == {"stt"}


def test_a_star_is_for_what_models_are_known_for() -> None:
    assert modalities_of_deployment(account("openai-compatible"), "*") == {"chat"}
    rack = account("openai-compatible", tts_models=["kokoro"])
    assert modalities_of_deployment(rack, "*") == {"chat", "tts"}


def test_a_name_of_a_catalogue_is_known_wherever_it_is_served() -> None:
    assert modalities_of_name("openai/gpt-4.1-mini") == {"chat"}
    assert modalities_of_name("cartesia/sonic-3") == {"tts"}
    assert modalities_of_name("my-own") == frozenset()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data": [{"id": "a"}, {"id": "b"}]}', {"a", "b"}),
        (b'[{"model_id": "a"}]', {"a"}),
        (b'{"models": [{"name": "models/gemini"}]}', {"gemini"}),
        (b'{"data": [{"id": "a"}, {"id": 3}, null, []]}', {"a"}),
        (b'{"data": [{"id": "a"}], "has_more": true}', None),
        (b"<html>", None),
        (b'{"error": {}}', None),
        (b"3", None),
    ],
)
def test_lists_are_read_in_each_form(body: bytes, expected: set[str] | None) -> None:
    assert read_models(body) == expected


def test_a_model_with_a_date_behind_it_is_listed() -> None:
    listed = frozenset({"claude-4-20260101", "gpt-5-2026-01-01", "qwen3:latest", "x"})
    models = ["claude-4", "gpt-5", "qwen3", "x", "gone", "claude"]
    assert unlisted(models, listed) == ("claude", "gone")
