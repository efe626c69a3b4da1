import numpy as np

from models.interruption.data import features


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    t = np.arange(int(seconds * features.RATE)) / features.RATE
    return np.round(8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def test_there_are_two_looks_of_forty_bands_for_each_frame() -> None:
    assert features.of(np.zeros(4000, np.int16)).shape == (10, 80)


def test_a_frame_depends_on_nothing_after_its_end() -> None:
    sound = tone(440)
    other = sound.copy()
    other[4000:] = 0
    assert np.array_equal(features.of(sound)[:10], features.of(other)[:10])


def test_a_higher_tone_sounds_in_a_higher_band() -> None:
    loudest = [features.of(tone(hz))[10, :40].argmax() for hz in (300, 900, 2500)]
    assert loudest == sorted(set(loudest))


def test_what_is_above_4_khz_is_not_heard() -> None:
    assert features.of(tone(6000)).max() < features.of(tone(2000)).max() - 2


def test_silence_is_a_number() -> None:
    assert np.isfinite(features.of(np.zeros(800, np.int16))).all()
