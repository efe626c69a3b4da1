"""The first bytes say what a file is."""

from __future__ import annotations

import struct

import pytest

from gateway.audio.container import WavHeader, is_wav, other_format, wav_header


def form(rate: int, channels: int = 1, bits: int = 16, code: int = 1) -> bytes:
    width = channels * bits // 8
    return struct.pack("<4sIHHIIHH", b"fmt ", 16, code, channels, rate, rate * width, width, bits)


def wav(fmt: bytes, size: int = 0xFFFFFFFF) -> bytes:
    return b"RIFF\xff\xff\xff\xffWAVE" + fmt + b"data" + struct.pack("<I", size)


def test_a_wav_and_samples_are_no_other_format() -> None:
    assert is_wav(wav(form(16000)))
    for start in (wav(form(16000)), bytes(12), b"\xff\xff\xfe\xff" * 3, b"RIFF"):
        assert other_format(start) is None
    assert other_format(b"RIFF\0\0\0\0AVI ") == "a RIFF file that is no WAV"
    assert other_format(b"OggS\0\x02") == "Ogg"


def test_a_header_says_rate_place_and_size() -> None:
    assert wav_header(wav(form(22050), 100)) == WavHeader(22050, 44, 100)
    assert wav_header(wav(form(22050))) == WavHeader(22050, 44)
    assert wav_header(wav(form(22050))[:30]) is None


@pytest.mark.parametrize(
    "fmt",
    [form(22050, channels=2), form(22050, bits=8), form(1), form(22050, code=3, bits=32),
     form(8000, code=7, bits=8), b""],
)  # fmt: skip
def test_a_wav_that_is_no_mono_of_16_bits_is_named(fmt: bytes) -> None:
    assert "a WAV" in str(wav_header(wav(fmt)))


def test_the_sub_format_of_an_extensible_wav_counts() -> None:
    def extensible(code: int) -> bytes:
        rest = struct.pack("<HHIH", 22, 16, 4, code) + bytes(14)
        fields = struct.pack("<HHIIHH", 0xFFFE, 1, 22050, 44100, 2, 16) + rest
        return b"fmt " + struct.pack("<I", len(fields)) + fields

    assert wav_header(wav(extensible(1))) == WavHeader(22050, 12 + 8 + 40 + 8)
    assert isinstance(wav_header(wav(extensible(3))), str)
