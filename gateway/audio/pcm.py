"""Mono s16le samples: how loud they are, silence, a WAV around them."""

from __future__ import annotations

import math
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

BYTES_PER_SAMPLE: Final = 2

LOUD_MIN: Final = 120.0
"""Root mean square (of 32768) below which nothing counts as speech: about -49 dBFS."""

LOUD_OVER_FLOOR: Final = 3.2
"""How far speech stands out of the noise floor: 10 dB."""

_FLOOR_FALL: Final = 0.4
_FLOOR_RISE: Final = 1.006
"""The floor follows a quieter frame at once, a louder one by 1 dB a second (20 frames)."""

_FLOOR_MAX: Final = 3000.0
"""The floor of a room so loud that speech in it is loud enough for anybody."""

_EVERY: Final = 27
_EVERY_TOO: Final = 37
"""Every 27th and every 37th sample are enough to tell how loud a frame is. One of the two alone
would be deaf to tones: at 16 kHz every 16th sample of a tone of 500, 1000 or 1500 Hz may be 0."""

_TOO_FROM: Final = 3
"""The first of the second series. With it no tone seems quieter than half of what it is (5 dB), nor
louder than 1.3 times, at any rate, in frames of 20 ms and more."""


def level(pcm: bytes) -> float:
    """Root mean square of s16le samples, 0 to 32768; of a part of them, see _EVERY."""
    # for so few numbers numpy is no faster, and it pushes all else out of the processor's caches
    view = memoryview(pcm).cast("h")
    samples = view[::_EVERY].tolist() + view[_TOO_FROM::_EVERY_TOO].tolist()
    return math.hypot(*samples) / len(samples) ** 0.5 if samples else 0.0


class Loudness:
    """Tells frames that may hold speech from quiet ones. It is no voice detector: steady noise
    becomes the floor and is quiet, but a cough or music is loud."""

    __slots__ = ("_floor",)

    def __init__(self) -> None:
        self._floor = 60.0

    def loud(self, level: float) -> bool:
        """Whether a frame of this level stands out. Frames come in order, 20 to 100 ms each."""
        floor = self._floor
        is_loud = level > LOUD_MIN and level > LOUD_OVER_FLOOR * floor
        if level < floor:
            self._floor = max(1.0, floor + _FLOOR_FALL * (level - floor))
        else:
            self._floor = min(_FLOOR_MAX, max(1.0, floor) * _FLOOR_RISE)
        return is_loud


def silence(samples: int) -> bytes:
    """So many samples of s16le silence."""
    return bytes(BYTES_PER_SAMPLE * samples)


def floats(pcm: bytes) -> npt.NDArray[np.float32]:
    """s16le samples as floats from -1 to 1."""
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0


def wav(pcm: bytes, rate: int) -> bytes:
    """A WAV file with s16le mono samples."""
    size = len(pcm)
    return (
        struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1),
            *(rate, rate * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE, 16, b"data", size),
        )
        + pcm
    )
