"""ElevenLabs' Scribe: what is sent, and what each message of the service means."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.elevenlabs.stt import COMMIT_S_MIN, LATE_S, SILENCE_S
from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import FINISH, FLUSH, KEEP_ALIVE, Audio, Recognizer
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

MODEL = "scribe_v2_realtime"
COMMITTED = {"message_type": "committed_transcript", "text": "A room."}
WITH_TIMES = {
    "message_type": "committed_transcript_with_timestamps",
    "text": " A room. ",
    "language_code": "en",
    "words": [
        {"text": "A", "start": 0.62, "end": 0.7, "type": "word", "logprob": 0.0},
        {"text": " ", "start": 0.7, "end": 0.74, "type": "spacing"},
        {
            "text": "room.",
            "start": 0.74,
            "end": 1.0,
            "type": "word",
            "logprob": -0.6931471805599453,
        },
    ],
}


def scribe(language: str | None = "en", rate: int = 16_000, **extra: Any) -> Recognizer:
    return recognizer("elevenlabs", MODEL, language, rate, **extra)


def query(one: Recognizer) -> dict[str, list[str]]:
    return parse_qs(urlsplit(dial(one).url).query)


def chunks(frames: Any) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def test_the_socket_is_opened_with_the_settings_in_its_address() -> None:
    one = scribe()
    assert dial(one).url.startswith("wss://api.elevenlabs.io/v1/speech-to-text/realtime?")
    assert dial(one).headers["xi-api-key"] == KEY
    assert query(one)["audio_format"] == ["pcm_16000"]
    assert query(one)["commit_strategy"] == ["vad"]
    assert one.opening() == ()


def test_a_rate_that_the_service_does_not_take_is_resampled_to_its_first() -> None:
    assert scribe(rate=24_000).rate == 24_000
    assert scribe(rate=32_000).rate == 16_000


def test_without_a_language_it_is_asked_to_find_one() -> None:
    assert query(scribe("multi"))["include_language_detection"] == ["true"]
    assert "language_code" not in query(scribe(None))


def test_terms_that_are_too_long_or_too_many_are_left_out() -> None:
    terms = ["x" * 21, *(f"term {i}" for i in range(60))]
    assert query(scribe(keyterms=terms))["keyterms"] == [f"term {i}" for i in range(50)]


def test_audio_is_base64_inside_json_and_a_keepalive_is_an_empty_chunk() -> None:
    one = scribe()
    (chunk,) = chunks(one.encode(Audio(b"\1\2")))
    assert base64.b64decode(chunk["audio_base_64"]) == b"\1\2"
    assert (chunk["commit"], chunk["sample_rate"]) == (False, 16_000)
    (chunk,) = chunks(one.encode(KEEP_ALIVE))
    assert (chunk["audio_base_64"], chunk["commit"]) == ("", False)


def pads_s(frames: Any) -> list[float]:
    """The silence before a commit, which comes last."""
    *pads, commit = chunks(frames)
    assert (commit["audio_base_64"], commit["commit"]) == ("", True)
    assert not any(pad["commit"] for pad in pads)
    return [len(base64.b64decode(pad["audio_base_64"])) / 2 / 16_000 for pad in pads]


def test_a_flush_is_preceded_by_the_silence_after_which_the_service_commits_by_itself() -> None:
    one = scribe()
    one.encode(Audio(bytes(2 * 16_000)))
    pads = pads_s(one.encode(FLUSH))
    assert sum(pads) == pytest.approx(SILENCE_S + LATE_S + COMMIT_S_MIN)
    assert max(pads) < 1.0  # a longer message is refused
    slow = scribe(vad_silence_threshold_secs=3.0)
    assert sum(pads_s(slow.encode(FLUSH))) == pytest.approx(3.0 + LATE_S + COMMIT_S_MIN)


def test_times_are_of_the_audio_and_not_of_the_silence_before_a_commit() -> None:
    one = scribe()
    one.encode(Audio(bytes(2 * 16_000)))
    padded = sum(pads_s(one.encode(FLUSH)))
    one.encode(Audio(bytes(2 * 16_000)))
    words = [
        {"text": "before", "start": 0.5, "end": 0.9, "type": "word"},
        {"text": "behind", "start": 1.5 + padded, "end": 1.9 + padded, "type": "word"},
    ]
    heard = final(hear(one, WITH_TIMES | {"words": words})).words
    assert [time for word in heard for time in (word.start, word.end)] == pytest.approx(
        [0.5, 0.9, 1.5, 1.9]
    )


def test_a_flush_is_a_commit_and_one_of_too_little_audio_is_padded() -> None:
    one = scribe(commit_strategy="manual")
    one.encode(Audio(bytes(2 * 1600)))  # 0.1 s of the 0.3 s that the service wants
    pad, commit = chunks(one.encode(FLUSH))
    assert len(base64.b64decode(pad["audio_base_64"])) / 2 / 16_000 == pytest.approx(0.21)
    assert commit["commit"] is True
    one.encode(Audio(bytes(2 * 16_000)))
    (commit,) = chunks(one.encode(FLUSH))
    assert commit["commit"] is True


def test_it_says_when_it_is_ready_and_what_it_takes_the_utterance_for() -> None:
    one = scribe()
    assert kinds(hear(one, {"message_type": "session_started", "session_id": "s"})) == ["Ready"]
    heard = interim(hear(one, {"message_type": "partial_transcript", "text": "I would"}))
    assert (heard.text, heard.request_id) == ("I would", "s")
    assert hear(one, {"message_type": "partial_transcript", "text": ""}) == []


def test_of_the_two_copies_of_a_commit_the_one_with_words_is_heard() -> None:
    heard = hear(scribe(), COMMITTED, WITH_TIMES)
    assert kinds(heard) == ["FinalTranscript"]
    transcript = final(heard)
    assert transcript.text == "A room."
    assert [word.text for word in transcript.words] == ["A", "room."]
    assert transcript.confidence == pytest.approx(0.75)
    assert transcript.language == "en"


def test_without_timestamps_and_detection_the_only_copy_is_heard() -> None:
    assert final(hear(scribe(include_timestamps=False), COMMITTED, WITH_TIMES)).text == "A room."


def test_words_may_be_missing_from_a_commit() -> None:
    assert final(hear(scribe(), WITH_TIMES | {"words": None})).words == ()


def test_the_next_commit_answers_a_flush_and_after_the_end_nothing_more_comes() -> None:
    one = scribe()
    one.encode(FLUSH)
    assert kinds(hear(one, WITH_TIMES)) == ["FinalTranscript", "Flushed"]
    one.encode(FINISH)
    assert kinds(hear(one, WITH_TIMES)) == ["FinalTranscript", "Flushed", "Ended"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auth_error", Kind.UPSTREAM_AUTH),
        ("quota_exceeded", Kind.UPSTREAM_QUOTA),
        ("input_error", Kind.UPSTREAM_REFUSED),
        ("commit_throttled", Kind.RATE_LIMITED),
        ("queue_overflow", Kind.OVERLOADED),
        ("transcriber_error", Kind.UPSTREAM_ERROR),
        ("session_time_limit_exceeded", Kind.SESSION_LIMIT),
    ],
)
def test_errors_are_read_in_both_of_their_forms(name: str, kind: Kind) -> None:
    assert failed(hear(scribe(), {"message_type": name, "error": "text"})).kind is kind
    assert failed(hear(scribe(), {"message_type": "error", "error": name})).kind is kind


@pytest.mark.parametrize("kind", ["warning", "redacted_transcript", "edited_transcript", ""])
def test_other_messages_mean_nothing(kind: str) -> None:
    assert hear(scribe(), {"message_type": kind, "text": "x"}) == []


def test_every_change_needs_another_connection() -> None:
    assert scribe().update(attempt("elevenlabs", MODEL, keyterms=["Parley"])) is None


def test_a_close_says_why() -> None:
    assert scribe().closed(1008, "policy").kind is Kind.UPSTREAM_REFUSED
    assert scribe().closed(1006, "").kind is Kind.CONNECTION_LOST
