"""One telephone, one room and one microphone for every class, so that no class has its own."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
Samples = NDArray[np.float64]


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """Band-limited by the FFT; for whole recordings, not for streams."""
    if rate == wanted:
        return samples
    step = rate // np.gcd(rate, wanted)
    padded = np.pad(samples, (0, -len(samples) % step))
    length = len(padded) * wanted // rate
    spectrum = np.fft.rfft(padded)
    bins = length // 2 + 1
    spectrum = (
        spectrum[:bins] if len(spectrum) >= bins else np.pad(spectrum, (0, bins - len(spectrum)))
    )
    return np.fft.irfft(spectrum, length) * (length / len(padded))


def band_passed(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """Slopes of a few tens of hertz: as steep as a telephone's filters, without their ringing."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    lower = 1 / (1 + np.exp(-(hz - low_hz) / 25)) if low_hz else 1.0
    upper = 1 / (1 + np.exp((hz - high_hz) / 60))
    return np.fft.irfft(spectrum * lower * upper, len(samples))


def through_mu_law(samples: Samples) -> Samples:
    """8 kHz, 300-3400 Hz, eight logarithmic bits (G.711's curve), and back to 16 kHz."""
    narrow = resampled(band_passed(samples, 300, 3400), SAMPLE_RATE, 8_000)
    clipped = np.clip(narrow, -1, 1)
    coded = np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)
    coded = np.round(coded * 127.5 - 0.5) + 0.5
    decoded = np.sign(coded) * (256 ** (np.abs(coded) / 127.5) - 1) / 255
    return resampled(decoded, 8_000, SAMPLE_RATE)[: len(samples)]


def through_opus(samples: Samples) -> Samples:
    """libsndfile's Opus at its default rate; the codec's delay is compensated by the container."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS")
    file.seek(0)
    decoded, rate = soundfile.read(file)
    assert rate == SAMPLE_RATE
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


def speech_level(samples: Samples) -> float:
    """RMS of the louder half second's worth of 20 ms frames: the event, not the room around it."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    energy = np.sort((frames**2).mean(axis=1))[::-1]
    return float(np.sqrt(energy[: max(1, min(25, len(energy)))].mean()))


def scaled_to(samples: Samples, dbfs: float, level: float | None = None) -> Samples:
    level = speech_level(samples) if level is None else level
    return samples * (10 ** (dbfs / 20) / max(level, 1e-9))


def as_int16(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)


def made_room(rng: np.random.Generator) -> Samples:
    """An impulse response of exponentially decaying noise behind a direct sound."""
    decay_s = rng.uniform(0.15, 0.5)
    tail = rng.standard_normal(int(decay_s * SAMPLE_RATE))
    tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
    tail[: int(0.002 * SAMPLE_RATE)] = 0
    tail *= 10 ** (-rng.uniform(4, 14) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def convolved(samples: Samples, response: Samples) -> Samples:
    length = len(samples) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)]


def coloured_noise(length: int, rng: np.random.Generator, slope_db: float) -> Samples:
    """Unit-RMS noise that falls by `slope_db` per octave above 100 Hz."""
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    shape = 10 ** (-slope_db / 20 * np.log2(np.maximum(hz, 100) / 100))
    shape[hz < 40] = 0
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * shape, length)
    return np.asarray(noise / np.sqrt((noise**2).mean()))


@dataclass(frozen=True)
class Channel:
    """What a clip goes through; drawn without knowing the clip's class."""

    room: Samples
    noise_slope_db: float
    noise_below_speech_db: float
    low_hz: float
    high_hz: float
    level_dbfs: float
    opus: bool


def drawn_channel(rng: np.random.Generator) -> Channel:
    return Channel(
        room=made_room(rng),
        noise_slope_db=rng.uniform(2, 7),
        noise_below_speech_db=rng.uniform(22, 35),
        low_hz=rng.uniform(60, 180),
        high_hz=rng.uniform(5_000, 7_400),
        level_dbfs=rng.uniform(-30, -20),
        opus=bool(rng.random() < 0.5),
    )


def through(samples: Samples, channel: Channel, rng: np.random.Generator) -> Samples:
    wet = scaled_to(convolved(samples, channel.room), channel.level_dbfs)
    noise = coloured_noise(len(wet), rng, channel.noise_slope_db)
    noise *= 10 ** ((channel.level_dbfs - channel.noise_below_speech_db) / 20)
    heard = band_passed(wet + noise, channel.low_hz, channel.high_hz)
    return through_opus(heard) if channel.opus else heard


def with_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """`noise` is laid under the clip at `snr_db` below the level of its loudest half second."""
    start_tiles = -(-len(samples) // len(noise))
    bed = np.tile(noise, start_tiles)[: len(samples)]
    return samples + scaled_to(bed, 0, float(np.sqrt((bed**2).mean()))) * speech_level(
        samples
    ) * 10 ** (-snr_db / 20)
