"""Whether decisions about interruptions agree with what was said then."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.telemetry.agreement import (
    BEFORE_S,
    CALLS_MAX,
    FOLLOWED_S,
    JUDGED_S,
    OVERLAPS_MAX,
    TELL_S,
    WORDS_MAX,
    Agreements,
    count_words,
)

CALL = "key\nx-livekit-job-id\nAJ_1"


@pytest.fixture
def judged() -> Counter[tuple[str, str]]:
    return Counter()


@pytest.fixture
def agreements(judged: Counter[tuple[str, str]]) -> Agreements:
    def count(decision: str, followed: str) -> None:
        judged[decision, followed] += 1

    return Agreements(count)


@pytest.mark.parametrize(
    ("words", "followed"), [(0, "nothing"), (1, "words"), (3, "words"), (4, "sentence")]
)
@pytest.mark.parametrize("decision", ["interruption", "held"])
def test_an_overlap_is_judged_by_the_words_that_followed(
    agreements: Agreements,
    judged: Counter[tuple[str, str]],
    words: int,
    followed: str,
    decision: str,
) -> None:
    agreements.said(CALL, 8.0, 10.0, 9)  # long before
    agreements.decided(CALL, 100.0, 101.0, decision)
    if words:
        agreements.said(CALL, 101.5, 102.0, words)
    agreements.judge(101.0 + JUDGED_S - 0.1)
    assert not judged
    agreements.judge(101.0 + JUDGED_S)
    assert judged == {(decision, followed): 1}


def test_words_of_before_and_of_long_after_are_of_another_turn(
    agreements: Agreements, judged: Counter[tuple[str, str]]
) -> None:
    agreements.said(CALL, 90.0, 100.0 - BEFORE_S - 0.1, 9)
    agreements.said(CALL, 101.0 + FOLLOWED_S + 0.1, 120.0, 9)
    agreements.decided(CALL, 100.0, 101.0, "held")
    agreements.judge(200.0)
    assert judged == {("held", "nothing"): 1}


def test_an_utterance_that_goes_on_for_long_belongs_to_the_overlap_that_it_began_with(
    agreements: Agreements, judged: Counter[tuple[str, str]]
) -> None:
    agreements.decided(CALL, 100.0, 101.0, "interruption")
    agreements.said(CALL, 100.0, 125.0, 60)
    agreements.judge(200.0)
    assert judged == {("interruption", "sentence"): 1}


def test_who_goes_on_for_long_has_been_heard_from_the_begin(
    agreements: Agreements, judged: Counter[tuple[str, str]]
) -> None:
    agreements.decided(CALL, 100.0, 101.0, "interruption")
    for number in range(200):  # an interim each 150 ms, a final each 3 s
        at = 100.15 + 0.15 * number
        since = 100.0 + 3 * (number // 20) + 0.02 * (number % 3)  # the way is now longer, now not
        agreements.said(CALL, since, at, number % 20 + 1)
    agreements.judge(200.0)
    assert judged == {("interruption", "sentence"): 1}


def test_a_call_without_a_recogniser_is_not_judged(
    agreements: Agreements, judged: Counter[tuple[str, str]]
) -> None:
    agreements.said("another call", 100.0, 100.5, 9)
    agreements.decided(CALL, 100.0, 101.0, "interruption")
    agreements.decided("", 100.0, 101.0, "interruption")
    agreements.judge(200.0)
    assert not judged


def test_what_another_process_heard_counts_and_is_not_told_again(
    agreements: Agreements, judged: Counter[tuple[str, str]]
) -> None:
    told: list[tuple[str, float, float, int]] = []
    agreements.on_words = lambda *words: told.append(words)
    agreements.hear(CALL, 100.0, 100.5, 5)
    agreements.decided(CALL, 100.0, 101.0, "interruption")
    agreements.judge(200.0)
    assert judged == {("interruption", "sentence"): 1}
    assert told == []


def test_others_are_told_seldom_but_of_every_sentence(agreements: Agreements) -> None:
    told: list[tuple[float, int]] = []
    agreements.on_words = lambda call, since, at, words: told.append((at, words))
    for at, words in ((0.0, 1), (0.25, 2), (0.5, 4), (0.75, 5), (0.5 + TELL_S, 6)):
        agreements.said(CALL, at - 0.5, at, words)
    assert told == [(0.0, 1), (0.5, 4), (0.5 + TELL_S, 6)]


def test_what_is_kept_is_bounded(agreements: Agreements) -> None:
    for number in range(CALLS_MAX + 5):
        agreements.said(str(number), 0.0, 0.0, 1)
    for number in range(WORDS_MAX + 5):
        agreements.said(CALL, float(number), float(number), 1)
    for _ in range(OVERLAPS_MAX + 5):
        agreements.decided(CALL, 0.0, 0.0, "held")
    assert len(agreements._calls) == CALLS_MAX
    assert len(agreements._calls[CALL].words) == WORDS_MAX
    assert len(agreements._overlaps) == OVERLAPS_MAX


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("Oh I see", 3),
        ("ちょっと待って", 4),
        ("我想改一下预约", 4),
        ("안녕하세요 여러분", 4),
    ],
)
def test_words_are_counted_where_none_are_separated(text: str, words: int) -> None:
    assert count_words(text) == words
