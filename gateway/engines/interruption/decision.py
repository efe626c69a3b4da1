"""When probabilities mean an interruption: the one rule, for the server and for evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt


def eager(probabilities: npt.NDArray[np.float32], eagerness: float) -> npt.NDArray[np.float32]:
    """The probabilities with `eagerness` added to the logit of each; 0 changes nothing."""
    if not eagerness:
        return probabilities
    odds = np.float32(math.exp(eagerness))
    return probabilities * odds / (1 + probabilities * (odds - 1))


def first_detection(
    probabilities: Sequence[float] | npt.NDArray[np.floating], threshold: float, min_frames: int
) -> int | None:
    """The index of the frame that completes the first run of `min_frames` consecutive frames at
    or above `threshold`, or None. `probabilities` has one value for each 25 ms frame."""
    reached = np.asarray(probabilities) >= threshold
    if not reached.any():  # most windows: nobody interrupts
        return None
    if min_frames <= 1:
        hits = reached
        offset = 0
    else:
        if reached.size < min_frames:
            return None
        sums = np.cumsum(reached, dtype=np.int32)
        sums[min_frames:] -= sums[:-min_frames].copy()
        hits = sums[min_frames - 1 :] == min_frames
        offset = min_frames - 1
    first = int(np.argmax(hits)) if hits.size else 0
    return first + offset if hits.size and hits[first] else None


CLAIM_FRAMES: Final = 2
"""Consecutive frames that the clients ask for before they believe a detection."""


def claim(probabilities: Sequence[float] | npt.NDArray[np.float32]) -> float:
    """The highest threshold at which `CLAIM_FRAMES` consecutive frames are a detection; 0 if there
    are fewer frames."""
    frames = np.asarray(probabilities)
    if frames.size < CLAIM_FRAMES:
        return 0.0
    runs = np.lib.stride_tricks.sliding_window_view(frames, CLAIM_FRAMES)
    return float(runs.min(axis=1).max())
