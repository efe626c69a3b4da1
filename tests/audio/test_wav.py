"""WAV files as callers send them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gateway.audio.pcm import wav
from gateway.audio.wav import WavError, read_wav


def file(samples: bytes, kind: int, bits: int, channels: int = 1, rate: int = 8000) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)
    listed = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # padded to an even length
    chunks = b"fmt " + struct.pack("<I", 16) + form + listed
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    ("samples", "kind", "bits", "heard"),
    [
        (struct.pack("<3h", 0, 16384, -32768), 1, 16, [0, 0.5, -1]),
        (bytes([128, 192, 0]), 1, 8, [0, 0.5, -1]),
        (b"\0\0\0" + b"\0\0\x40" + b"\0\0\x80", 1, 24, [0, 0.5, -1]),
        (struct.pack("<3i", 0, 1 << 30, -(1 << 31)), 1, 32, [0, 0.5, -1]),
        (struct.pack("<4f", 0, 0.5, -3, float("nan")), 3, 32, [0, 0.5, -1, 0]),
        (bytes([0xFF, 0x80, 0x00]), 7, 8, [0, 32124 / 32768, -32124 / 32768]),
        (bytes([0xD5, 0xAA, 0x2A]), 6, 8, [8 / 32768, 32256 / 32768, -32256 / 32768]),
    ],
)
def test_each_usual_encoding_is_read(
    samples: bytes, kind: int, bits: int, heard: list[float]
) -> None:
    found, rate = read_wav(file(samples, kind, bits))
    assert rate == 8000
    assert found.dtype == np.float32
    assert found == pytest.approx(heard, abs=1e-6)


def test_channels_are_mixed() -> None:
    found, _ = read_wav(file(struct.pack("<4h", 16384, 0, -16384, -16384), 1, 16, channels=2))
    assert found == pytest.approx([0.25, -0.5])


def test_a_file_of_a_program_that_streams_is_read_to_its_end() -> None:
    streamed = bytearray(wav(struct.pack("<2h", 16384, -16384), 16_000))
    for size in (0, 0xFFFFFFFF):
        streamed[40:44] = size.to_bytes(4, "little")
        found, rate = read_wav(bytes(streamed))
        assert (rate, found.tolist()) == (16_000, [0.5, -0.5])
    assert len(read_wav(bytes(streamed[:-1]))[0]) == 1  # cut inside a sample


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"OggS" + bytes(40), "no WAV"),
        (b"RIFF\0\0\0\0WAVE", "no samples"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "before their format"),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", "too short"),
        (file(b"", 1, 16, channels=0), "0 channels"),
        (file(b"", 1, 16, rate=1), "1 Hz"),
        (file(b"", 85, 16), "kind 85"),
    ],
)
def test_what_cannot_be_read_is_named(broken: bytes, words: str) -> None:
    with pytest.raises(WavError, match=words):
        read_wav(broken)
