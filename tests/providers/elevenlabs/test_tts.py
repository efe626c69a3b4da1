"""ElevenLabs' contexts, spellings and errors."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.elevenlabs.settings import ElevenLabsSettings
from gateway.providers.elevenlabs.tts import ElevenLabsVoice
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Audio, Chars, Failed, Finished, SpeechRequest, Timed

VOICE = ElevenLabsVoice(
    Account(
        "elevenlabs",
        "elevenlabs",
        "https://api.elevenlabs.io",
        "key",
        settings=ElevenLabsSettings(),
    )
)


def request(model: str = "eleven_flash_v2_5", **options: Any) -> SpeechRequest:
    return SpeechRequest(model, "a/b", "en-US", 24000, options)


def query(given: SpeechRequest) -> dict[str, list[str]]:
    return parse_qs(urlsplit(VOICE.dial(given).url).query)


def test_the_voice_is_in_the_path_and_everything_fixed_in_the_query() -> None:
    dial = VOICE.dial(request(seed=7))
    assert "/v1/text-to-speech/a%2Fb/multi-stream-input?" in dial.url
    assert dial.headers["xi-api-key"] == "key"
    asked = query(request(seed=7))
    assert asked["output_format"] == ["pcm_24000"]
    assert asked["language_code"] == ["en"]
    assert asked["auto_mode"] == ["true"]
    assert asked["seed"] == ["7"]


def test_a_model_without_languages_gets_none() -> None:
    assert "language_code" not in query(request("eleven_multilingual_v2"))


def test_a_schedule_of_the_clients_replaces_auto_mode() -> None:
    asked = request(chunk_length_schedule=[60, 120])
    assert query(asked)["auto_mode"] == ["false"]
    (frame,) = VOICE.dialogue().begin("u1", asked)
    assert json.loads(frame)["generation_config"] == {"chunk_length_schedule": [60, 120]}


def test_voice_settings_are_sent_once() -> None:
    dialogue = VOICE.dialogue()
    (first,) = dialogue.begin("u1", request(stability=0.4, speed=1.1))
    assert json.loads(first) == {
        "text": " ",
        "context_id": "u1",
        "voice_settings": {"stability": 0.4, "speed": 1.1},
    }
    (said,) = dialogue.say("u1", "One.")
    assert json.loads(said) == {"text": "One. ", "context_id": "u1"}


def test_a_closed_context_is_not_closed_again() -> None:
    dialogue = VOICE.dialogue()
    dialogue.begin("u1", request())
    assert len(dialogue.finish("u1")) == 1
    assert dialogue.cancel("u1") == ()


@pytest.mark.parametrize("context", ["contextId", "context_id"])
@pytest.mark.parametrize(
    ("starts", "lasts"),
    [
        ("charStartTimesMs", "charDurationsMs"),
        ("charStartTimesMs", "charsDurationsMs"),
        ("charsStartTimesMs", "charsDurationsMs"),
    ],
)
def test_every_spelling_is_read(context: str, starts: str, lasts: str) -> None:
    alignment = {"chars": ["H", "i"], starts: [0, 60], lasts: [60, 80]}
    message = {"audio": "AQA=", context: "u1", "normalizedAlignment": alignment}
    assert VOICE.dialogue().decode(json.dumps(message)) == [
        ("u1", Chars((Timed("H", 0.0, 0.06), Timed("i", 0.06, 0.14)))),
        ("u1", Audio(b"\1\0")),
    ]


def test_the_last_message_ends_its_context() -> None:
    ((context, heard),) = VOICE.dialogue().decode('{"isFinal":true,"contextId":"u1"}')
    assert context == "u1"
    assert isinstance(heard, Finished)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("quota_exceeded", Kind.UPSTREAM_QUOTA),
        ("invalid_api_key", Kind.UPSTREAM_AUTH),
        ("max_active_conversations", Kind.RATE_LIMITED),
        ("system_busy", Kind.OVERLOADED),
        ("something_new", Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_are_known_by_name_in_messages_and_in_closes(error: str, kind: Kind) -> None:
    dialogue = VOICE.dialogue()
    message = {"message": "why", "error": error, "code": 1008}
    ((_, failed),) = dialogue.decode(json.dumps(message))
    assert isinstance(failed, Failed)
    assert failed.failure.kind is kind
    expected = Kind.CONNECTION_LOST if kind is Kind.UPSTREAM_ERROR else kind
    assert dialogue.closed(1008, error).kind is expected
