"""Google's live transcription: what is sent, and what each message of the service means."""

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
    Expiring,
    Recognizer,
    SpeechStarted,
)
from tests.providers.recognizers import (
    KEY,
    attempt,
    dial,
    final,
    hear,
    interim,
    kinds,
    recognizer,
)

MODEL = "gemini-3.5-transcribe-live"


def live(language: str | None = "en-US", **extra: Any) -> Recognizer:
    return recognizer("google", MODEL, language, **extra)


def setup(one: Recognizer) -> dict[str, Any]:
    (frame,) = one.opening()
    found: dict[str, Any] = json.loads(frame)["setup"]
    return found


def content(**fields: Any) -> dict[str, Any]:
    return {"serverContent": fields}


def test_the_socket_is_opened_at_the_live_service_whatever_path_the_chat_has() -> None:
    assert dial(live()).url == (
        "wss://generativelanguage.googleapis.com/ws/"
        "google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    )
    assert dial(live()).headers["x-goog-api-key"] == KEY


def test_the_first_message_sets_model_and_language() -> None:
    asked = setup(live())
    assert asked["model"] == f"models/{MODEL}"
    assert asked["generationConfig"] == {"responseModalities": ["TEXT"]}
    assert asked["inputAudioTranscription"] == {"languageCodes": ["en-US"]}
    assert setup(live("multi"))["inputAudioTranscription"] == {}
    assert setup(live(None))["inputAudioTranscription"] == {}


def test_as_many_terms_are_sent_as_the_service_takes() -> None:
    terms = [f"term {i}" for i in range(1000)]
    asked = setup(live(custom_vocabulary=terms))["inputAudioTranscription"]
    assert asked["customVocabulary"] == terms


def test_audio_is_base64_with_its_rate_and_a_flush_ends_the_audio_stream() -> None:
    one = live()
    (frame,) = one.encode(Audio(b"\1\2"))
    audio = json.loads(frame)["realtimeInput"]["audio"]
    assert base64.b64decode(audio["data"]) == b"\1\2"
    assert audio["mimeType"] == "audio/pcm;rate=16000"
    end = ('{"realtimeInput":{"audioStreamEnd":true}}',)
    assert one.encode(FLUSH) == end
    assert one.encode(FINISH) == end
    assert one.encode(KEEP_ALIVE) == ()


def test_messages_are_read_from_binary_frames_too() -> None:
    assert kinds(hear(live(), b'{"setupComplete": {}}')) == ["Ready"]


def test_a_turn_begins_with_its_first_interim_and_ends_with_its_final() -> None:
    one = live()
    first = content(interimInputTranscription={"text": "I need", "languageCode": "en-US"})
    assert kinds(hear(one, first)) == ["SpeechStarted", "InterimTranscript"]
    heard = interim(hear(one, content(interimInputTranscription={"text": "I need a"})))
    assert heard.text == "I need a"
    transcript = final(
        hear(
            one,
            content(
                inputTranscription={
                    "text": " I need a room. ", "languageCode": "en-US",
                    "startOffset": "1.2s", "endOffset": "2.9s", "speakerLabel": "spk_1",
                }
            ),
        )
    )  # fmt: skip
    assert transcript.text == "I need a room."
    assert (transcript.start, transcript.end) == (1.2, 2.9)
    assert (transcript.language, transcript.speaker) == ("en-US", "spk_1")
    assert kinds(hear(one, first)) == ["SpeechStarted", "InterimTranscript"]  # the next turn


def test_one_message_may_carry_the_last_interim_and_the_final() -> None:
    both = content(interimInputTranscription={"text": "a"}, inputTranscription={"text": "A."})
    assert kinds(hear(live(), both)) == ["SpeechStarted", "InterimTranscript", "FinalTranscript"]


@pytest.mark.parametrize("end", ["turnComplete", "generationComplete"])
def test_a_turn_that_ends_with_interims_alone_has_the_last_one_as_its_final(end: str) -> None:
    one = live()
    hear(one, content(interimInputTranscription={"text": "a room"}))
    assert final(hear(one, content(**{end: True}))).text == "a room"
    assert hear(one, content(**{end: True})) == []


def test_a_final_or_an_empty_turn_answers_a_flush() -> None:
    one = live()
    one.encode(FLUSH)
    assert kinds(hear(one, content(inputTranscription={"text": "A."}))) == [
        "FinalTranscript",
        "Flushed",
    ]
    one.encode(FINISH)
    assert kinds(hear(one, content(turnComplete=True))) == ["Flushed", "Ended"]


def test_the_services_own_voice_detector_is_heard() -> None:
    start = {"voiceActivity": {"type": "ACTIVITY_START", "audioOffset": "1.5s"}}
    assert hear(live(), start) == [SpeechStarted(1.5)]
    assert hear(live(), {"voiceActivity": {"type": "ACTIVITY_END"}}) == []


def test_it_says_before_its_ten_minutes_are_over() -> None:
    assert hear(live(), {"goAway": {"timeLeft": "30s"}}) == [Expiring(30.0)]
    assert hear(live(), {"goAway": {}}) == [Expiring(5.0)]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1008, "The session's maximum duration was reached", Kind.SESSION_LIMIT),
        (1008, "model not allowed", Kind.UPSTREAM_REFUSED),
        (1011, "RESOURCE_EXHAUSTED", Kind.RATE_LIMITED),
        (1007, "bad setup", Kind.UPSTREAM_REFUSED),
        (1011, "", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_says_why(code: int, reason: str, kind: Kind) -> None:
    assert live().closed(code, reason).kind is kind


def test_every_change_needs_another_connection() -> None:
    assert live().update(attempt("google", MODEL, custom_vocabulary=["Parley"])) is None
