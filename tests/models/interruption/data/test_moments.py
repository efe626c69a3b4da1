"""Sounds behind lines: what the regression set and the simulation of learning are made of."""

from pathlib import Path

import numpy as np

from models.interruption.data.moments import (
    BEFORE_S,
    FAR,
    LEAD_S,
    RATE,
    Line,
    Sound,
    banded,
    far,
    reverberated,
    window,
)

TONE = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
SOUND = Sound("speech_libri", "read sentences", True, "a person", False, TONE)


def test_a_window_is_three_seconds_with_the_sound_after_the_first() -> None:
    samples = window(SOUND, Line(noise_db=-60), np.random.default_rng(0)).astype(float)

    begins = round((BEFORE_S - LEAD_S) * RATE)
    assert samples.size == 3 * RATE
    assert np.abs(samples[: begins - 100]).max() < 0.01 * np.abs(samples[begins + 100 :]).max()


def test_a_voice_from_the_next_room_is_quieter_and_takes_no_floor() -> None:
    near, away = (
        window(one, Line(), np.random.default_rng(0)).astype(float) for one in (SOUND, far(SOUND))
    )

    assert far(SOUND).kind == FAR
    assert not far(SOUND).floor
    assert (away**2).mean() < (near**2).mean() / 4


def test_a_telephone_lets_nothing_else_pass() -> None:
    heard = banded(TONE + np.sin(2 * np.pi * 6000 * np.arange(TONE.size) / RATE), 300, 3400)

    assert np.allclose(heard, TONE, atol=1e-6)


def test_a_room_goes_on_after_the_sound() -> None:
    click = np.zeros(RATE)
    click[100] = 1.0
    heard = reverberated(click, 0.3, np.random.default_rng(0))

    assert heard[100] > 0.9
    assert np.abs(heard[101:2000]).max() > 0.01
    assert not heard[:100].round(9).any()


def test_no_path_of_this_module_reads_what_is_share_alike(tmp_path: Path) -> None:
    from models.interruption.data import moments

    assert {"babycry_", "ivr_speech/"} == set(moments._SHARE_ALIKE)
