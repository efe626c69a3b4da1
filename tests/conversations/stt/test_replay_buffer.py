"""The audio that is kept for the next provider."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.replay_buffer import ReplayBuffer
from tests.conversations.stt.play import HUSH, RATE, TONE, tone


def kept(*parts: bytes, seconds_max: float = 30.0) -> ReplayBuffer:
    audio = ReplayBuffer(RATE, seconds_max)
    for part in parts:
        audio.add(part)
    return audio


def test_a_long_frame_is_split() -> None:
    audio = kept(tone(0.25))

    assert [chunk.samples for chunk in audio.chunks] == [1600, 1600, 800]
    assert audio.end == 4000


def test_it_is_bounded_and_the_oldest_goes_first() -> None:
    audio = kept(*[TONE] * 1000, seconds_max=5.0)

    assert audio.seconds <= 5.0
    assert audio.end == 1000 * 800
    assert audio.chunks[-1].end == audio.end


def test_what_a_final_covers_is_forgotten_from_a_quiet_place_on() -> None:
    audio = kept(*[TONE] * 10, *[HUSH] * 4, *[TONE] * 10)
    audio.forget(0.5)

    assert audio.start == 8000
    audio.forget(0.62)
    assert 0.6 <= audio.start / RATE <= 0.7


def test_without_a_quiet_place_it_is_cut_where_the_final_ends() -> None:
    audio = kept(*[TONE] * 20)
    audio.forget(0.52)

    assert audio.start / RATE == 0.5


def test_speech_is_known_by_its_loudness() -> None:
    audio = kept(*[HUSH] * 10, *[TONE] * 4, *[HUSH] * 10)

    assert audio.speech() == (8000, 11_200)
    assert kept(*[HUSH] * 100).speech() is None


def test_a_click_is_no_speech() -> None:
    assert kept(*[HUSH] * 10, TONE, *[HUSH] * 10).speech() is None


def test_the_pause_before_a_moment_is_found() -> None:
    audio = kept(*[TONE] * 4, *[HUSH] * 4, *[TONE] * 4)

    assert audio.pause_before(audio.end) == 4 * 800
    assert kept(*[TONE] * 8).pause_before(6400) == 6400


def test_what_is_kept_from_a_sample_on_is_found_and_measured() -> None:
    audio = kept(*[TONE] * 10)

    assert audio.seconds_from(6 * 800) == 0.2
    assert [chunk.start for chunk in audio.since(8 * 800)] == [6400, 7200]
    assert audio.seconds_from(audio.end) == 0.0
    assert audio.since(audio.end) == []


def test_of_what_is_no_longer_kept_nothing_is_found() -> None:
    audio = kept(*[TONE] * 200, seconds_max=5.0)

    assert audio.seconds_from(0) == audio.seconds == 5.0
    assert len(audio.since(0)) == 100
    assert audio.end_s == 10.0


def test_a_sound_that_goes_on_is_known_by_where_it_began() -> None:
    audio = kept(*[HUSH] * 10, *[TONE] * 6, HUSH, *[TONE] * 3)

    assert audio.onset_before(audio.end) == 10 * 800
    assert audio.onset_before(12 * 800) == 10 * 800
    assert audio.onset_before(5 * 800) == 5 * 800


def test_after_a_pause_no_sound_goes_on() -> None:
    audio = kept(*[TONE] * 6, *[HUSH] * 3)

    assert audio.onset_before(audio.end) == audio.end


def test_a_sound_that_lasts_is_no_word_that_has_just_begun() -> None:
    audio = kept(*[HUSH] * 10, *[TONE] * 40)

    assert audio.onset_before(audio.end) == audio.end


def test_what_was_loud_is_measured_between_two_moments() -> None:
    audio = kept(*[HUSH] * 4, *[TONE] * 6, *[HUSH] * 4)

    assert audio.loud_s(0.0, audio.end) == pytest.approx(0.3)
    assert audio.loud_s(0.4, audio.end) == pytest.approx(0.1)
    assert audio.loud_s(0.0, 8 * 800) == pytest.approx(0.2)
    assert audio.loud_s(0.5, audio.end) == 0.0
