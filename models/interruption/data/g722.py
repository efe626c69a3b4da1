"""Decodes G.722 at 64 kbit/s, the form of Asterisk's prompts, which libsndfile does not read.

ITU-T G.722 (09/2012), clause 6: two bands of ADPCM, 6 and 2 bits a byte, joined by a quadrature
mirror filter. Names are the Recommendation's. All arithmetic is its 16-bit fixed point, so that
what comes out is that of any other decoder, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Inverse quantizers, of 6, 4 and 2 bits
_QM6 = (
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
)  # fmt: skip
_QM4 = (
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200,
    20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
)  # fmt: skip
_QM2 = (-7408, -1616, 7408, 1616)

# How the logarithm of the step follows what was just decoded, by the same 4 and 2 bits
_WL = (-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60)
_WH = (798, -214, 798, -214)

_ILB = (
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
)  # fmt: skip

_QMF = (3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11)


def decoded(content: bytes) -> NDArray[np.int16]:
    """[2 * len(content)] samples at 16 kHz."""
    low_band, high_band = _Band(8, 18_432, 32), _Band(10, 22_528, 8)
    low = np.zeros(len(content), np.int64)
    high = np.zeros(len(content), np.int64)
    for i, byte in enumerate(content):
        low_code, high_code = byte & 63, byte >> 6
        low[i] = low_band.sample(_QM6[low_code])
        low_band.adapt(_QM4[low_code >> 2], _WL[low_code >> 2])
        high[i] = high_band.sample(_QM2[high_code])
        high_band.adapt(_QM2[high_code], _WH[high_code])
    # The receive filter: 12 sums and 12 differences, the newest last
    before = np.zeros(len(_QMF) - 1, np.int64)
    sums = np.concatenate([before, low + high])
    differences = np.concatenate([before, low - high])
    out = np.empty((len(content), 2), np.int64)
    if content:
        # np.convolve turns its second argument round
        out[:, 0] = np.convolve(differences, _QMF, "valid")
        out[:, 1] = np.convolve(sums, _QMF[::-1], "valid")
    joined: NDArray[np.int16] = np.clip(out >> 11, -32_768, 32_767).astype(np.int16).reshape(-1)
    return joined


class _Band:
    """The adaptive predictor and step of one band."""

    def __init__(self, shift: int, log_step_most: int, step: int) -> None:
        self._shift, self._log_step_most = shift, log_step_most
        self._log_step, self._step = 0, step
        self._predicted = self._predicted_zeros = 0
        self._poles = (0, 0)
        self._partial = (0, 0)  # the two partly reconstructed signals before
        self._reconstructed = 0
        self._zeros = [0] * 6
        self._differences = [0] * 6

    def sample(self, quantized: int) -> int:
        """What the band sounds like now."""
        found = self._predicted + (self._step * quantized >> 15)
        return max(-16_384, min(found, 16_383))

    def adapt(self, quantized: int, change: int) -> None:
        """Makes the step and the prediction ready for the next sample."""
        difference = self._step * quantized >> 15
        log_step = (self._log_step * 127 >> 7) + change
        self._log_step = max(0, min(log_step, self._log_step_most))
        mantissa, exponent = _ILB[self._log_step >> 6 & 31], self._shift - (self._log_step >> 11)
        self._step = (mantissa >> exponent if exponent >= 0 else mantissa << -exponent) << 2
        self._predict(difference)

    def _predict(self, difference: int) -> None:
        reconstructed = _fit(self._predicted + difference)
        partial = _fit(self._predicted_zeros + difference)
        negative = partial < 0
        same_1, same_2 = (negative == (before < 0) for before in self._partial)

        # Two poles
        pole_1, pole_2 = self._poles
        by_first = _fit(pole_1 << 2)
        by_first = min(-by_first, 32_767) if same_1 else by_first
        new_2 = (128 if same_2 else -128) + (by_first >> 7) + (pole_2 * 32_512 >> 15)
        new_2 = max(-12_288, min(new_2, 12_288))
        most = _fit(15_360 - new_2)
        new_1 = _fit((192 if same_1 else -192) + (pole_1 * 32_640 >> 15))
        new_1 = max(-most, min(new_1, most))

        # Six zeros
        step = 128 if difference else 0
        self._zeros = [
            _fit((step if (difference < 0) == (before < 0) else -step) + (zero * 32_640 >> 15))
            for zero, before in zip(self._zeros, self._differences, strict=True)
        ]
        self._differences = [difference, *self._differences[:-1]]

        by_poles = _fit(
            (new_1 * _fit(2 * reconstructed) >> 15) + (new_2 * _fit(2 * self._reconstructed) >> 15)
        )
        self._predicted_zeros = _fit(sum(self._products()))
        self._predicted = _fit(by_poles + self._predicted_zeros)
        self._poles = (new_1, new_2)
        self._partial = (partial, self._partial[0])
        self._reconstructed = reconstructed

    def _products(self) -> Iterator[int]:
        for zero, before in zip(self._zeros, self._differences, strict=True):
            yield zero * _fit(2 * before) >> 15


def _fit(value: int) -> int:
    """Within 16 bits."""
    return -32_768 if value < -32_768 else 32_767 if value > 32_767 else value
