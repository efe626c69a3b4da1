"""AssemblyAI's voices: requests by number, and words that come behind them."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers._shared.chat_errors import RETRY_AFTER_S_MAX
from gateway.providers.assemblyai.tts import (
    DEFAULT_VOICE,
    AssemblyAIDialogue,
    AssemblyAIVoice,
    voices_host,
)
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Failed, Finished, Released, SpeechRequest, Words

REQUEST = SpeechRequest("assemblyai-tts-1", None, "es", 16000)
PCM = b"\1\0\2\0"


def voice(base_url: str = "https://streaming.assemblyai.com") -> AssemblyAIVoice:
    return AssemblyAIVoice(
        Account("p", "assemblyai", base_url, api_key="key", settings=ProviderSettings())
    )


def begun() -> AssemblyAIDialogue:
    made = voice().dialogue()
    assert made.begin("u1", REQUEST) == ()
    return made


def told(made: AssemblyAIDialogue, kind: str, **more: Any) -> list[Any]:
    return [event for _, event in made.decode(json.dumps({"type": kind, **more}))]


def audio(made: AssemblyAIDialogue, number: int) -> list[Any]:
    return told(made, "Audio", flush_id=number, audio=base64.b64encode(PCM).decode())


def words(made: AssemblyAIDialogue, number: int, start: int) -> list[Any]:
    one = {"word": "hi", "start": start + 100, "end": start + 200, "confidence": 1}
    return told(made, "WordBoundaries", flush_id=number, audio_start_ms=start, words=[one])


def test_everything_is_in_the_url_and_the_key_in_a_header() -> None:
    dial = voice().dial(REQUEST)
    assert dial.url.startswith("wss://tts.us.assemblyai.com/v1/ws?")
    assert dial.headers["Authorization"] == "key"
    assert parse_qs(urlsplit(dial.url).query) == {
        "model_id": ["assemblyai-tts-1"],
        "voice_id": [DEFAULT_VOICE],
        "sample_rate": ["16000"],
        "encoding": ["pcm_s16le"],
        "word_boundaries": ["true"],
        "language": ["es"],
    }
    plain = SpeechRequest("m", "v", "multi", 16000, {"word_timestamps": False})
    query = parse_qs(urlsplit(voice().dial(plain).url).query)
    assert "language" not in query
    assert query["word_boundaries"] == ["false"]


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://streaming.assemblyai.com", "https://tts.us.assemblyai.com"),
        ("https://streaming.us.assemblyai.com", "https://tts.us.assemblyai.com"),
        ("https://streaming.eu.assemblyai.com", "https://tts.eu.assemblyai.com"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_voices_are_in_the_zone_of_the_account(base_url: str, host: str) -> None:
    assert voices_host(base_url) == host


def test_each_text_is_a_request_and_its_words_are_on_one_clock() -> None:
    made = begun()
    assert [json.loads(one)["type"] for one in made.say("u1", "One. ")] == ["Generate", "Flush"]
    made.say("u1", "Two. ")
    assert audio(made, 0) == [Audio(PCM)]
    assert told(made, "FlushDone", flush_id=0, audio_duration_ms=500) == []
    assert audio(made, 1) == [Audio(PCM)]
    (first,) = words(made, 0, 9000)  # their clock counts the whole session
    assert isinstance(first, Words)
    assert (first.words[0].start, first.words[0].end) == (0.1, 0.2)
    assert [json.loads(one) for one in made.finish("u1")] == [{"type": "Flush"}]
    assert told(made, "FlushDone", flush_id=1, audio_duration_ms=400) == []
    second, finished = words(made, 1, 9500)
    assert second.words[0].start == pytest.approx(0.6)
    assert isinstance(finished, Finished)
    assert told(made, "FlushDone", flush_id=2, audio_duration_ms=0) == []


def test_words_that_do_not_come_are_not_waited_for() -> None:
    made = begun()
    made.say("u1", "One. ")
    made.finish("u1")
    assert told(made, "FlushDone", flush_id=0, audio_duration_ms=500) == []
    (finished,) = told(made, "FlushDone", flush_id=1, audio_duration_ms=0)
    assert isinstance(finished, Finished)
    assert words(made, 0, 0) == []


def test_a_session_without_words_ends_with_its_audio() -> None:
    made = begun()
    told(made, "Begin", id="s", expires_at=1, configuration={"word_boundaries": False})
    made.say("u1", "One. ")
    made.finish("u1")
    (finished,) = told(made, "FlushDone", flush_id=0, audio_duration_ms=500)
    assert isinstance(finished, Finished)


def test_what_was_cancelled_is_late() -> None:
    made = begun()
    made.say("u1", "One. ")
    assert [json.loads(one) for one in made.cancel("u1")] == [{"type": "Cancel"}]
    assert audio(made, 0) == []
    (released,) = told(made, "Cancelled", audio_duration_seconds=1.0)
    assert isinstance(released, Released)
    made.begin("u2", REQUEST)
    made.say("u2", "Two. ")
    assert audio(made, 2) == [Audio(PCM)]  # 0 and the cancellation have numbers too


def test_a_run_without_spaces_is_broken_up() -> None:
    made = begun()
    (generate, _) = made.say("u1", "x" * 100)
    assert max(map(len, json.loads(generate)["text"].split())) == 40


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"error_code": 1008, "error": "Not authorized"}, Kind.UPSTREAM_AUTH),
        ({"error_code": 3009, "error": "x", "retry_after_seconds": 3}, Kind.RATE_LIMITED),
        ({"error_code": 3006, "error": "x"}, Kind.UPSTREAM_REFUSED),
        ({"error_code": 3008, "error": "x"}, Kind.SESSION_LIMIT),
        ({"error_code": 4999, "retryable": False}, Kind.UPSTREAM_REFUSED),
        ({}, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_have_kinds(message: dict[str, Any], kind: Kind) -> None:
    (failed,) = told(begun(), "Error", **message)
    assert isinstance(failed, Failed)
    assert failed.failure.kind is kind


def test_a_wish_to_be_left_alone_is_bounded() -> None:
    for wish, heard in ((3, 3.0), (10**9, RETRY_AFTER_S_MAX), (-5, 0.0), (True, None)):
        (failed,) = told(begun(), "Error", error_code=3009, retry_after_seconds=wish)
        assert isinstance(failed, Failed)
        assert failed.failure.retry_after_s == heard


def test_what_is_broken_fails_and_what_is_unknown_is_nothing() -> None:
    made = begun()
    assert isinstance(made.decode("{oops")[0][1], Failed)
    (failed,) = told(made, "Audio", flush_id=0, audio=7)
    assert isinstance(failed, Failed)
    assert told(made, "Termination") == []
    assert told(made, "WordBoundaries", flush_id=0) == []
    told(made, "FlushDone", flush_id=0, audio_duration_ms="x")
    assert made.closed(3009, "limit").kind is Kind.RATE_LIMITED
    assert made.closed(1006, "").kind is Kind.CONNECTION_LOST
