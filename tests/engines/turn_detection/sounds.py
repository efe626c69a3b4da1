"""Sounds that can be made anew anywhere, bit for bit: the inputs of the feature tests."""

from __future__ import annotations

import functools
import random

import numpy as np
import numpy.typing as npt

WINDOW_S = 8
BAND_STEP, FRAME_STEP = 5, 10


@functools.cache
def sounds() -> dict[str, npt.NDArray[np.int16]]:
    """Name -> int16 samples at 16 kHz, of lengths that meet every edge of the window."""
    return {
        "nothing": np.empty(0, np.int16),
        "one sample": np.array([1000], np.int16),
        "shorter than a frame": _noise(150, 3000),
        "off the grid": _noise(16000 * 2 + 73, 2000),
        "voice": _voice(16000 * 3 + 480),
        "quiet": _noise(16000 * 4, 2),
        "constant": np.full(16000, 1234, np.int16),
        "just a window": _noise(16000 * 8, 500),
        "more than a window": _voice(16000 * 9 + 11),
    }


def _noise(length: int, amplitude: int) -> npt.NDArray[np.int16]:
    # not numpy's generators: theirs may change from version to version
    values = np.frombuffer(random.Random(length).randbytes(2 * length), "<i2").astype(np.int64)
    return (values * amplitude // 32768).astype(np.int16)


def _voice(length: int) -> npt.NDArray[np.int16]:
    """Harmonics of a falling pitch, in syllables, then a pause."""
    time = np.arange(length) / 16000
    phase = 2 * np.pi * (180 * time - 10 * time**2)
    harmonics = np.sum([np.sin(n * phase) / n for n in range(1, 12)], axis=0)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time), 0, None)
    syllables[-3200:] = 0
    samples: npt.NDArray[np.int16] = np.round(6000 * harmonics * syllables).astype(np.int16)
    return samples
