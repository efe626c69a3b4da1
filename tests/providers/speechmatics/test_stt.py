"""Speechmatics' two protocols: what is sent, and what each message of theirs means."""

from __future__ import annotations

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


def real_time(language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("speechmatics", "enhanced", language, **extra)


def agent(**extra: Any) -> Recognizer:
    return recognizer("speechmatics", "linden-1", rate=24_000, **extra)


def start(one: Recognizer) -> dict[str, Any]:
    (frame,) = one.opening()
    found: dict[str, Any] = json.loads(frame)
    assert found["message"] == "StartRecognition"
    return found


# -- real-time: finals are pieces


def word(content: str, at: float, speaker: str = "S1", confidence: float = 0.5) -> dict[str, Any]:
    return {
        "type": "word", "start_time": at, "end_time": at + 0.25,
        "alternatives": [{"content": content, "confidence": confidence, "speaker": speaker}],
    }  # fmt: skip


def mark(content: str, at: float, attaches_to: str = "previous") -> dict[str, Any]:
    return {
        "type": "punctuation", "start_time": at, "end_time": at, "attaches_to": attaches_to,
        "alternatives": [{"content": content}],
    }  # fmt: skip


def piece(
    text: str, *results: dict[str, Any], final: bool = True, end_time: float = 3.0
) -> dict[str, Any]:
    return {
        "message": "AddTranscript" if final else "AddPartialTranscript",
        "metadata": {"start_time": 0.0, "end_time": end_time, "transcript": text},
        "results": list(results),
    }


END_OF_UTTERANCE = {"message": "EndOfUtterance", "metadata": {"start_time": 4.1}}


def test_the_key_itself_is_the_bearer_token() -> None:
    assert dial(real_time()).url == "wss://global.rt.speechmatics.com/v2"
    assert dial(agent()).url == "wss://global.rt.speechmatics.com/v2/agent"
    assert dial(agent()).headers["authorization"] == f"Bearer {KEY}"


def test_recognition_starts_with_the_format_and_the_settings() -> None:
    assert start(real_time()) == {
        "message": "StartRecognition",
        "audio_format": {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000},
        "transcription_config": {
            "language": "en",
            "model": "enhanced",
            "enable_partials": True,
            "max_delay": 1.0,
        },
    }


@pytest.mark.parametrize("value", ["channel", "channel_and_speaker_change", "speaker_change", True])
def test_every_wish_to_tell_speakers_apart_is_one_on_mono_audio(value: object) -> None:
    told = start(real_time(diarization=value))["transcription_config"]
    assert told["diarization"] == "speaker"


def test_options_of_speakers_are_sent_only_where_speakers_are_told_apart() -> None:
    alone = start(real_time(max_speakers=2))["transcription_config"]
    assert "speaker_diarization_config" not in alone
    told = start(real_time(max_speakers=2, diarization="speaker"))["transcription_config"]
    assert told["speaker_diarization_config"] == {"max_speakers": 2}
    off = start(real_time(max_speakers=2, diarization="none"))["transcription_config"]
    assert not off.keys() & {"diarization", "speaker_diarization_config"}


@pytest.mark.parametrize(("language", "sent"), [("zh-CN", "cmn"), ("multi", "en"), (None, "en")])
def test_languages_are_named_as_the_service_names_them(language: str | None, sent: str) -> None:
    assert start(real_time(language))["transcription_config"]["language"] == sent


def test_requests_tell_how_much_was_sent() -> None:
    one = real_time()
    assert one.encode(Audio(bytes(3200))) == (bytes(3200),)
    assert one.encode(Audio(bytes(3200))) == (bytes(3200),)
    assert one.encode(FLUSH) == ('{"message":"ForceEndOfUtterance","timestamp":0.200}',)
    assert one.encode(FINISH)[1:] == ('{"message":"EndOfStream","last_seq_no":2}',)
    assert one.encode(KEEP_ALIVE) == ()


def test_pieces_are_collected_until_the_utterance_ends() -> None:
    one = real_time()
    assert kinds(hear(one, {"message": "RecognitionStarted", "id": "r"})) == ["Ready"]
    hear(one, piece("send it ", word("send", 2.1), word("it", 2.4)))
    heard = interim(hear(one, piece("to Marta", word("to", 3.0), final=False)))
    assert (heard.text, heard.end) == ("send it to Marta", 3.25)
    hear(one, piece("to Marta. ", word("to", 3.0), word("Marta", 3.25), mark(".", 3.5)))
    transcript = final(hear(one, END_OF_UTTERANCE))
    assert transcript.text == "send it to Marta."
    assert transcript.words[-1] == Word("Marta.", 3.25, 3.5, 0.5, "S1")
    assert (transcript.speaker, transcript.request_id) == ("S1", "r")
    assert hear(one, END_OF_UTTERANCE) == []  # it was told


def test_a_partials_confidence_means_nothing_and_an_unknown_speaker_is_nobody() -> None:
    heard = interim(hear(real_time(), piece("a", word("a", 0.5, "UU", 0.2), final=False)))
    assert heard.words == (Word("a", 0.5, 0.75, 1.0, None),)


def test_marks_before_a_word_are_not_put_behind_the_one_before() -> None:
    heard = interim(hear(real_time(), piece("a (b", word("a", 0), mark("(", 1, "next"))))
    assert [one.text for one in heard.words] == ["a"]


def test_empty_pieces_are_not_told() -> None:
    assert hear(real_time(), piece(""), piece(" ", final=False)) == []


def test_the_forced_end_answers_a_flush_even_when_nothing_was_said() -> None:
    one = real_time()
    one.encode(FLUSH)
    assert kinds(hear(one, END_OF_UTTERANCE | {"forced": True})) == ["Flushed"]


def test_what_is_left_is_told_at_the_end() -> None:
    one = real_time()
    hear(one, piece("bye ", word("bye", 1.0)))
    assert kinds(hear(one, {"message": "EndOfTranscript"})) == ["FinalTranscript", "Ended"]


def test_delay_changes_on_the_open_connection_and_words_do_not() -> None:
    one = real_time()
    (frame,) = one.update(attempt("speechmatics", "enhanced", max_delay=0.8)) or ()
    assert json.loads(frame) == {
        "message": "SetRecognitionConfig",
        "transcription_config": {"language": "en", "max_delay": 0.8},
    }
    assert one.update(attempt("speechmatics", "enhanced", max_delay=0.8)) == ()
    assert one.update(attempt("speechmatics", "enhanced", additional_vocab=["Parley"])) is None


# -- Agent: whole turns


def segment(text: str, **more: Any) -> dict[str, Any]:
    metadata = {"start_time": 0.84, "end_time": 1.56}
    return {"segment": {"transcript": text, "speaker": "S1", **more}, "metadata": metadata}


def test_the_agent_wants_16_khz_and_finds_turns_by_its_own_detector() -> None:
    one = agent(max_delay=1.0)
    assert one.rate == 16_000
    assert start(one)["turn_config"] == {"turn_detection_mode": "vad"}
    assert "max_delay" not in start(one)["transcription_config"]


def test_a_turn_of_the_agent_is_heard_from_its_start_to_its_end() -> None:
    one = agent()
    began = {"message": "SpeechStarted", "metadata": {"start_time": 0.84}}
    assert hear(one, began) == [SpeechStarted(0.84)]
    heard = interim(hear(one, {"message": "AddPartialSegment", **segment("good evening")}))
    assert (heard.text, heard.start, heard.speaker) == ("good evening", 0.84, "S1")
    one.encode(FLUSH)
    ended = hear(one, {"message": "AddSegment", **segment("Good evening.")})
    assert kinds(ended) == ["FinalTranscript", "Flushed"]
    assert final(ended).end == 1.56


def test_an_end_of_a_turn_without_a_segment_answers_a_flush() -> None:
    one = agent()
    assert hear(one, {"message": "EndOfTurn", "turn_id": 1}) == []
    one.encode(FLUSH)
    assert kinds(hear(one, {"message": "EndOfTurn", "turn_id": 2})) == ["Flushed"]


def test_the_previews_list_of_segments_is_read_too() -> None:
    message = {
        "message": "AddSegment",
        "segments": [{"speaker_id": "UU", "text": "Good evening.", "language": "en"}],
    }
    heard = final(hear(agent(), message))
    assert (heard.text, heard.language, heard.speaker) == ("Good evening.", "en", None)


def test_nothing_of_the_agent_changes_on_an_open_connection() -> None:
    assert agent().update(attempt("speechmatics", "linden-1", domain="finance")) is None


# -- both


@pytest.mark.parametrize("one", [real_time(), agent()], ids=["real-time", "agent"])
def test_messages_that_both_have(one: Recognizer) -> None:
    for kind in ("idle_timeout", "session_timeout"):
        assert hear(one, {"message": "Warning", "type": kind}) == [Expiring(60.0)]
    for ignored in ("AudioAdded", "Info", "Warning", "SpeechEnded", "New"):
        assert hear(one, {"message": ignored}) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("not_authorised", Kind.UPSTREAM_AUTH),
        ("invalid_model", Kind.UPSTREAM_NOT_FOUND),
        ("invalid_config", Kind.UPSTREAM_REFUSED),
        ("quota_exceeded", Kind.RATE_LIMITED),
        ("timelimit_exceeded", Kind.UPSTREAM_QUOTA),
        ("idle_timeout", Kind.SESSION_LIMIT),
        ("job_error", Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_are_told_apart_by_their_type(name: str, kind: Kind) -> None:
    failure = failed(hear(real_time(), {"message": "Error", "type": name, "reason": "text"}))
    assert (failure.kind, failure.message) == (kind, "text")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (4001, "", Kind.UPSTREAM_AUTH),
        (4005, "", Kind.RATE_LIMITED),
        (4006, "", Kind.UPSTREAM_QUOTA),
        (1008, "session_timeout: over", Kind.SESSION_LIMIT),
        (1008, "policy_violation", Kind.UPSTREAM_REFUSED),
        (1011, "internal_error", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_says_why(code: int, reason: str, kind: Kind) -> None:
    for one in (real_time(), agent()):
        assert one.closed(code, reason).kind is kind
