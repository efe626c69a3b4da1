"""Inworld's contexts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.providers.inworld.tts import InworldVoice
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Chars, Failed, Finished, SpeechRequest, Timed, Words

VOICE = InworldVoice(
    Account("inworld", "inworld", "https://api.inworld.ai", "a2V5", settings=ProviderSettings())
)


def request(**options: Any) -> SpeechRequest:
    return SpeechRequest("inworld-tts-2", "Dennis", "en-US", 24000, options)


def result(body: dict[str, Any]) -> str:
    return json.dumps({"result": {"contextId": "u1", **body}})


def test_the_key_is_sent_as_it_is() -> None:
    dial = VOICE.dial(request())
    assert dial.url == "wss://api.inworld.ai/tts/v1/voice:streamBidirectional"
    assert dial.headers["Authorization"] == "Basic a2V5"


def test_a_context_is_created_with_everything() -> None:
    options = {"speaking_rate": 1.1, "delivery_mode": "STABLE", "timestamp_type": "CHARACTER"}
    (frame,) = VOICE.dialogue().begin("u1", request(**options))
    message = json.loads(frame)
    create = message["create"]
    assert message["contextId"] == "u1"
    assert create["audioConfig"] == {
        "audioEncoding": "PCM",
        "sampleRateHertz": 24000,
        "speakingRate": 1.1,
    }
    assert (create["voiceId"], create["modelId"], create["language"]) == (
        "Dennis",
        "inworld-tts-2",
        "en-US",
    )
    assert (create["deliveryMode"], create["timestampType"]) == ("STABLE", "CHARACTER")


def test_the_end_is_a_flush_and_a_close() -> None:
    frames = [json.loads(frame) for frame in VOICE.dialogue().finish("u1")]
    assert [set(frame) - {"contextId"} for frame in frames] == [
        {"flush_context"},
        {"close_context"},
    ]


def test_timings_come_before_their_audio() -> None:
    info = {
        "wordAlignment": {
            "words": ["Hi"],
            "wordStartTimeSeconds": [0.0],
            "wordEndTimeSeconds": [0.2],
        }
    }
    chunk = {"audioChunk": {"audioContent": "AQA=", "timestampInfo": info}}
    assert VOICE.dialogue().decode(result(chunk)) == [
        ("u1", Words((Timed("Hi", 0.0, 0.2),))),
        ("u1", Audio(b"\1\0")),
    ]


def test_words_with_their_own_spaces_are_passed_as_they_are() -> None:
    info = {
        "wordAlignment": {
            "words": ["Hi", " "],
            "wordStartTimeSeconds": [0.0, 0.2],
            "wordEndTimeSeconds": [0.2, 0.3],
        }
    }
    ((_, words),) = VOICE.dialogue().decode(result({"audioChunk": {"timestampInfo": info}}))
    assert isinstance(words, Words)
    assert not words.spaced


def test_characters() -> None:
    info = {
        "characterAlignment": {
            "characters": ["H"],
            "characterStartTimeSeconds": [0.0],
            "characterEndTimeSeconds": [0.1],
        }
    }
    ((_, chars),) = VOICE.dialogue().decode(result({"audioChunk": {"timestampInfo": info}}))
    assert chars == Chars((Timed("H", 0.0, 0.1),))


def test_the_end_of_a_generation_is_not_the_end() -> None:
    assert VOICE.dialogue().decode(result({"flushCompleted": {}})) == ()
    ((_, heard),) = VOICE.dialogue().decode(result({"contextClosed": {}}))
    assert isinstance(heard, Finished)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3, Kind.UPSTREAM_REFUSED),
        (5, Kind.UPSTREAM_REFUSED),
        (7, Kind.UPSTREAM_AUTH),
        (8, Kind.RATE_LIMITED),
        (13, Kind.UPSTREAM_ERROR),
        (14, Kind.OVERLOADED),
    ],
)
def test_errors_are_known_by_their_grpc_code(code: int, kind: Kind) -> None:
    dialogue = VOICE.dialogue()
    for frame in (
        result({"status": {"code": code, "message": "why"}}),
        json.dumps({"error": {"code": code, "message": "why"}}),
    ):
        ((_, failed),) = dialogue.decode(frame)
        assert isinstance(failed, Failed)
        assert failed.failure.kind is kind
