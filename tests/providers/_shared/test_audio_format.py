"""Bytes of every format that a speech server may send: samples are played, the rest is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._shared.audio_format import AudioReader, declared
from gateway.upstreams.errors import Kind
from gateway.upstreams.tts import Audio, Failed, Rate, SynthesisEvent

PCM = bytes(range(200))
SPEECH = (9000 * np.sin(np.arange(4000) / 9)).astype("<i2")


def form(rate: int, channels: int = 1, bits: int = 16, code: int = 1) -> bytes:
    width = channels * bits // 8
    return struct.pack("<4sIHHIIHH", b"fmt ", 16, code, channels, rate, rate * width, width, bits)


def wav(rate: int = 22050, size: int = 0xFFFFFFFF, fmt: bytes | None = None) -> bytes:
    head = b"RIFF\xff\xff\xff\xffWAVE" + (fmt if fmt is not None else form(rate))
    return head + b"data" + struct.pack("<I", size)


def read(data: bytes, content_type: str = "", cuts: Iterable[int] = ()) -> list[SynthesisEvent]:
    reader, at = AudioReader(content_type), 0
    heard: list[SynthesisEvent] = []
    for cut in cuts:
        heard += reader.feed(data[at : at + cut])
        at += cut
    return [*heard, *reader.feed(data[at:]), *reader.finish()]


def pcm_of(heard: Iterable[SynthesisEvent]) -> bytes:
    return b"".join(one.pcm for one in heard if isinstance(one, Audio))


OTHERS = {
    "mp3": (b"ID3\x04" + bytes(6) + b"\xff\xfb\x90\x64", b"\xff\xfb\x90\x64", b"\xff\xf3\x84\xc4"),
    "Ogg": (b"OggS\0\x02",),
    "FLAC": (b"fLaC\0\0\0\x22",),
    "AAC": (b"\xff\xf1\x50\x80",),
    "MP4": (b"\0\0\0\x20ftypM4A ",),
    "WebM": (b"\x1aE\xdf\xa3\x01",),
    "AIFF": (b"FORM\0\0\0\0AIFF",),
    "JSON": (b'{"error": "no such voice"}',),
    "HTML": (b"<!DOCTYPE html>",),
}


@pytest.mark.parametrize(
    ("name", "start"), [(name, start) for name, starts in OTHERS.items() for start in starts]
)
@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "", "audio/pcm", "audio/L16;rate=24000"]
)
def test_a_file_of_another_format_is_refused_by_its_name(
    name: str, start: bytes, content_type: str
) -> None:
    heard = read(start + b"\x5a" * 4000, content_type)
    assert all(isinstance(one, Failed) for one in heard)
    assert isinstance(heard[0], Failed)
    assert heard[0].failure.kind is Kind.PROTOCOL_ERROR
    assert name in heard[0].failure.message


@pytest.mark.parametrize(
    "content_type",
    ["audio/mpeg", "audio/ogg; codecs=opus", "audio/flac", "audio/basic", "audio/L24;rate=48000",
     "audio/PCMU", "text/html", "application/json", "audio/pcm;rate=24000;channels=2",
     "audio/pcm; rate=24000; bits=24", "audio/pcm;encoding=f32le", "audio/pcm;rate=1"],
)  # fmt: skip
def test_a_content_type_of_other_samples_is_believed_where_the_bytes_say_nothing(
    content_type: str,
) -> None:
    heard = read(bytes(400), content_type)
    assert heard
    assert all(isinstance(one, Failed) for one in heard)


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [("audio/L16;rate=16000;channels=1", 16000), ("audio/pcm; rate=16000", 16000),
     ('audio/pcm;rate="8000"', 8000), ("audio/x-raw, rate=22050", 22050),
     ("audio/pcm;sample_rate=44100;bitdepth=16", 44100), ("audio/L16;codec=pcm;rate=24000", 24000),
     ("audio/pcm;format=s16le", None), ("audio/pcm", None), ("", None),
     ("binary/octet-stream", None), ("audio/wav", None)],
)  # fmt: skip
def test_a_rate_in_the_content_type_is_the_rate(content_type: str, rate: int | None) -> None:
    heard = read(SPEECH.tobytes(), content_type)
    assert [one.sample_rate for one in heard if isinstance(one, Rate)] == ([rate] if rate else [])
    assert pcm_of(heard) == SPEECH.tobytes()


def test_a_wav_is_read_whatever_the_content_type_says() -> None:
    heard = read(wav(16000) + PCM, "audio/mpeg")
    assert heard[0] == Rate(16000)
    assert pcm_of(heard) == PCM


@pytest.mark.parametrize("order", ["<i2", ">i2"])
@pytest.mark.parametrize("silence", [0, 3000])
@given(st.lists(st.integers(1, 999), max_size=6))
def test_the_byte_order_of_l16_is_judged_by_the_samples(
    order: str, silence: int, cuts: list[int]
) -> None:
    spoken = np.concatenate([np.zeros(silence, "<i2"), SPEECH])
    heard = read(spoken.astype(order).tobytes(), "audio/L16;rate=16000", cuts)
    assert pcm_of(heard) == spoken.tobytes()


def test_a_byte_order_that_is_named_is_believed() -> None:
    big = SPEECH.astype(">i2").tobytes()
    assert pcm_of(read(big, "audio/pcm;rate=16000;endianness=big")) == SPEECH.tobytes()
    assert declared("audio/L16;rate=16000;endianness=little-endian").swapped is False


@given(st.lists(st.integers(1, 60), max_size=12))
def test_what_follows_the_samples_of_a_wav_is_not_played(cuts: list[int]) -> None:
    comment = b"LIST" + struct.pack("<I", 6) + b"hello!"
    heard = read(wav(16000, len(PCM)) + PCM + comment, "audio/wav", cuts)
    assert pcm_of(heard) == PCM


@given(st.lists(st.integers(1, 60), max_size=12))
def test_a_wav_after_a_wav_is_read_with_its_own_rate(cuts: list[int]) -> None:
    heard = read(wav(16000, len(PCM)) + PCM + wav(8000, len(PCM)) + PCM, "audio/wav", cuts)
    assert [one for one in heard if isinstance(one, Rate)] == [Rate(16000), Rate(8000)]
    assert pcm_of(heard) == PCM * 2


@given(st.lists(st.integers(1, 60), max_size=12))
def test_samples_beyond_what_the_header_counted_are_played(cuts: list[int]) -> None:
    assert pcm_of(read(wav(16000, 100) + PCM, "audio/wav", cuts)) == PCM


@given(st.binary(max_size=300), st.lists(st.integers(1, 60), max_size=12))
def test_whatever_comes_it_is_read_the_same_wherever_it_is_cut(
    data: bytes, cuts: list[int]
) -> None:
    whole, cut = read(data, "audio/pcm"), read(data, "audio/pcm", cuts)
    assert pcm_of(whole) == pcm_of(cut)
    failed = [any(isinstance(one, Failed) for one in heard) for heard in (whole, cut)]
    assert failed[0] == failed[1]
