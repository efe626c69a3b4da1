"""Samples as whole numbers and as fractions of full scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """-1 to 1."""
    return np.asarray(samples, np.float32) * np.float32(1 / 32768)
