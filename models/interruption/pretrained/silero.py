"""Silero VAD (MIT): does someone speak?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.interruption.pretrained import wheels

SAMPLE_RATE = 16_000
VAD_FRAME = 512  # samples, 32 ms
VAD_CONTEXT = 64  # samples of the frame before, which Silero 5 and later want in front


def installed() -> bool:
    """Whether its wheel is installed."""
    return wheels.installed("silero_vad")


def speech_probabilities(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silero's P(speech) for each whole 32 ms frame: [samples] -> [frames], or so for each sound of
    a batch [sounds, samples]."""
    session = wheels.session("silero_vad", "data/silero_vad.onnx")
    sounds = np.atleast_2d(samples).astype(np.float32)
    state = np.zeros((2, len(sounds), 128), np.float32)
    context = np.zeros((len(sounds), VAD_CONTEXT), np.float32)
    found = []
    for start in range(0, sounds.shape[1] - VAD_FRAME + 1, VAD_FRAME):
        frame = sounds[:, start : start + VAD_FRAME]
        probability, state = session.run(
            None,
            {
                "input": np.concatenate([context, frame], axis=1),
                "state": state,
                "sr": np.array(SAMPLE_RATE, np.int64),
            },
        )
        context = frame[:, -VAD_CONTEXT:]
        found.append(probability[:, 0])
    heard = np.stack(found, axis=1) if found else np.zeros((len(sounds), 0), np.float32)
    return heard if samples.ndim == 2 else heard[0]


def speech_seconds(samples: NDArray[np.float32]) -> float:
    return float(np.sum(speech_probabilities(samples) >= 0.5)) * VAD_FRAME / SAMPLE_RATE
