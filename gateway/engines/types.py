"""Types of the engines: arrays, what a model says of itself, questions and answers. No native
library is imported here, so that sessions can name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]


Floats = npt.NDArray[np.float32]


class ModelError(Exception):
    """A file is no model, or not the kind that is wanted; the message says what is."""


@dataclass(frozen=True, slots=True)
class FrameModelCard:
    """What a model's metadata says. `frame_samples` is how many samples one output stands for."""

    name: str
    version: str
    sample_rate: int
    frame_samples: int
    default_threshold: float


INTERRUPTION_WINDOW_S_MAX: Final = 3.0
"""Longest window that clients send: up to 1 s before the user's speech, and what came since."""


FINISHED: Final = 1.0
"""What is told where nothing can be predicted. The clients take the same for "no prediction": the
agent answers after its usual delay, as it would without a detector."""


@dataclass(frozen=True, slots=True)
class TurnModelCard:
    """What a model is. `window_samples` at 16 kHz is how much audio it looks at."""

    name: str
    version: str
    window_samples: int
    default_threshold: float
    thresholds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The probability that the turn is over, and what the batch it was part of took."""

    probability: float
    preprocess_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a client compares with: per language (base language, "en") and for all others.

    A probability below means that the turn goes on; for backchannels, one at or above means that
    the agent could acknowledge. Empty and 0 switch the client's use of backchannels off.
    """

    default: float
    languages: Mapping[str, float]
    backchannel_default: float = 0.0
    backchannel_languages: Mapping[str, float] | None = None
