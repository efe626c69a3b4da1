"""What the client is told of what providers say."""

import json
from typing import Any

import pytest

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.transcripts import TRUSTED_S, TranscriptAssembler
from gateway.upstreams.stt import Transcript
from tests.conversations.stt.parts import buffered, ready
from tests.conversations.stt.play import HUSH, TONE, word, words


def heard(*audio: bytes, number: int = 1) -> tuple[TranscriptAssembler, RecognizerConnection]:
    """An assembler, and a connection that was sent this audio."""
    buffer, connection = buffered(*audio), ready(number=number)
    connection.send_audio(buffer, 0.0)
    return TranscriptAssembler(buffer, "stt_1"), connection


def read(texts: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts]


def types(texts: list[str]) -> list[str]:
    return [one["type"] for one in read(texts)]


def test_an_interim_is_told_when_its_text_changes() -> None:
    assembler, connection = heard(TONE)
    assert types(assembler.hypothesis(connection, Transcript("he"))) == ["interim_transcript"]
    assert assembler.hypothesis(connection, Transcript("he")) == []
    assert assembler.hypothesis(connection, Transcript(" ")) == []
    assert assembler.is_open


def test_speech_begins_once_for_each_utterance() -> None:
    assembler, connection = heard(*[TONE] * 10)
    assert types(assembler.speech_started(connection, 0.1)) == ["start_of_speech"]
    assert assembler.speech_started(connection, 0.2) == []
    assembler.final(connection, words("Hi.", 0.1, 0.4))
    assert types(assembler.speech_started(connection, None)) == ["start_of_speech"]


def test_an_eager_end_is_preceded_by_the_start_and_can_be_taken_back() -> None:
    assembler, connection = heard(*[TONE] * 10)
    assert assembler.resumed() == []
    eager = assembler.eager(connection, words("I", 0.0, 0.2))
    assert types(eager) == ["start_of_speech", "preflight_transcript"]
    assert types(assembler.resumed()) == ["interim_transcript"]


def test_a_final_closes_the_utterance_and_drops_its_audio() -> None:
    assembler, connection = heard(*[TONE] * 10, *[HUSH] * 10)
    assembler.hypothesis(connection, Transcript("he"))
    (message,) = read(assembler.final(connection, words("Hello.", 0.0, 0.5)))
    assert message["transcript"] == "Hello."
    assert not assembler.is_open
    assert assembler.final_until == 0.5
    assert assembler.finals == 1


def test_words_that_were_told_before_a_replay_are_left_out() -> None:
    assembler, first = heard(*[TONE] * 20)
    assembler.final(first, words("One.", 0.0, 0.5))
    second = ready(number=2)
    second.send_audio(buffered(*[TONE] * 20), 0.0)
    replayed = Transcript("one two", words=(word("one", 0.2, 0.5), word("two", 0.5, 0.9)))
    (message,) = read(assembler.final(second, replayed))
    assert message["transcript"] == "two"


def test_words_in_audio_that_an_empty_final_covered_are_told() -> None:
    assembler, first = heard(*[TONE] * 20)
    assembler.final(first, Transcript("", start=0.0, end=1.0))
    second = ready(number=2)
    second.send_audio(buffered(*[TONE] * 20), 0.0)
    (message,) = read(assembler.final(second, words("hello", 0.2, 0.6)))
    assert message["transcript"] == "hello"


def test_an_empty_final_is_not_told_but_covers_its_audio() -> None:
    assembler, connection = heard(*[HUSH] * 20)
    assert assembler.final(connection, Transcript("", start=0.0, end=1.0)) == []
    assert assembler.final_until == 1.0
    assert assembler.finals == 0


def test_an_empty_final_after_much_speech_is_not_believed() -> None:
    assembler, connection = heard(*[TONE] * round((TRUSTED_S + 1) / 0.05))
    assembler.final(connection, Transcript("", start=0.0, end=4.0))
    assert assembler.final_until == 0.0


def test_an_utterance_without_a_final_is_settled_by_its_last_interim_once() -> None:
    assembler, connection = heard(*[TONE] * 20)
    assembler.hypothesis(connection, words("help me", 0.0, 0.9))
    (message,) = read(assembler.settle())
    assert (message["type"], message["transcript"]) == ("final_transcript", "help me")
    assert assembler.final_until == pytest.approx(0.9)
    assert assembler.settle() == []


def test_an_utterance_that_came_to_nothing_is_told_no_more() -> None:
    assembler, connection = heard(TONE)
    assembler.hypothesis(connection, Transcript("he"))
    assembler.discard()
    assert assembler.settle() == []


def test_without_times_a_transcript_lies_where_the_speech_is() -> None:
    assembler, connection = heard(*[HUSH] * 10, *[TONE] * 10, *[HUSH] * 10)
    (message,) = read(assembler.final(connection, Transcript("Hello")))
    assert (message["start"], message["duration"]) == (0.5, 0.5)


def test_the_language_is_the_providers_or_else_the_sessions() -> None:
    assembler, connection = heard(*[TONE] * 20)
    assembler.set_language("de")
    (named,) = read(assembler.hypothesis(connection, Transcript("a", language="en")))
    (unnamed,) = read(assembler.hypothesis(connection, Transcript("b")))
    assert (named["language"], unnamed["language"]) == ("en", "de")


def test_of_words_that_are_told_early_the_last_stays_open() -> None:
    assembler, connection = heard(*[TONE] * 20)
    assembler.hypothesis(connection, words("one two three", 0.0, 0.9))
    early, rest = read(assembler.settle_told())
    assert (early["type"], early["transcript"]) == ("final_transcript", "one two")
    assert (rest["type"], rest["transcript"]) == ("interim_transcript", "three")
    assert (rest["start"], rest["duration"]) == (0.6, 0.3)

    (last,) = read(assembler.settle())
    assert (last["type"], last["transcript"]) == ("final_transcript", "three")


def test_an_empty_final_ends_no_utterance_that_begins_behind_it() -> None:
    assembler, connection = heard(*[HUSH] * 20, *[TONE] * 20)
    assembler.hypothesis(connection, words("hello", 1.0, 1.5))
    assembler.final(connection, Transcript("", start=0.0, end=0.9))
    assert assembler.is_open
    assembler.final(connection, Transcript("", start=0.9, end=1.6))
    assert not assembler.is_open
