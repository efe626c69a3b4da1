"""Thoughts in the content of an answer are told apart, however they are cut."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._openai.thoughts import HELD_CHARS_MAX, Piece, ThoughtFilter


def split(text: str, *, opened: bool = False, cuts: tuple[int, ...] = ()) -> tuple[str, str]:
    """What is said, and what is thought."""
    of, pieces, begin = ThoughtFilter(opened=opened), [], 0
    for cut in [*sorted(cuts), len(text)]:
        pieces += of.feed(text[begin:cut])
        begin = cut
    pieces += of.finish()
    said = "".join(piece.text for piece in pieces if not piece.thought)
    return said, "".join(piece.text for piece in pieces if piece.thought)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_pairs_are_found_in_any_pieces(cuts: list[int]) -> None:
    text = "A<think>hm < 3</think>B<b>c"
    assert split(text, cuts=tuple(c for c in cuts if c <= len(text))) == ("AB<b>c", "hm < 3")


@given(st.lists(st.integers(0, 40), max_size=8))
def test_thoughts_that_nothing_opened_end_where_they_are_closed(cuts: list[int]) -> None:
    text = "hm, well</think>Hello"
    cuts_in = tuple(c for c in cuts if c <= len(text))
    assert split(text, opened=True, cuts=cuts_in) == ("Hello", "hm, well")


def test_an_answer_that_never_closes_its_thoughts_was_all_said() -> None:
    assert split("Hello there", opened=True) == ("Hello there", "")


def test_a_lonely_end_is_not_said() -> None:
    of = ThoughtFilter()
    assert [piece.text for piece in of.feed("Hm.</think>Hello")] == ["Hm.", "Hello"]
    assert of.unpaired


def test_a_provider_that_tells_thoughts_apart_is_not_waited_for() -> None:
    of = ThoughtFilter(opened=True)
    of.told_apart()
    assert [piece.text for piece in of.feed("Hello")] == ["Hello"]


def test_what_is_held_back_is_bounded() -> None:
    of = ThoughtFilter(opened=True)
    assert of.feed("x" * HELD_CHARS_MAX) == []
    assert len(of.feed("y")[0].text) == HELD_CHARS_MAX + 1


@pytest.mark.parametrize("text", ["a < b", "a <", "<thin", "1 <= 2 </"])
def test_what_is_no_tag_is_said(text: str) -> None:
    assert split(text) == (text, "")


def test_what_is_held_back_is_not_looked_through_with_each_piece() -> None:
    class Looked(list[str]):
        times = 0

        def __iter__(self) -> Iterator[str]:
            Looked.times += 1
            return super().__iter__()

    made = ThoughtFilter(opened=True)
    made._held = Looked()
    for _ in range(100):
        assert made.feed("hm ") == []
    assert made.feed("</think>Yes.") == [Piece("hm " * 100, True), Piece("Yes.", False)]
    assert Looked.times <= 1
