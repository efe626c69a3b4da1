"""ITU-T G.711: telephone audio, 8-bit samples at 8 kHz, to and from s16le."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

RATE: Final = 8_000
"""Hz. The only rate of G.711."""

_Samples = npt.NDArray[np.int16]

_ULAW_BIAS: Final = 132
_ULAW_MAX: Final = 32_635
"""Louder samples are clipped: with the bias they would not fit in 15 bits."""


def _ulaw_decoding() -> _Samples:
    """Section 3: the sample of each code."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    size = (((mantissa << 3) + _ULAW_BIAS) << exponent) - _ULAW_BIAS
    return np.where(code & 128, -size, size).astype(np.int16)


def _alaw_decoding() -> _Samples:
    """Section 2: the sample of each code."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 128, size, -size).astype(np.int16)


def _encoding(decoding: _Samples, loudest: int) -> npt.NDArray[np.uint8]:
    """The code of each sample, by the sample as uint16: the one whose sample is nearest."""
    order = np.argsort(decoding, kind="stable")
    levels = decoding[order].astype(np.int32)
    samples = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int32)
    samples = np.clip(samples, -loudest, loudest)
    above = np.clip(np.searchsorted(levels, samples), 1, 255)
    nearer = above - (samples - levels[above - 1] < levels[above] - samples)
    return order[nearer].astype(np.uint8)


ULAW: Final = _ulaw_decoding()
ALAW: Final = _alaw_decoding()
"""int16 [256]: the sample of each code."""

_TO_ULAW: Final = _encoding(ULAW, _ULAW_MAX)
_TO_ALAW: Final = _encoding(ALAW, 32_767)


def from_ulaw(codes: bytes | memoryview) -> bytes:
    """s16le of u-law codes."""
    return bytes(ULAW[np.frombuffer(codes, np.uint8)].tobytes())


def from_alaw(codes: bytes | memoryview) -> bytes:
    """s16le of A-law codes."""
    return bytes(ALAW[np.frombuffer(codes, np.uint8)].tobytes())


def to_ulaw(pcm: bytes) -> bytes:
    """u-law codes of s16le samples."""
    return bytes(_TO_ULAW[np.frombuffer(pcm, np.uint16)].tobytes())


def to_alaw(pcm: bytes) -> bytes:
    """A-law codes of s16le samples."""
    return bytes(_TO_ALAW[np.frombuffer(pcm, np.uint16)].tobytes())
