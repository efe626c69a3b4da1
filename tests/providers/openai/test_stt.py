"""OpenAI's live transcription: what is sent, and what each message of the service means."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import FINISH, FLUSH, KEEP_ALIVE, Audio, LocalTarget, Recognizer
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

MODEL = "gpt-live-transcribe"
ITEM = "conversation.item.input_audio_transcription"


def realtime(model: str = MODEL, language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("openai", model, language, **extra)


def settings(frame: Any) -> dict[str, Any]:
    message = json.loads(frame)
    assert message["type"] == "session.update"
    found: dict[str, Any] = message["session"]["audio"]["input"]
    return found


def opened(one: Recognizer) -> dict[str, Any]:
    (frame,) = one.opening()
    return settings(frame)


def committed(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.committed", "item_id": item}


def completed(item: str, text: str = "Yes.", **more: Any) -> dict[str, Any]:
    return {"type": f"{ITEM}.completed", "item_id": item, "transcript": text, **more}


def test_the_socket_is_opened_for_transcription_without_a_model() -> None:
    assert dial(realtime()).url == "wss://api.openai.com/v1/realtime?intent=transcription"
    assert dial(realtime()).headers["authorization"] == f"Bearer {KEY}"


def test_the_first_message_sets_the_model_and_that_we_end_utterances() -> None:
    assert opened(realtime()) == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": {"model": MODEL, "languages": ["en"]},
        "turn_detection": None,
    }


def test_older_models_take_one_language_and_end_turns_themselves() -> None:
    asked = opened(realtime("gpt-4o-transcribe", "pt-BR", keywords=["Parley"], prompt="x" * 2000))
    assert "turn_detection" not in asked
    assert asked["transcription"] == {
        "model": "gpt-4o-transcribe",
        "language": "pt",
        "prompt": "x" * 1024,
    }


def test_the_oldest_model_transcribes_recordings() -> None:
    assert isinstance(realtime("whisper-1").dial(), LocalTarget)


def test_audio_is_base64_at_the_one_rate_that_there_is() -> None:
    one = realtime()
    assert one.rate == 24_000
    (frame,) = one.encode(Audio(b"\1\2"))
    message = json.loads(frame)
    assert message["type"] == "input_audio_buffer.append"
    assert base64.b64decode(message["audio"]) == b"\1\2"
    assert one.encode(KEEP_ALIVE) == ()


def test_a_flush_is_a_commit_and_one_of_too_little_audio_is_padded() -> None:
    one = realtime()
    pad, commit = (json.loads(frame) for frame in one.encode(FLUSH))
    assert len(base64.b64decode(pad["audio"])) / 2 / 24_000 == pytest.approx(0.11)
    assert commit == {"type": "input_audio_buffer.commit", "event_id": "commit_1"}
    one.encode(Audio(bytes(2 * 24_000)))
    (commit,) = (json.loads(frame) for frame in one.encode(FLUSH))
    assert commit["event_id"] == "commit_2"


def test_it_is_ready_once_the_settings_are_accepted() -> None:
    assert hear(realtime(), {"type": "session.created"}) == []
    assert kinds(hear(realtime(), {"type": "session.updated"})) == ["Ready"]
    started = {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1240}
    assert kinds(hear(realtime(), started)) == ["SpeechStarted"]


def test_deltas_are_appended_for_each_item_by_itself() -> None:
    one = realtime()
    hear(one, {"type": f"{ITEM}.delta", "item_id": "a", "delta": "I need"})
    hear(one, {"type": f"{ITEM}.delta", "item_id": "b", "delta": "Other"})
    heard = interim(hear(one, {"type": f"{ITEM}.delta", "item_id": "a", "delta": " a room"}))
    assert (heard.text, heard.request_id) == ("I need a room", "a")


def test_a_completion_is_a_final_with_its_language_and_usage() -> None:
    usage = {"type": "duration", "seconds": 2.1}
    heard = final(
        hear(realtime(), completed("a", " Yes. ", languages=[{"code": "en"}], usage=usage))
    )
    assert (heard.text, heard.language, heard.request_id) == ("Yes.", "en", "a")
    assert heard.extra == {"usage": usage}


def test_a_flush_is_answered_when_every_committed_item_has_its_text() -> None:
    one = realtime()
    one.encode(FLUSH)
    one.encode(FLUSH)
    hear(one, committed("a"), committed("b"))
    assert kinds(hear(one, completed("b"))) == ["FinalTranscript"]  # out of order
    assert kinds(hear(one, completed("a"))) == ["FinalTranscript", "Flushed"]


def test_the_last_completion_after_the_end_is_the_end() -> None:
    one = realtime()
    one.encode(FINISH)
    heard = hear(one, committed("a"), completed("a"))
    assert kinds(heard) == ["FinalTranscript", "Flushed", "Ended"]


def test_an_item_that_fails_has_said_nothing_and_the_session_lives() -> None:
    one = realtime()
    one.encode(FLUSH)
    heard = hear(one, committed("a"), {"type": f"{ITEM}.failed", "item_id": "a", "error": {}})
    assert kinds(heard) == ["FinalTranscript", "Flushed"]
    assert final(heard).text == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "insufficient_quota"}, Kind.UPSTREAM_QUOTA),
        ({"code": "rate_limit_exceeded"}, Kind.RATE_LIMITED),
        ({"type": "server_error", "code": None}, Kind.UPSTREAM_ERROR),
    ],
)
def test_an_item_that_fails_for_no_fault_of_its_audio_is_asked_of_others(
    error: dict[str, Any], kind: Kind
) -> None:
    one = realtime()
    message = {"type": f"{ITEM}.failed", "item_id": "a", "error": error}
    assert failed(hear(one, committed("a"), message)).kind is kind


@pytest.mark.parametrize(
    "error",
    [
        {"code": "any", "event_id": "commit_1"},
        {"code": "input_audio_buffer_commit_empty", "event_id": None},
    ],
)
def test_an_error_about_our_own_commit_answers_the_flush(error: dict[str, Any]) -> None:
    one = realtime()
    one.encode(FLUSH)
    assert kinds(hear(one, {"type": "error", "error": error})) == ["Flushed"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "session_expired"}, Kind.SESSION_LIMIT),
        ({"code": "insufficient_quota"}, Kind.UPSTREAM_QUOTA),
        ({"code": "invalid_model"}, Kind.UPSTREAM_NOT_FOUND),
        ({"type": "invalid_request_error", "code": "other"}, Kind.UPSTREAM_REFUSED),
        ({"type": "server_error"}, Kind.UPSTREAM_ERROR),
        (None, Kind.UPSTREAM_ERROR),
    ],
)
def test_other_errors_end_the_session(error: dict[str, Any] | None, kind: Kind) -> None:
    assert failed(hear(realtime(), {"type": "error", "error": error})).kind is kind


@pytest.mark.parametrize(
    "kind", ["conversation.item.added", "rate_limits.updated", f"{ITEM}.segment", "new"]
)
def test_other_messages_mean_nothing(kind: str) -> None:
    assert hear(realtime(), {"type": kind}) == []


def test_what_can_be_added_is_updated_and_what_would_have_to_be_cleared_is_not() -> None:
    one = realtime()
    (frame,) = one.update(attempt("openai", MODEL, keywords=["Parley"])) or ()
    assert settings(frame)["transcription"]["keywords"] == ["Parley"]
    assert one.update(attempt("openai", MODEL, keywords=["Parley"])) == ()
    assert one.update(attempt("openai", MODEL)) is None
    assert realtime().update(attempt("openai", "gpt-realtime-whisper")) is None


def test_a_close_is_a_lost_connection_unless_its_code_says_more() -> None:
    assert realtime().closed(1011, "").kind is Kind.CONNECTION_LOST
