"""The embedded voice, but for its model."""

from __future__ import annotations

import numpy as np

from gateway.providers.local.kokoro import (
    CLAUSE_CHARS,
    FIRST_CLAUSE_CHARS,
    LEAD_S,
    RATE,
    SENTENCE_TAIL_S,
    Jobs,
    clauses,
    trimmed,
)
from gateway.providers.local.phonemes import NUMBERS


def test_every_phoneme_has_a_number_of_its_own() -> None:
    assert len(NUMBERS) == 114
    assert len(set(NUMBERS.values())) == 114
    assert (NUMBERS[";"], NUMBERS["a"], NUMBERS["ᵻ"]) == (1, 43, 177)


def test_a_short_sentence_is_one_clause() -> None:
    assert list(clauses("Hello, you there.")) == ["Hello, you there."]


def test_a_long_one_is_cut_where_one_breathes_and_loses_nothing() -> None:
    text = (
        "I would like to book a table for two people, on Friday evening at seven, if there is one "
        "by the window; otherwise anywhere quiet will do, thank you."
    )
    found = list(clauses(text))
    assert len(found) > 1
    assert " ".join(found) == text
    assert FIRST_CLAUSE_CHARS <= len(found[0]) < CLAUSE_CHARS // 2
    assert all(len(clause) >= CLAUSE_CHARS // 2 for clause in found[1:-1])


def test_without_a_place_to_breathe_it_is_not_cut() -> None:
    text = "word " * 60
    assert " ".join(clauses(text)).split() == text.split()


def test_little_silence_is_left_around_speech() -> None:
    speech = np.full(RATE, 0.1, np.float32)
    silence = np.full(RATE // 2, 0.0001, np.float32)
    found = trimmed(np.concatenate([silence, speech, silence]), SENTENCE_TAIL_S)
    assert len(found) == len(speech) + round((LEAD_S + SENTENCE_TAIL_S) * RATE)
    assert np.count_nonzero(found > 0.05) == len(speech)


def test_speech_without_silence_is_left_as_it_is() -> None:
    speech = np.full(RATE + 7, 0.1, np.float32)
    assert len(trimmed(speech, SENTENCE_TAIL_S)) == len(speech)


def test_a_text_of_silence_alone_does_not_become_long() -> None:
    assert len(trimmed(np.zeros(RATE, np.float32), 0.1)) == RATE // 10


def test_a_job_that_is_dropped_while_it_runs_is_ended_and_one_that_waits_is_skipped() -> None:
    jobs = Jobs()
    running = jobs.begin(1)
    assert running is not None
    assert not running.terminate
    jobs.drop(1)
    jobs.drop(2)
    assert running.terminate
    assert jobs.is_dropped(1)
    jobs.end(1)
    assert jobs.begin(2) is None
    third = jobs.begin(3)
    assert third is not None
    assert not third.terminate
