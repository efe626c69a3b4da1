"""What happens to a caller's sound on its way: room, noise, band, codec, packet loss, level.

Every class of the training set goes through `transmitted`, with the same distribution, so that
the channel says nothing about the label.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from models.interruption.data.nonverbal import RATE, Audio, floor_noise


@dataclass(frozen=True)
class Backgrounds:
    """Recordings of one side of the split to mix in."""

    rirs: list[Audio]
    noises: list[Audio]
    music: list[Audio]
    speech: list[Audio]


def room(rng: Generator, rirs: list[Audio]) -> Audio:
    """An impulse response with the direct sound first: half recorded, half made."""
    if rirs and rng.random() < 0.4:
        ir = rirs[int(rng.integers(len(rirs)))].copy()
        ir = ir[int(np.argmax(np.abs(ir))) :][: RATE // 2]
    else:
        n = int(rng.uniform(0.1, 0.5) * RATE)
        decay = 10 ** (-3 * np.arange(n) / RATE / rng.uniform(0.1, 0.9))
        ir = (rng.standard_normal(n) * decay).astype(np.float32)
        ir[: int(rng.uniform(0.001, 0.02) * RATE)] = 0
    ir = ir / (np.sqrt((ir**2).sum()) + 1e-9) * 10 ** (-rng.uniform(0, 18) / 20)
    ir[0] += 1.0
    return np.asarray(ir, np.float32)


def reverberated(x: Audio, ir: Audio) -> Audio:
    return np.asarray(fftconvolve(x, ir)[: len(x)], np.float32)


def excerpt(rng: Generator, source: Audio, n: int) -> Audio:
    """n samples from anywhere in the source, repeated when it is too short."""
    if len(source) < n:
        source = np.tile(source, n // len(source) + 1)
    start = int(rng.integers(len(source) - n + 1))
    return source[start : start + n]


def background(rng: Generator, n: int, known: Backgrounds, kind: str | None = None) -> Audio:
    """Something behind the caller with an RMS of 1: noise, music, babble, or one far voice."""
    kind = kind or str(rng.choice(["noise", "music", "babble", "tv"], p=[0.35, 0.15, 0.25, 0.25]))
    if kind == "noise":
        x = excerpt(rng, known.noises[int(rng.integers(len(known.noises)))], n)
    elif kind == "music":
        x = excerpt(rng, known.music[int(rng.integers(len(known.music)))], n)
    else:
        x = np.zeros(n, np.float32)
        for _ in range(int(rng.integers(3, 8)) if kind == "babble" else 1):
            voice = excerpt(rng, known.speech[int(rng.integers(len(known.speech)))], n)
            x += voice / (voice.std() + 1e-4) * np.float32(rng.uniform(0.4, 1))
        x = reverberated(x, room(rng, known.rirs))
    return np.asarray(x / (x.std() + 1e-6), np.float32)


def _coded(rng: Generator, x: Audio) -> Audio:
    """Through one of the codecs of telephony and the web, by libsndfile."""
    # Opus takes 50 ms to encode what the others do in one, hence its small share.
    kind = str(rng.choice(["mulaw", "alaw", "gsm", "g721", "opus", "opus8", "band"],
                          p=[0.29, 0.13, 0.18, 0.09, 0.05, 0.01, 0.25]))  # fmt: skip
    n = len(x)
    if kind != "opus":
        low = rng.uniform(80, 330)
        sos = butter(
            int(rng.integers(2, 5)), [low, rng.uniform(3000, 3700)], "band", fs=RATE, output="sos"
        )
        x = sosfilt(sos, x).astype(np.float32)
        if kind == "band":
            return x
        x = resample_poly(x, 1, 2).astype(np.float32)
    rate = RATE if kind == "opus" else RATE // 2
    container, subtype = {
        "mulaw": ("WAV", "ULAW"), "alaw": ("WAV", "ALAW"), "gsm": ("WAV", "GSM610"),
        "g721": ("AU", "G721_32"), "opus": ("OGG", "OPUS"), "opus8": ("OGG", "OPUS"),
    }[kind]  # fmt: skip
    file = io.BytesIO()
    extra = {"compression_level": float(rng.uniform(0.3, 0.99))} if container == "OGG" else {}
    soundfile.write(file, np.clip(x, -1, 1), rate, format=container, subtype=subtype, **extra)
    file.seek(0)
    y, heard_rate = soundfile.read(file, dtype="float32")
    if heard_rate != RATE:
        y = resample_poly(y, RATE // 1000, heard_rate // 1000).astype(np.float32)
    y = y[:n]
    return np.pad(y, (0, n - len(y)))


def _lossy(rng: Generator, x: Audio) -> Audio:
    """Packets of 20 ms lost in small bursts: silence, or the last one again, more quietly."""
    x, packet = x.copy(), RATE // 50
    share, repeat = rng.uniform(0.005, 0.06), rng.random() < 0.6
    for start in range(packet, len(x) - packet, packet):
        if rng.random() < share:
            before = x[start - packet : start]
            x[start : start + packet] = before * 0.6 if repeat else 0
    return x


def _coloured(rng: Generator, x: Audio) -> Audio:
    """A microphone's colour: a random smooth gain of up to about +-9 dB over frequency."""
    spectrum = np.fft.rfft(x)
    hz = np.linspace(0, 1, len(spectrum))
    knots = rng.normal(0, 3.5, 7)
    spectrum *= 10 ** (np.interp(np.sqrt(hz), np.linspace(0, 1, 7), knots) / 20)
    return np.fft.irfft(spectrum, len(x)).astype(np.float32)


def _levelled(x: Audio, loud: NDArray[np.bool_], quieter_db: float) -> Audio:
    """An RMS of 1 where it is loud, less `quieter_db`."""
    level = np.sqrt(np.mean(x[loud] ** 2)) if loud.any() else 1.0
    return (x / (level + 1e-6) * 10 ** (-quieter_db / 20)).astype(np.float32)


def close_up(
    rng: Generator, event: Audio, loud: NDArray[np.bool_], quieter_db: float = 0.0
) -> NDArray[np.int16]:
    """The caller's event [n] alone, as a good headset would carry it: what a teacher hears of a
    scene whose learner hears it `transmitted`."""
    x = _levelled(event, loud, quieter_db)
    x = x + rng.standard_normal(len(x), np.float32) * np.float32(10 ** (-50 / 20))
    return np.asarray(np.round(np.clip(x * 10 ** (-26 / 20), -1, 1) * 32767), np.int16)


def transmitted(
    rng: Generator,
    event: Audio,
    known: Backgrounds,
    loud: NDArray[np.bool_],
    quieter_db: float = 0.0,
) -> NDArray[np.int16]:
    """The caller's event [n] as the gateway receives it; `loud` marks where the event sounds.

    `quieter_db` is how far below a caller's voice the event is: the noise stays where it was.
    """
    n = len(event)
    x = event
    if rng.random() < 0.55:
        x = reverberated(x, room(rng, known.rirs))
    x = _levelled(x, loud, quieter_db)
    hiss_db = rng.uniform(3, 20) if rng.random() < 0.3 else rng.uniform(12, 60)
    x = x + floor_noise(rng, n) * np.float32(10 ** (-hiss_db / 20))
    if rng.random() < 0.55:
        snr_db = rng.uniform(3, 25)
        x = x + background(rng, n, known) * np.float32(10 ** (-snr_db / 20))
    if rng.random() < 0.7:
        x = _coloured(rng, x.astype(np.float32))
    # Telephones and browsers level their callers, roughly: a voice far below that is one aside.
    level_db = (
        rng.uniform(-42, -12) if rng.random() < 0.4 else np.clip(rng.normal(-26, 7), -45, -10)
    )
    x = x.astype(np.float32) * np.float32(10 ** (level_db / 20))
    if rng.random() < 0.05:
        x = x * np.float32(rng.uniform(2, 8))
    x = np.clip(x, -1, 1)
    if rng.random() < 0.5:
        x = _coded(rng, x)
    if rng.random() < 0.15:
        x = _lossy(rng, x)
    return np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
