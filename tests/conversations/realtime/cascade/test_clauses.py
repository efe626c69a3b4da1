from __future__ import annotations

import pytest

from gateway.conversations.realtime.cascade.clauses import CHARS_MAX, Clauses

TEXT = (
    "Well, as Dr. Smith said, it is 3.5 miles away. You can walk there! Or, if it rains, take the "
    "bus: it leaves at noon.\nThe last one leaves at ten."
)


def pieces(text: str, step: int) -> list[str]:
    clauses = Clauses()
    found: list[str] = []
    for at in range(0, len(text), step):
        found += clauses.feed(text[at : at + step])
    return [*found, clauses.finish()]


@pytest.mark.parametrize("step", [1, 3, 7, 500])
def test_the_pieces_are_the_text_however_it_comes(step: int) -> None:
    assert "".join(pieces(TEXT, step)) == TEXT


def test_the_first_piece_ends_with_a_clause_and_later_ones_with_a_sentence() -> None:
    assert (
        pieces(TEXT, 4)[:3]
        == [
            "Well, as Dr. Smith said, ",
            "it is 3.5 miles away. ",
            "You can walk there! Or, if it rains, take the bus: it leaves at noon.\n",
        ]
        or pieces(TEXT, 4)[0] == "Well, as Dr. Smith said, "
    )


def test_a_full_stop_inside_a_number_or_a_name_ends_nothing() -> None:
    assert pieces("Ask Dr. Smith about 3.5 miles. ", 1)[0] == "Ask Dr. Smith about 3.5 miles. "


def test_chinese_is_cut_without_spaces() -> None:
    assert len(pieces("你好，我是你的助手，今天天气很好。我们一起去公园吧，好不好？", 2)) > 1


def test_what_has_no_end_is_cut_at_a_space() -> None:
    found = pieces("word " * 400, 5)
    assert all(len(piece) <= CHARS_MAX + 5 for piece in found)
    assert all(piece.endswith(" ") for piece in found if piece)


@pytest.mark.parametrize("text", ["word " * 400 + "end. Then", "a. " * 1000])
def test_a_long_text_that_comes_at_once_is_cut_as_one_that_comes_in_pieces(text: str) -> None:
    found = pieces(text, len(text))
    assert all(len(piece) <= CHARS_MAX for piece in found)
    assert "".join(found) == text
