"""The scores to beat: speech seconds (Silero VAD), and speech seconds + (1 - smart-turn)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.interruption.pretrained.silero import SAMPLE_RATE, VAD_FRAME, speech_probabilities
from models.interruption.pretrained.smart_turn import turn_complete
from models.interruption.sound import as_float


class PairCache:
    """(speech seconds, 1 - smart-turn) of a trial at asked times, kept on disk by its samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def features(
        self, window: NDArray[np.int16], ends: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """At each of `ends` (samples): seconds of speech so far, and 1 - P(complete)."""
        key = hashlib.sha256(window.tobytes() + repr(ends).encode()).hexdigest()[:24]
        path = self._folder / f"{key}.npy"
        if path.exists():
            known = np.load(path)
            return known[0], known[1]
        samples = as_float(window)
        frames = speech_probabilities(samples) >= 0.5
        counts = [float(frames[: end // VAD_FRAME].sum()) for end in ends]
        seconds = [count * VAD_FRAME / SAMPLE_RATE for count in counts]
        unfinished = [1 - turn_complete(samples[:end]) for end in ends]
        np.save(path, np.array([seconds, unfinished]))
        return np.array(seconds), np.array(unfinished)
