"""Which sentences were spoken when a speech broke off."""

from __future__ import annotations

from gateway.conversations.tts.progress import Progress
from gateway.upstreams.tts import Timed


def no_pauses(pause_s_min: float) -> list[tuple[float, float]]:
    return []


def given(*texts: str, marked: bool = False) -> Progress:
    progress = Progress(marked)
    for text in texts:
        progress.said(text, 1)
    return progress


def test_a_sentence_counts_once_its_last_word_has_been_sent() -> None:
    progress = given("One two. ", "Three. ")
    progress.timed([Timed("One", 0, 0.2), Timed("two.", 0.2, 0.5), Timed("Three.", 0.6, 0.9)])
    assert progress.spoken(0.4, no_pauses) == 0
    assert progress.spoken(0.5, no_pauses) == 1
    assert progress.spoken(0.85, no_pauses) == 1
    assert progress.spoken(0.9, no_pauses) == 2


def test_characters_are_as_good_as_words() -> None:
    progress = given("Hi. ", "You. ")
    progress.timed([Timed(c, i / 10, (i + 1) / 10) for i, c in enumerate("Hi. You. ")])
    assert progress.spoken(0.3, no_pauses) == 1


def test_markup_in_the_text_is_no_part_of_it() -> None:
    progress = given('<emotion value="content"/>Hi there. ', "You. ")
    progress.timed([Timed("Hi", 0, 0.1), Timed("there.", 0.1, 0.4)])
    assert progress.spoken(0.5, no_pauses) == 1


def test_words_that_are_not_the_texts_are_no_evidence() -> None:
    progress = given("It costs 21. ", "Go. ")
    progress.timed(
        [Timed(w, i / 10, i / 10 + 0.1) for i, w in enumerate("It costs twenty".split())]
    )
    assert progress.spoken(0.5, no_pauses) == 0


def test_marks_are_believed_and_nothing_else_where_there_are_marks() -> None:
    progress = given("One. ", "Two. ", marked=True)
    assert progress.spoken(100.0, no_pauses) == 0
    progress.part_spoken()
    assert progress.spoken(0.1, no_pauses) == 1


def test_a_sentence_in_several_messages_is_over_with_the_last() -> None:
    progress = Progress(marked=True)
    progress.said("A long one, cut in two. ", 2)
    progress.part_spoken()
    assert progress.spoken(5.0, no_pauses) == 0
    progress.part_spoken()
    assert progress.spoken(5.0, no_pauses) == 1


def test_by_duration_a_pause_in_the_right_place_ends_a_sentence() -> None:
    progress = given("Twenty six letters are in this. ", "And more of them in that. ")
    assert progress.spoken(2.6, lambda _: [(2.0, 2.3)]) == 1
    assert progress.spoken(2.6, lambda _: [(0.3, 0.6)]) == 0


def test_by_duration_what_is_much_too_long_must_be_over() -> None:
    progress = given("Short. ", "And more of them in that. ")
    assert progress.spoken(1.5, no_pauses) == 1


def test_nothing_is_pending_once_all_words_are_sent() -> None:
    progress = given("One. ")
    progress.timed([Timed("One.", 0, 0.4)])
    assert not progress.nothing_pending(0.2)
    assert progress.nothing_pending(0.4)


def test_without_timings_only_much_too_little_audio_is_a_hole() -> None:
    progress = given("This has twenty six letters in. ")
    assert not progress.nothing_pending(0.5)
    assert progress.nothing_pending(1.5)
