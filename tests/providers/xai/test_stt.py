"""xAI's recogniser: what is sent, and what each message of the service means."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import FINISH, FLUSH, KEEP_ALIVE, Audio, Recognizer, Word
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


def streaming(language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("xai", "stt-1", language, **extra)


def query(one: Recognizer) -> dict[str, list[str]]:
    return parse_qs(urlsplit(dial(one).url).query)


def partial(text: str, *, is_final: bool = False, over: bool = False, **more: Any) -> Any:
    return {
        "type": "transcript.partial",
        "text": text,
        "is_final": is_final,
        "speech_final": over,
        **more,
    }


def test_the_socket_is_opened_with_the_settings_in_its_address() -> None:
    one = streaming()
    assert dial(one).url.startswith("wss://api.x.ai/v1/stt?")
    assert dial(one).headers["authorization"] == f"Bearer {KEY}"
    assert query(one) == {
        "encoding": ["pcm"],
        "sample_rate": ["16000"],
        "interim_results": ["true"],
        "endpointing": ["100"],
        "language": ["en"],
    }
    assert one.opening() == ()


def test_formatting_needs_a_language() -> None:
    assert query(streaming("pt-BR", format=True))["language"] == ["pt"]
    assert "format" in query(streaming("pt-BR", format=True))
    assert not query(streaming("multi", format=True)).keys() & {"language", "format"}


def test_there_is_a_message_for_audio_and_the_end_alone() -> None:
    one = streaming()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(FLUSH) == ()
    assert one.encode(KEEP_ALIVE) == ()
    assert one.encode(FINISH) == ('{"type":"audio.done"}',)


def test_it_says_when_it_is_ready() -> None:
    assert kinds(hear(streaming(), {"type": "transcript.created"})) == ["Ready"]


def test_an_interim_is_placed_by_its_words() -> None:
    words = [{"text": "I", "start": 0.42, "end": 0.5}, {"text": "need", "start": 0.5, "end": 0.8}]
    heard = interim(hear(streaming(), partial("I need", start=0.4, duration=0.9, words=words)))
    assert heard.words == (Word("I", 0.42, 0.5), Word("need", 0.5, 0.8))
    assert (heard.start, heard.end) == (0.42, 0.8)


def test_without_words_it_is_placed_by_its_own_times() -> None:
    heard = interim(hear(streaming(), partial("I need", start=0.5, duration=1.0)))
    assert (heard.start, heard.end) == (0.5, 1.5)
    assert hear(streaming(), partial("")) == []


def test_the_final_of_a_chunk_is_an_interim_because_that_of_its_utterance_repeats_it() -> None:
    chunk = partial("I need a room for", is_final=True)
    assert kinds(hear(streaming(), chunk)) == ["InterimTranscript"]
    over = partial(
        "I need a room for two.",
        is_final=True,
        over=True,
        language="en",
        words=[{"text": "I", "start": 0.4, "end": 0.5, "speaker": 0}],
    )
    heard = hear(streaming(), over)
    assert kinds(heard) == ["FinalTranscript", "Flushed"]
    assert (final(heard).speaker, final(heard).language) == ("S0", "en")


def test_the_end_has_the_text_that_no_final_had() -> None:
    done = {"type": "transcript.done", "text": "", "words": [], "duration": 12.4}
    assert kinds(hear(streaming(), done)) == ["Ended"]
    assert kinds(hear(streaming(), done | {"text": "Bye."})) == ["FinalTranscript", "Ended"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Authentication failed", Kind.UPSTREAM_AUTH),
        ("Invalid sample rate", Kind.UPSTREAM_REFUSED),
        ("rate limit reached", Kind.RATE_LIMITED),
        ("something broke", Kind.UPSTREAM_ERROR),
        (None, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_are_told_apart_by_their_words(message: str | None, kind: Kind) -> None:
    assert failed(hear(streaming(), {"type": "error", "message": message})).kind is kind


def test_messages_of_an_unknown_type_mean_nothing() -> None:
    assert hear(streaming(), {"type": "usage"}, "null") == []


def test_every_change_needs_another_connection() -> None:
    assert streaming().update(attempt("xai", "stt-1", diarize=True)) is None


def test_a_close_is_a_lost_connection_unless_its_code_says_more() -> None:
    assert streaming().closed(1006, "").kind is Kind.CONNECTION_LOST
    assert streaming().closed(1009, "too big").kind is Kind.UPSTREAM_REFUSED
