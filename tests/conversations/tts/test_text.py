"""What texts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations.tts.text import letters, speakable, split, weight


@pytest.mark.parametrize("text", ["a", "7", "é", "你好", "... well", "<break time='1s'/>"])
def test_letters_and_digits_of_any_script_can_be_spoken(text: str) -> None:
    assert speakable(text)


@pytest.mark.parametrize("text", ["", " ", "...", "!?", "\n", "👋", "—"])
def test_signs_alone_cannot(text: str) -> None:
    assert not speakable(text)


@given(st.text(max_size=300), st.integers(1, 40))
def test_parts_are_short_and_join_to_the_text(text: str, chars_max: int) -> None:
    parts = list(split(text, chars_max))
    assert "".join(parts) == text
    assert all(0 < len(part) <= chars_max for part in parts)


def test_a_text_is_cut_after_a_word() -> None:
    assert list(split("one two three four", 10)) == ["one two ", "three four"]


def test_letters_are_comparable() -> None:
    assert letters("It's <b>Fine</b>, OK?") == "itsfineok"


def test_wide_characters_weigh_more() -> None:
    assert weight("你好") > weight("ab")
