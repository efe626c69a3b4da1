"""The embedded voice, but for its model."""

from __future__ import annotations

from gateway.providers.local.kokoro import CLAUSE_CHARS, clauses
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
    assert all(len(clause) >= CLAUSE_CHARS // 2 for clause in found[:-1])


def test_without_a_place_to_breathe_it_is_not_cut() -> None:
    text = "word " * 60
    assert " ".join(clauses(text)).split() == text.split()
