"""Samples: loudness, silence, a WAV."""

import io
import struct
import wave

import numpy as np
import pytest

from gateway.audio.pcm import Loudness, level, silence, wav


def noise(amplitude: float, seed: int = 0) -> bytes:
    samples = np.random.default_rng(seed).normal(0, amplitude, 800)
    return samples.astype(np.int16).tobytes()


def test_level_is_the_root_mean_square() -> None:
    assert level(struct.pack("<800h", *[1000] * 800)) == pytest.approx(1000)
    assert level(b"") == 0.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("frame_s", [0.02, 0.05])
def test_no_tone_is_taken_for_silence(rate: int, frame_s: float) -> None:
    """Every 16th sample of a tone of 1000 Hz is 0 at 16 kHz, if its first sample is: a word of that
    tone was left out of a replay as silence."""
    times = np.arange(round(rate * frame_s)) / rate
    for hz in range(100, int(0.48 * rate), 25):
        for phase in np.linspace(0.0, np.pi, 6, endpoint=False):
            tone = 9000 * np.sin(2 * np.pi * hz * times + phase)
            assert 0.5 * np.std(tone) < level(tone.astype(np.int16).tobytes()) < 9000, hz


def test_speech_stands_out_of_a_room() -> None:
    loudness = Loudness()
    for i in range(60):
        assert not loudness.loud(level(noise(80, i)))
    assert loudness.loud(level(noise(2000)))


def test_steady_noise_becomes_the_floor() -> None:
    loudness = Loudness()
    heard = [loudness.loud(level(noise(1500, i))) for i in range(1200)]

    assert heard[0]
    assert not any(heard[-100:])


def test_digital_silence_is_quiet() -> None:
    loudness = Loudness()

    assert not any(loudness.loud(level(silence(800))) for _ in range(100))


def test_a_wav_is_one() -> None:
    with wave.open(io.BytesIO(wav(noise(100), 16_000))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 16_000, 800)
