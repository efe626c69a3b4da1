from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from models.interruption.data import nonverbal, texts, voices
from models.interruption.data.splits import EVAL_VOICES, SHORT_JOBS

STYLES = ["af_heart", "am_adam", "bf_emma", "ef_dora", "ff_siwis", *sorted(EVAL_VOICES)]


@pytest.mark.parametrize(
    "make",
    [nonverbal.hum, nonverbal.laugh, nonverbal.breath, nonverbal.throat, nonverbal.taps,
     nonverbal.tones],
)  # fmt: skip
def test_made_sounds_are_finite_short_and_full_scale(
    make: Callable[[np.random.Generator], np.ndarray],
) -> None:
    for seed in range(20):
        sound = make(np.random.default_rng(seed))
        assert np.isfinite(sound).all()
        assert 0.05 < len(sound) / nonverbal.RATE < 6
        assert 0.9 < np.abs(sound).max() <= 1.001


def test_a_made_sound_is_the_same_for_the_same_seed() -> None:
    first, again = (nonverbal.hum(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_job_is_the_same_for_the_same_number() -> None:
    assert voices.job(7, STYLES) == voices.job(7, STYLES)
    assert voices.job(7, STYLES) != voices.job(8, STYLES)


def test_what_is_made_short_is_a_word_or_a_call_of_either_kind() -> None:
    jobs = [voices.job(SHORT_JOBS + n, STYLES) for n in range(300)]
    assert {job.kinds for job in jobs} == {
        ("backchannel",), ("floor",), ("backchannel", "floor")
    }  # fmt: skip
    assert max(len(" ".join(job.parts).split()) for job in jobs) <= 10
    assert {job.side for job in jobs} == {"train", "eval"}


@pytest.mark.parametrize("first", [0, SHORT_JOBS])
def test_held_out_voices_speak_on_the_eval_side_only(first: int) -> None:
    for index in range(first, first + 300):
        item = voices.job(index, STYLES)
        assert {voice in EVAL_VOICES for voice in item.voices} == {item.side == "eval"}


def test_every_language_has_something_to_say_of_each_kind() -> None:
    assert set(texts.BACKCHANNELS) == set(texts.FLOOR) == {"en", *texts.SENTENCES}
    assert len({texts.sentence(Random(n)) for n in range(500)}) > 300
