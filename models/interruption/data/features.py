"""The numbers of the model's ear: log energies of 40 bands up to 4 kHz, two looks per 25 ms frame.

Nothing above 4 kHz is looked at, so a wide-band and a telephone recording of the same voice look
alike. A look is a 25 ms Hann window that ends with its hop of 12.5 ms: no sample after the end of
a frame is used for that frame. The ONNX graph does the same with one convolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAME = 400  # samples of one output frame, 25 ms
HOP = 200
WINDOW = 400
CONTEXT = WINDOW - HOP  # samples of the past that the first look needs
BINS = 100  # of 40 Hz, from 40 Hz to 4 kHz
BANDS = 40
SIZE = 2 * BANDS  # features of one frame
FLOOR = 1e-9  # of a full-scale square; digital silence would be minus infinity without it
CENTRE, SPREAD = -15.0, 4.0  # of the logarithm over the training set, rounded


def kernels() -> NDArray[np.float32]:
    """Cosine and sine windows [2 * BINS, WINDOW], scaled so that int16 samples come out in +-1."""
    n = np.arange(WINDOW)
    window = np.hanning(WINDOW + 1)[:-1]
    phase = 2 * np.pi * np.outer(np.arange(1, BINS + 1), n) / WINDOW
    scale = 2 / window.sum() / 32768
    return np.asarray(np.concatenate([np.cos(phase), np.sin(phase)]) * window * scale, np.float32)


def bands() -> NDArray[np.float32]:
    """Triangles [BANDS, BINS], equally wide in mel from 60 Hz to 4 kHz, each summing to 1."""

    def mel(hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(2595 * np.log10(1 + np.asarray(hz) / 700))

    edges = np.interp(
        np.linspace(mel(60), mel(4000), BANDS + 2),
        mel(np.arange(0, 4001, 1.0)),
        np.arange(0, 4001, 1.0),
    )
    hz = np.arange(1, BINS + 1) * RATE / WINDOW
    out = np.zeros((BANDS, BINS))
    for band in range(BANDS):
        low, middle, high = edges[band : band + 3]
        width = max(middle - low, RATE / WINDOW)
        rise = (hz - (middle - width)) / width
        fall = (middle + max(high - middle, RATE / WINDOW) - hz) / max(high - middle, RATE / WINDOW)
        out[band] = np.clip(np.minimum(rise, fall), 0, None)
    return np.asarray(out / out.sum(axis=1, keepdims=True), np.float32)


_KERNELS, _BANDS = kernels(), bands()


def scaled(energies: NDArray[np.float32]) -> NDArray[np.float32]:
    logarithms = np.log(energies + np.float32(FLOOR))
    return np.asarray((logarithms - np.float32(CENTRE)) / np.float32(SPREAD), np.float32)


def of(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Features [frames, SIZE] of samples [frames * FRAME], silence before them."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples.astype(np.float32)])
    looks = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    parts = looks @ _KERNELS.T
    power = np.square(parts[:, :BINS]) + np.square(parts[:, BINS:])
    return scaled(power @ _BANDS.T).reshape(-1, SIZE)
