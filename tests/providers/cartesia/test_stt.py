"""Cartesia's two recognisers: what is sent, and what each message of theirs means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import FINISH, FLUSH, KEEP_ALIVE, Audio, EagerEndOfTurn, Recognizer, Word
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


def turns(**extra: Any) -> Recognizer:
    return recognizer("cartesia", "ink-2", **extra)


def manual(language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("cartesia", "ink-whisper", language, **extra)


def query(one: Recognizer) -> dict[str, list[str]]:
    return parse_qs(urlsplit(dial(one).url).query)


# -- ink-2, which finds turns itself


def test_ink_2_is_dialled_at_the_turns_endpoint_with_key_and_version_in_headers() -> None:
    one = turns()
    assert dial(one).url.startswith("wss://api.cartesia.ai/stt/turns/websocket?model=ink-2&")
    assert dial(one).headers["x-api-key"] == KEY
    assert dial(one).headers["cartesia-version"] == "2026-03-01"
    assert one.opening() == ()


def test_key_terms_stay_within_what_the_service_takes() -> None:
    many = [f"term{i}" for i in range(150)]
    assert len(query(turns(keyterm=many))["keyterm"]) == 100
    long = ["x" * 1000, "y" * 500]
    assert query(turns(keyterm=long))["keyterm"] == ["x" * 1000]


def test_ink_2_has_messages_for_audio_and_the_end_alone() -> None:
    one = turns()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(FLUSH) == ()
    assert one.encode(KEEP_ALIVE) == ()
    assert one.encode(FINISH) == ('{"type":"close"}',)


def test_a_turn_of_ink_2_is_heard_from_its_start_to_its_end() -> None:
    one = turns()
    assert kinds(hear(one, {"type": "connected", "request_id": "r"})) == ["Ready"]
    assert kinds(hear(one, {"type": "turn.start"})) == ["SpeechStarted"]
    heard = interim(hear(one, {"type": "turn.update", "transcript": "I would", "request_id": "r"}))
    assert (heard.text, heard.language, heard.request_id) == ("I would", "en", "r")
    assert kinds(hear(one, {"type": "turn.resume"})) == ["TurnResumed"]
    ended = hear(one, {"type": "turn.end", "transcript": "I would like it."})
    assert kinds(ended) == ["FinalTranscript", "Flushed"]
    assert final(ended).text == "I would like it."


def test_an_eager_end_without_text_has_that_of_the_last_update() -> None:
    one = turns()
    hear(one, {"type": "turn.start"}, {"type": "turn.update", "transcript": "a room"})
    (eager,) = hear(one, {"type": "turn.eager_end", "transcript": ""})
    assert isinstance(eager, EagerEndOfTurn)
    assert eager.transcript.text == "a room"


def test_a_turn_of_noise_ends_empty_without_the_text_of_the_one_before() -> None:
    one = turns()
    hear(one, {"type": "turn.update", "transcript": "before"})
    assert final(hear(one, {"type": "turn.end", "transcript": ""})).text == ""
    assert hear(one, {"type": "turn.update", "transcript": ""}) == []


def test_thresholds_of_turns_change_on_the_open_connection_and_terms_do_not() -> None:
    one = turns()
    (frame,) = one.update(attempt("cartesia", "ink-2", turn_end_threshold=0.1)) or ()
    assert json.loads(frame) == {"type": "config", "turn": {"end_threshold": 0.1}}
    assert one.update(attempt("cartesia", "ink-2", keyterm=["Parley"])) is None


# -- ink-whisper, which is told when to give finals


def test_ink_whisper_takes_a_language_without_its_region() -> None:
    assert dial(manual()).url.startswith("wss://api.cartesia.ai/stt/websocket?")
    assert query(manual("pt-BR"))["language"] == ["pt"]
    assert query(manual("multi"))["language"] == ["en"]
    assert query(manual(None))["language"] == ["en"]


def test_the_commands_of_ink_whisper_are_bare_words() -> None:
    one = manual()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(FLUSH) == ("finalize",)
    assert one.encode(FINISH) == ("finalize", "close")
    assert one.encode(KEEP_ALIVE) == ()


def test_pieces_without_words_are_placed_by_their_durations() -> None:
    one = manual()
    piece = {"type": "transcript", "text": "a", "is_final": True, "duration": 1.5}
    first, second = final(hear(one, piece)), final(hear(one, piece))
    assert (first.start, first.end) == (0.0, 1.5)
    assert (second.start, second.end) == (1.5, 3.0)


def test_words_of_ink_whisper_have_times_and_no_spaces() -> None:
    message = {
        "type": "transcript", "text": "I need", "is_final": False, "duration": 0.4,
        "language": "en", "request_id": "r",
        "words": [{"word": " I ", "start": 0.5, "end": 0.6}, {"word": "need", "start": 0.6}],
    }  # fmt: skip
    heard = interim(hear(manual(), message))
    assert heard.words == (Word("I", 0.5, 0.6),)
    assert (heard.start, heard.language, heard.request_id) == (0.5, "en", "r")


def test_a_flush_and_the_end_of_ink_whisper_are_answered() -> None:
    assert kinds(hear(manual(), {"type": "flush_done"}, {"type": "done"})) == ["Flushed", "Ended"]


def test_nothing_of_ink_whisper_changes_on_an_open_connection() -> None:
    assert manual().update(attempt("cartesia", "ink-whisper", min_volume=0.2)) is None


# -- both


@pytest.mark.parametrize("one", [turns(), manual()], ids=["ink-2", "ink-whisper"])
def test_messages_of_an_unknown_type_mean_nothing(one: Recognizer) -> None:
    assert hear(one, {"type": "usage"}, "[]", b"\xff") == []


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"status_code": 401, "message": "bad key"}, Kind.UPSTREAM_AUTH),
        ({"status_code": 429, "error_code": "concurrency_limited"}, Kind.RATE_LIMITED),
        ({"code": 400, "title": "Invalid model"}, Kind.UPSTREAM_REFUSED),
        ({"error": "no code at all"}, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_of_every_version_are_read(message: dict[str, Any], kind: Kind) -> None:
    for one in (turns(), manual()):
        assert failed(hear(one, {"type": "error", **message})).kind is kind


def test_a_close_is_a_lost_connection_unless_its_code_says_more() -> None:
    assert turns().closed(1011, "").kind is Kind.CONNECTION_LOST
    assert manual().closed(1013, "busy").kind is Kind.OVERLOADED
