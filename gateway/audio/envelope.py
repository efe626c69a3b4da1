"""How loud a stream of speech is, frame by frame: its pauses and its level."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np
import numpy.typing as npt

FRAME_S: Final = 0.02
FRAMES_MAX: Final = 30_000
"""Ten minutes; what comes later is not looked at."""

FRAMES_AT_ONCE: Final = 50
"""One second is measured in one go: ten small pieces would cost ten times as much."""

GATE_DB: Final = -30.0
"""So far below the speech level, a frame is a pause."""

FLOOR: Final = 1e-10

LOUD_FRAMES_MIN: Final = 8
"""Fewer than 160 ms of speech may be one soft syllable."""


class Envelope:
    """The power of every 20 ms of s16le mono samples, full scale being 1."""

    __slots__ = ("_frame_bytes", "_power", "_waiting", "_waiting_bytes")

    def __init__(self, sample_rate: int) -> None:
        self._frame_bytes = 2 * round(sample_rate * FRAME_S)
        self._power = array("f")
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def feed(self, pcm: bytes) -> None:
        """Whole samples, in order."""
        if len(self._power) >= FRAMES_MAX:
            return
        self._waiting.append(pcm)
        self._waiting_bytes += len(pcm)
        if self._waiting_bytes >= FRAMES_AT_ONCE * self._frame_bytes:
            self._measure()

    def _measure(self) -> None:
        data = b"".join(self._waiting)
        whole = len(data) - len(data) % self._frame_bytes
        self._waiting, self._waiting_bytes = [data[whole:]], len(data) - whole
        if whole:
            samples = np.frombuffer(data, np.int16, whole // 2).astype(np.float32)
            frames = samples.reshape(-1, self._frame_bytes // 2)
            power = np.einsum("ij,ij->i", frames, frames) / (frames.shape[1] * 32768.0**2)
            self._power.frombytes(power.astype(np.float32).tobytes())

    def _powers(self) -> npt.NDArray[np.float32]:
        self._measure()
        return np.array(self._power, np.float32)

    def loudness_db(self) -> float | None:
        """Mean level of the frames that are speech, dB of full scale; None if there are too few
        to tell."""
        power = self._powers()
        if not len(power):
            return None
        loud = power[power > max(float(power.max()) * 10 ** (GATE_DB / 10), FLOOR)]
        if len(loud) < LOUD_FRAMES_MIN:
            return None
        return float(10 * np.log10(loud.mean()))

    def pauses(self, pause_s_min: float) -> list[tuple[float, float]]:
        """Start and end, in seconds, of every pause between speech of at least `pause_s_min`."""
        power = self._powers()
        if not len(power):
            return []
        quiet = power <= max(float(power.max()) * 10 ** (GATE_DB / 10), FLOOR)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.view(np.int8), [0]))))
        return [
            (float(start) * FRAME_S, float(end) * FRAME_S)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
            if start > 0 and end < len(power) and (end - start) * FRAME_S >= pause_s_min
        ]


def gained(pcm: bytes, gain_db: float) -> bytes:
    """`pcm` made louder by `gain_db`; what would be over full scale is held there."""
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) * 10 ** (gain_db / 20)
    return bytes(np.clip(samples, -32768, 32767).astype(np.int16).tobytes())


def ramp_to_zero(last_sample: int, samples: int) -> bytes:
    """A glide from `last_sample` to silence: speech that is cut off does not click."""
    fall = np.cos(np.linspace(0, np.pi, samples + 1)[1:]) * 0.5 + 0.5
    return bytes(np.round(fall * last_sample).astype(np.int16).tobytes())
