"""Which file format audio begins with, by its first bytes, and the header of a WAV. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SNIFF_BYTES: Final = 12
"""Enough for the longest magic number (RIFF, size, WAVE); a quarter of a millisecond of audio."""

RATE_MIN: Final = 4_000
RATE_MAX: Final = 192_000
"""No voice has another rate; a number outside is a broken header, Hz."""

_UNKNOWN_SIZES: Final = (0, 0x7FFF0000)
"""A data chunk of no bytes, or of more than these, was written by a server that streams."""

_WAVE_PCM: Final = 1
_WAVE_EXTENSIBLE: Final = 0xFFFE

_MAGIC: Final[Mapping[bytes, str]] = {
    b"ID3": "mp3",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"\x1aE\xdf\xa3": "WebM",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"#!AMR": "AMR",
    b"caff": "CAF",
    b"RIFX": "big-endian WAV",
    b'{"': "JSON",
    b"<!DOCTYPE": "HTML",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<?xml": "XML",
}


def other_format(start: bytes) -> str | None:
    """The name of the format whose file begins like this; None for a WAV and for raw samples."""
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    if start[4:8] == b"ftyp":
        return "MP4"
    if start.startswith((b"RIFF", b"RF64")):
        return None if start[8:12] in (b"WAVE", b"") else "a RIFF file that is no WAV"
    return _frame(start)


def _frame(start: bytes) -> str | None:
    """MPEG audio without a file around it: the header of a frame, all of whose fields are valid.
    As samples it would be a jump to exactly one of a few loud values."""
    if len(start) < 4 or start[0] != 0xFF:
        return None
    second, third = start[1], start[2]
    if second & 0xF6 == 0xF0:  # ADTS
        return "AAC" if third >> 2 & 0xF < 13 else None
    valid = (
        second & 0xE0 == 0xE0
        and second >> 3 & 3 != 1  # version
        and second >> 1 & 3 == 1  # layer III
        and third >> 4 not in (0, 15)  # bit rate
        and third >> 2 & 3 != 3  # sample rate
    )
    return "mp3" if valid else None


def is_wav(start: bytes) -> bool:
    """Whether a WAV begins like this."""
    return start.startswith((b"RIFF", b"RF64")) and start[8:12] == b"WAVE"


@dataclass(frozen=True, slots=True)
class WavHeader:
    """`begins`: where the samples do; `size`: their bytes, None where the server did not know."""

    rate: int
    begins: int
    size: int | None = None


def wav_header(data: bytes) -> WavHeader | str | None:
    """The header of a WAV; None if it is not whole yet, what it is if it is no mono of 16 bits."""
    at, rate = 12, None
    while len(data) >= at + 8:
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"data":
            if rate is None:
                return "a WAV without a format"
            known = _UNKNOWN_SIZES[0] < size < _UNKNOWN_SIZES[1]
            return WavHeader(rate, at + 8, size if known else None)
        if name == b"fmt " and len(data) >= at + 8 + size and size >= 16:
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            if code == _WAVE_EXTENSIBLE and size >= 26:
                code = struct.unpack_from("<H", data, at + 32)[0]  # of its sub-format
            if code not in (_WAVE_PCM, _WAVE_EXTENSIBLE) or channels != 1 or bits != 16:
                return f"a WAV of {channels} channels of {bits} bits, format {code}"
            if not RATE_MIN <= rate <= RATE_MAX:
                return f"a WAV with a rate of {rate} Hz"
        at += 8 + size + size % 2
    return None
