"""Inworld's recogniser: what is sent, and what each message of the service means."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import (
    FINISH,
    FLUSH,
    KEEP_ALIVE,
    Audio,
    Recognizer,
    SpeechStarted,
    Word,
)
from tests.providers.recognizers import (
    KEY,
    attempt,
    dial,
    failed,
    final,
    hear,
    interim,
    kinds,
    recognizer,
)

MODEL = "inworld/inworld-stt-1"


def streaming(language: str | None = "en-US", **extra: Any) -> Recognizer:
    return recognizer("inworld", MODEL, language, **extra)


def transcription(text: str, *, is_final: bool, **more: Any) -> dict[str, Any]:
    return {"result": {"transcription": {"transcript": text, "isFinal": is_final, **more}}}


def test_the_socket_is_opened_with_the_key_as_it_was_copied() -> None:
    assert dial(streaming()).url == "wss://api.inworld.ai/stt/v1/transcribe:streamBidirectional"
    assert dial(streaming()).headers["authorization"] == f"Basic {KEY}"


def test_the_first_message_is_the_configuration_with_livekits_defaults() -> None:
    (frame,) = streaming("multi").opening()
    assert json.loads(frame) == {
        "transcribeConfig": {
            "modelId": MODEL,
            "audioEncoding": "LINEAR16",
            "sampleRateHertz": 16_000,
            "numberOfChannels": 1,
            "language": "en-US",
            "includeWordTimestamps": True,
            "inactivityTimeoutSeconds": 0,
            "endOfTurnConfidenceThreshold": 0.5,
            "voiceProfileConfig": {"enableVoiceProfile": True, "topN": 10},
            "inworldSttV1Config": {"vadThreshold": 0.5},
        }
    }


def test_audio_is_base64_and_each_request_has_its_message() -> None:
    one = streaming()
    (frame,) = one.encode(Audio(b"\1\2"))
    assert base64.b64decode(json.loads(frame)["audioChunk"]["content"]) == b"\1\2"
    assert one.encode(FLUSH) == ('{"endTurn":{}}',)
    assert one.encode(FINISH) == ('{"endTurn":{}}', '{"closeStream":{}}')
    assert one.encode(KEEP_ALIVE) == ()


def test_speech_starts_at_a_time_in_milliseconds() -> None:
    started = {"result": {"speechStarted": {"startTimeMs": 1250, "confidence": 0.95}}}
    assert hear(streaming(), started) == [SpeechStarted(1.25)]
    assert hear(streaming(), {"result": {"speechStarted": {}}}) == [SpeechStarted(None)]


def test_interims_with_text_are_heard() -> None:
    one = streaming()
    assert interim(hear(one, transcription("I need", is_final=False))).text == "I need"
    assert hear(one, transcription(" ", is_final=False)) == []


def test_a_final_has_words_in_milliseconds_or_in_seconds_and_the_voices_profile() -> None:
    heard = final(
        hear(
            streaming(),
            transcription(
                "I need.",
                is_final=True,
                wordTimestamps=[
                    {"word": "I", "startTimeMs": 1260, "endTimeMs": 1330, "confidence": 0.5},
                    {"word": "need.", "startTimeSeconds": 1.4, "endTimeSeconds": 1.6},
                    {"word": "lost"},
                ],
                voiceProfile={"age": ["adult"]},
            ),
        )
    )
    assert heard.words == (Word("I", 1.26, 1.33, 0.5), Word("need.", 1.4, 1.6, 1.0))
    assert heard.confidence == 0.75
    assert heard.extra == {"voice_profile": {"age": ["adult"]}}


def test_an_empty_final_ends_the_turn_and_answers_a_flush() -> None:
    one = streaming()
    one.encode(FLUSH)
    assert kinds(hear(one, transcription("", is_final=True))) == ["FinalTranscript", "Flushed"]


@pytest.mark.parametrize(
    "result", [{"speechStopped": {"silenceDurationMs": 420}}, {"usage": {}}, {}]
)
def test_other_results_mean_nothing(result: dict[str, Any]) -> None:
    assert hear(streaming(), {"result": result}) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (16, Kind.UPSTREAM_AUTH),
        (8, Kind.RATE_LIMITED),
        (3, Kind.UPSTREAM_REFUSED),
        (5, Kind.UPSTREAM_NOT_FOUND),
        (14, Kind.OVERLOADED),
        (429, Kind.RATE_LIMITED),
        (None, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_have_googles_codes_or_http_statuses(code: int | None, kind: Kind) -> None:
    failure = failed(hear(streaming(), {"error": {"code": code, "message": "text"}}))
    assert (failure.kind, failure.message) == (kind, "text")


def test_every_change_needs_another_connection() -> None:
    assert streaming().update(attempt("inworld", MODEL, prompts=["Parley"])) is None


def test_a_close_is_a_lost_connection_unless_its_code_says_more() -> None:
    assert streaming().closed(1006, "").kind is Kind.CONNECTION_LOST
    assert streaming().closed(1008, "x").kind is Kind.UPSTREAM_REFUSED
