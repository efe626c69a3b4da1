"""Timings from a provider's clock to the utterance's."""

from __future__ import annotations

from gateway.conversations.tts.alignment import Alignment
from gateway.upstreams.tts import Chars, Timed, Times, Words


def words(*entries: tuple[str, float, float]) -> Words:
    return Words(tuple(Timed(*entry) for entry in entries))


def test_timings_wait_for_their_audio() -> None:
    alignment = Alignment(Times.ABSOLUTE)
    alignment.hear(words(("a", 0.0, 0.2), ("b", 0.5, 0.9)), 0.0)
    assert [w.text for w in alignment.due(0.1)[0]] == ["a"]
    assert alignment.due(0.5)[0] == []
    assert [w.text for w in alignment.due(0.6)[0]] == ["b"]


def test_words_and_characters_are_kept_apart() -> None:
    alignment = Alignment(Times.ABSOLUTE)
    alignment.hear(Chars((Timed("a", 0.0, 0.1),)), 0.0)
    assert alignment.due(1.0) == ([], [Timed("a", 0.0, 0.1)])


def test_an_absolute_clock_is_never_shifted() -> None:
    alignment = Alignment(Times.ABSOLUTE)
    alignment.hear(words(("a", 0.0, 0.5)), 0.0)
    (known,) = alignment.hear(words(("b", 0.1, 0.4)), 2.0)
    assert known.start == 0.1


def test_a_clock_that_restarts_goes_on_where_the_audio_is() -> None:
    alignment = Alignment(Times.RESTARTING)
    alignment.hear(words(("a", 0.0, 0.8)), 0.0)
    (known,) = alignment.hear(words(("b", 0.0, 0.3)), 1.0)
    assert (known.start, known.end) == (1.0, 1.3)
    (known,) = alignment.hear(words(("c", 0.4, 0.6)), 1.3)
    assert known.start == 1.4


def test_a_restart_is_not_put_behind_audio_of_its_own() -> None:
    alignment = Alignment(Times.RESTARTING)
    alignment.hear(words(("a", 0.0, 0.8)), 0.0)
    (known,) = alignment.hear(words(("b", 0.0, 0.3)), 5.0)
    assert known.start == 1.3
