"""How loud speech is, and where it pauses."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.envelope import Envelope, gained, ramp_to_zero

RATE = 16000


def tone(seconds: float, amplitude: float = 8000) -> bytes:
    t = np.arange(round(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * 300 * t) * amplitude).astype(np.int16).tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


def envelope(*parts: bytes) -> Envelope:
    made = Envelope(RATE)
    pcm = b"".join(parts)
    for start in range(0, len(pcm), 998):  # never a whole frame
        made.feed(pcm[start : start + 998])
    return made


def test_a_pause_between_words_is_found_and_the_silence_around_is_not() -> None:
    made = envelope(silence(0.5), tone(1.0), silence(0.3), tone(0.5), silence(0.5))
    ((start, end),) = made.pauses(0.2)
    assert start == pytest.approx(1.5, abs=0.03)
    assert end == pytest.approx(1.8, abs=0.03)
    assert made.pauses(0.4) == []


def test_loudness_is_that_of_the_speech_and_not_of_the_pauses() -> None:
    loud = envelope(tone(1.0)).loudness_db()
    assert loud == pytest.approx(20 * np.log10(8000 / 32768 / np.sqrt(2)), abs=0.1)
    assert envelope(tone(1.0), silence(3.0)).loudness_db() == pytest.approx(loud, abs=0.2)


def test_silence_has_no_loudness() -> None:
    assert envelope(silence(1.0)).loudness_db() is None
    assert envelope().loudness_db() is None
    assert envelope().pauses(0.1) == []


def test_a_gain_stays_inside_full_scale() -> None:
    samples = np.frombuffer(gained(tone(0.1, 20_000), 9.0), np.int16)
    assert samples.max() == 32767
    half = np.frombuffer(gained(tone(0.1, 20_000), -6.02), np.int16)
    assert half.max() == pytest.approx(10_000, rel=0.01)


def test_a_ramp_ends_in_silence() -> None:
    ramp = np.frombuffer(ramp_to_zero(5000, 100), np.int16)
    assert ramp[-1] == 0
    assert np.abs(np.diff(np.concatenate(([5000], ramp)))).max() < 100
