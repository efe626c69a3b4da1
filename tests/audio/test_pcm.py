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
