"""Reads a caller's WAV file. Pure."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.audio import g711

RATE_MIN: Final = 4_000
RATE_MAX: Final = 192_000

CHANNELS_MAX: Final = 8

_PCM: Final = 1
_FLOAT: Final = 3
_ALAW: Final = 6
_MULAW: Final = 7
_EXTENSIBLE: Final = 0xFFFE


class WavError(ValueError):
    """A file that cannot be read; the message says what is wrong with it."""


def read_wav(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """Mono samples from -1 to 1, and their rate in Hz. Channels are mixed; a file that ends early
    is read as far as it goes. Raises WavError."""
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        raise WavError("it is no WAV file")
    form: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if kind == b"fmt ":
            form = _form(data[body : body + size])
        elif kind == b"data":
            if form is None:
                raise WavError("its samples come before their format")
            # 0 and huge sizes are written by programs that stream
            end = len(data) if size == 0 else min(len(data), body + size)
            return _mono(memoryview(data)[body:end], *form[:3]), form[3]
        at = body + size + size % 2
    raise WavError("it holds no samples")


def _form(chunk: bytes) -> tuple[int, int, int, int]:
    """Encoding, channels, bits, rate."""
    if len(chunk) < 16:
        raise WavError("its header is too short")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == _EXTENSIBLE and len(chunk) >= 26:
        kind = int.from_bytes(chunk[24:26], "little")
    if not 1 <= channels <= CHANNELS_MAX:
        raise WavError(f"it has {channels} channels: expected 1 to {CHANNELS_MAX}")
    if not RATE_MIN <= rate <= RATE_MAX:
        raise WavError(f"its rate is {rate} Hz: expected {RATE_MIN} to {RATE_MAX}")
    return kind, channels, bits, rate


def _mono(raw: memoryview, kind: int, channels: int, bits: int) -> npt.NDArray[np.float32]:
    width = bits // 8
    if (kind, bits) not in _READERS:
        raise WavError(f"it has samples of kind {kind} with {bits} bits, which are not read here")
    whole = len(raw) // (width * channels) * width * channels
    samples = _READERS[kind, bits](raw[:whole])
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return samples


def _integers(raw: memoryview, kind: str) -> npt.NDArray[np.float32]:
    found = np.frombuffer(raw, kind)
    return np.asarray(found / (np.iinfo(found.dtype).max + 1), np.float32)


def _eight(raw: memoryview) -> npt.NDArray[np.float32]:
    return np.asarray((np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128, np.float32)


def _twenty_four(raw: memoryview) -> npt.NDArray[np.float32]:
    wide = np.zeros((len(raw) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
    return _integers(memoryview(wide.tobytes()), "<i4")


def _floating(raw: memoryview) -> npt.NDArray[np.float32]:
    found = np.nan_to_num(np.frombuffer(raw, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.clip(found, -1, 1), np.float32)


def _mulaw(raw: memoryview) -> npt.NDArray[np.float32]:
    return np.asarray(g711.ULAW[np.frombuffer(raw, np.uint8)] / 32768, np.float32)


def _alaw(raw: memoryview) -> npt.NDArray[np.float32]:
    return np.asarray(g711.ALAW[np.frombuffer(raw, np.uint8)] / 32768, np.float32)


_READERS: Final = {
    (_PCM, 8): _eight,
    (_PCM, 16): lambda raw: _integers(raw, "<i2"),
    (_PCM, 24): _twenty_four,
    (_PCM, 32): lambda raw: _integers(raw, "<i4"),
    (_FLOAT, 32): _floating,
    (_ALAW, 8): _alaw,
    (_MULAW, 8): _mulaw,
}
