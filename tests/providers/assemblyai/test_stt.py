"""AssemblyAI's /v3/ws: what is sent, and what each message of the service means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import FINISH, FLUSH, KEEP_ALIVE, Audio, Recognizer, SpeechStarted, Word
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

U_S = "universal-streaming-english"
U3 = "universal-3-6-pro"


def streaming(model: str = U_S, language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("assemblyai", model, language, **extra)


def query(one: Recognizer) -> dict[str, str]:
    found = parse_qs(urlsplit(dial(one).url).query)
    return {name: values[0] for name, values in found.items()}


def turn(text: str, *, over: bool = False, **more: Any) -> dict[str, Any]:
    words = [
        {"text": word, "start": 1000 + 200 * i, "end": 1150 + 200 * i, "confidence": 0.9}
        for i, word in enumerate(text.split())
    ]
    return {
        "type": "Turn", "turn_order": 0, "turn_is_formatted": over, "end_of_turn": over,
        "transcript": text, "utterance": "", "end_of_turn_confidence": 0.5, "words": words, **more,
    }  # fmt: skip


def test_the_socket_is_opened_with_the_settings_in_its_address_and_nothing_is_sent_first() -> None:
    one = streaming()
    assert dial(one).url.startswith("wss://streaming.assemblyai.com/v3/ws?")
    assert dial(one).headers["authorization"] == KEY
    assert query(one)["speech_model"] == U_S
    assert query(one)["encoding"] == "pcm_s16le"
    assert query(one)["sample_rate"] == "16000"
    assert one.opening() == ()


def test_lists_are_one_parameter_each_as_json_within_the_services_limits() -> None:
    terms = ["Parley", "x" * 51, *(f"term {i}" for i in range(200))]
    asked = json.loads(query(streaming(keyterms_prompt=terms))["keyterms_prompt"])
    assert asked[0] == "Parley"
    assert len(asked) == 100
    assert "x" * 51 not in asked


def test_each_model_is_given_its_own_options_alone() -> None:
    given: dict[str, Any] = {"prompt": "a hotel", "format_turns": True}
    assert "prompt" not in query(streaming(U_S, **given))
    assert "format_turns" not in query(streaming(U3, **given))
    assert query(streaming(U3, "pt-BR", **given))["language_codes"] == '["pt"]'


def test_audio_is_binary_and_each_request_has_its_message() -> None:
    one = streaming()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(FLUSH) == ('{"type":"ForceEndpoint"}',)
    assert one.encode(KEEP_ALIVE) == ('{"type":"KeepAlive"}',)
    assert one.encode(FINISH) == ('{"type":"ForceEndpoint"}', '{"type":"Terminate"}')


def test_a_session_begins_speech_is_told_in_seconds_and_it_ends() -> None:
    one = streaming(U3)
    assert kinds(hear(one, {"type": "Begin", "id": "s-1"})) == ["Ready"]
    assert hear(one, {"type": "SpeechStarted", "timestamp": 1216}) == [SpeechStarted(1.216)]
    assert kinds(hear(one, {"type": "Termination", "audio_duration_seconds": 3})) == ["Ended"]


def test_an_open_turns_text_is_that_of_its_words_the_unfinished_one_among_them() -> None:
    message = turn("my name") | {
        "words": turn("my name is")["words"],
    }
    heard = interim(hear(streaming(), message))
    assert heard.text == "my name is"
    assert heard.words[0] == Word("my", 1.0, 1.15, 0.9)


def test_a_turn_that_is_over_is_a_final_with_language_speaker_and_session() -> None:
    one = streaming()
    hear(one, {"type": "Begin", "id": "s-1"})
    heard = final(
        hear(one, turn("My name.", over=True, language_code="en", speaker_label="A")),
    )
    assert (heard.text, heard.language, heard.speaker) == ("My name.", "en", "A")
    assert heard.request_id == "s-1"
    assert heard.extra is not None
    assert heard.extra["end_of_turn_confidence"] == 0.5


def test_an_unknown_speaker_is_nobody() -> None:
    assert (
        final(hear(streaming(), turn("Yes.", over=True, speaker_label="UNKNOWN"))).speaker is None
    )


def test_of_the_two_ends_of_a_formatted_turn_the_second_is_the_final() -> None:
    one = streaming(format_turns=True)
    first = turn("my name", over=True) | {"turn_is_formatted": False}
    assert kinds(hear(one, first)) == ["InterimTranscript"]
    assert kinds(hear(one, turn("My name.", over=True))) == ["FinalTranscript"]


def test_a_pause_inside_a_turn_is_an_eager_end_for_the_models_that_tell_it() -> None:
    pause = turn("I need a room", utterance="I need a room")
    assert kinds(hear(streaming(U_S), pause)) == ["InterimTranscript", "EagerEndOfTurn"]
    assert kinds(hear(streaming(U3), pause)) == ["InterimTranscript"]


def test_the_end_of_a_turn_answers_a_flush_once() -> None:
    one = streaming()
    one.encode(FLUSH)
    assert kinds(hear(one, turn("Yes.", over=True))) == ["FinalTranscript", "Flushed"]
    assert kinds(hear(one, turn("No.", over=True))) == ["FinalTranscript"]


@pytest.mark.parametrize("kind", ["Heartbeat", "Silence", "Warning", "SpeakerRevision", "New"])
def test_other_messages_mean_nothing(kind: str) -> None:
    assert hear(streaming(), {"type": kind}) == []


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"type": "Error", "error_code": 3008, "error": "Session Expired"}, Kind.SESSION_LIMIT),
        ({"error": "Not authorized", "error_code": 1008}, Kind.UPSTREAM_AUTH),
        ({"error": "Too many concurrent sessions", "error_code": 1008}, Kind.RATE_LIMITED),
        ({"error": "something"}, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_with_and_without_a_type_are_read(message: dict[str, Any], kind: Kind) -> None:
    assert failed(hear(streaming(), message)).kind is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1008, Kind.UPSTREAM_AUTH),
        (3007, Kind.UPSTREAM_REFUSED),
        (3009, Kind.RATE_LIMITED),
        (4002, Kind.UPSTREAM_QUOTA),
        (1006, Kind.CONNECTION_LOST),
    ],
)
def test_a_close_says_why(code: int, kind: Kind) -> None:
    failure = streaming().closed(code, "reason")
    assert (failure.kind, failure.upstream_status) == (kind, code)


def test_terms_change_on_the_open_connection_and_are_cleared_by_an_empty_list() -> None:
    one = streaming(U3)
    (frame,) = one.update(attempt("assemblyai", U3, keyterms_prompt=["Parley"])) or ()
    assert json.loads(frame) == {"type": "UpdateConfiguration", "keyterms_prompt": ["Parley"]}
    (frame,) = one.update(attempt("assemblyai", U3)) or ()
    assert json.loads(frame) == {"type": "UpdateConfiguration", "keyterms_prompt": []}
    assert one.update(attempt("assemblyai", U3)) == ()


def test_another_model_needs_another_connection() -> None:
    assert streaming(U3).update(attempt("assemblyai", U_S)) is None
