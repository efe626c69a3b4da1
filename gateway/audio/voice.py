"""Whether audio holds a voice, without a model. Pure.

Energy alone takes a fan, mains hum or typing for speech. A voice is periodic (its pitch), and its
level moves with the syllables: hum is periodic but steady, noise moves but has no pitch.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gateway.audio.pcm import LOUD_MIN, floats

RATE: Final = 4000
"""Hz that audio is reduced to: enough for the pitch."""

FRAME: Final = 160
HOP: Final = 80
"""Samples: frames of 40 ms, so that two periods of a low voice fit, every 20 ms."""

PITCH_HZ_MIN: Final = 70
PITCH_HZ_MAX: Final = 400

PERIODIC: Final = 0.6
"""Normalised autocorrelation at the pitch's period from which a frame is voiced."""

VOICED_S_MIN: Final = 0.12
"""Voiced audio that makes a voice: a short vowel."""

VOICED_SHARE_MIN: Final = 0.15
"""Least share of the loud frames that are voiced."""

MOVES_DB_MIN: Final = 3.0
"""Standard deviation of the loud frames' levels. Speech has 6 dB and more, hum and tones below 1,
also where they come and go."""


def holds_voice(pcm: bytes, rate: int) -> bool:
    """Whether s16le samples at `rate` Hz sound like somebody who speaks. Meant for seconds of
    audio, now and then: it takes about a millisecond."""
    step = max(1, rate // RATE)
    samples = floats(pcm)
    reduced = samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1)
    if len(reduced) < FRAME:
        return False
    frames = np.lib.stride_tricks.sliding_window_view(reduced, FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    levels = np.sqrt((frames**2).mean(axis=1))
    loud = levels > LOUD_MIN / 32768
    if loud.sum() * HOP < VOICED_S_MIN * RATE:
        return False
    moves_db = np.std(20 * np.log10(levels[loud]))
    if moves_db < MOVES_DB_MIN:
        return False
    spectra = np.fft.rfft(frames[loud], 2 * FRAME, axis=1)
    correlations = np.fft.irfft(np.abs(spectra) ** 2, axis=1)
    lags = np.arange(RATE // PITCH_HZ_MAX, RATE // PITCH_HZ_MIN + 1)
    overlap = (FRAME - lags) / FRAME  # later lags compare fewer samples
    peaks = (correlations[:, lags] / overlap).max(axis=1) / correlations[:, 0]
    voiced = int((peaks >= PERIODIC).sum())
    enough = voiced * HOP >= VOICED_S_MIN * RATE
    return bool(enough and voiced >= VOICED_SHARE_MIN * loud.sum())
