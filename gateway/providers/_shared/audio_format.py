"""What the bytes of a voice's HTTP answer are: raw samples, a WAV, or nothing that may be played.

A server need not send what it was asked for, and its content type need not be true. The first bytes
are believed before the content type: bytes of another format, played as samples, are loud noise.
Compressed formats are refused by name (no decoder is among the gateway's dependencies), so that the
next voice speaks. Pure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np

from gateway.audio.chunks import SAMPLE_BYTES
from gateway.audio.container import (
    RATE_MAX,
    RATE_MIN,
    SNIFF_BYTES,
    is_wav,
    other_format,
    wav_header,
)
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.tts import Audio, Failed, Rate, SynthesisEvent

WAV_HEADER_BYTES_MAX: Final = 64 << 10
"""A header is mostly 44 bytes; one with long comments is still found."""

JUDGED_SAMPLES: Final = 512
"""Samples (after leading silence) from which a byte order is judged: 20 to 60 ms."""

_CHUNKS_AFTER_DATA: Final = (b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"bext", b"JUNK", b"iXML")
"""What may follow the samples in a WAV."""

_RAW_TYPE: Final = re.compile(r"pcm$|pcm16|raw|l16$|s16|linear16|wav|octet-stream|^$")
"""Content types under which samples are expected, also those that a WAV comes under."""

_PARAMETER: Final = re.compile(r"([\w-]+)\s*=\s*\"?([^\s;,\"]+)")
_RATES: Final = ("rate", "sample_rate", "sample-rate", "samplerate", "samplingrate")
_BITS: Final = ("bits", "bitdepth", "bit_depth", "bit-depth", "bits_per_sample")
_FORMATS: Final = ("encoding", "format", "codec", "codecs")
_OTHER_SAMPLES: Final = re.compile(r"f32|f64|float|law|pcmu|pcma|u8|s8|24|32|opus|mp3|aac")
_ORDERS: Final = ("endian", "endianness", "byte-order", "byteorder", "format")


def _refusal(what: str) -> Failure:
    return Failure(
        Kind.PROTOCOL_ERROR, f"the provider answered with {what} instead of samples of 16 bits"
    )


@dataclass(frozen=True, slots=True)
class DeclaredAudio:
    """What a content type says. `rate`: Hz, None if it does not say; `refused`: why the samples
    cannot be played whatever they are; `swapped`: whether they are big-endian, None where that has
    to be judged by the samples."""

    rate: int | None = None
    refused: Failure | None = None
    swapped: bool | None = False


def declared(content_type: str) -> DeclaredAudio:
    """Read a content type with its parameters: `audio/L16;rate=16000;channels=1`."""
    name, _, rest = content_type.partition(";")
    kind, comma, more = name.strip().lower().partition(",")
    said = {key.lower(): value.lower() for key, value in _PARAMETER.findall(more + comma + rest)}
    subtype = kind.partition("/")[2]
    if not _RAW_TYPE.search(subtype):
        return DeclaredAudio(refused=_refusal(presentable(kind)[:64]))
    channels, bits = said.get("channels", "1"), _first(said, _BITS) or "16"
    form = " ".join(said.get(key, "") for key in _FORMATS)
    if "wav" not in subtype and (
        channels != "1" or bits != "16" or _OTHER_SAMPLES.search(form.replace("s16", ""))
    ):
        return DeclaredAudio(refused=_refusal(presentable(content_type)[:64]))
    rate = _first(said, _RATES)
    if rate is not None and not (rate.isdigit() and RATE_MIN <= int(rate) <= RATE_MAX):
        return DeclaredAudio(refused=_refusal(presentable(content_type)[:64]))
    order = _first(said, _ORDERS) or ""
    swapped: bool | None = False
    if "big" in order or order.endswith("be"):
        swapped = True
    elif subtype == "l16" and not ("little" in order or order.endswith("le")):
        swapped = None
    return DeclaredAudio(None if rate is None else int(rate), None, swapped)


def _first(said: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((said[name] for name in names if name in said), None)


class _State(Enum):
    START = auto()
    HEADER = auto()
    DATA = auto()
    AFTER_DATA = auto()
    JUDGED = auto()
    RAW = auto()
    REFUSED = auto()


class AudioReader:
    """The bytes of one answer, read as samples: s16le mono. Rate comes before the audio that it
    is of. What may not be played gives Failed, once for each call."""

    def __init__(self, content_type: str = "") -> None:
        self._declared = declared(content_type)
        self._state = _State.START
        self._held = b""
        self._left: int | None = None
        self._swapped = False
        self._refused: Failure | None = None

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        """The next bytes, cut anywhere."""
        if self._state is _State.RAW and not self._swapped:
            return (Audio(data),) if data else ()
        self._held += data
        return self._read(last=False)

    def finish(self) -> Sequence[SynthesisEvent]:
        """No more bytes come."""
        return self._read(last=True)

    def _read(self, last: bool) -> Sequence[SynthesisEvent]:
        heard: list[SynthesisEvent] = []
        while True:
            before = self._state, len(self._held)
            heard += self._step(last)
            if (self._state, len(self._held)) == before or self._state is _State.REFUSED:
                return heard

    def _step(self, last: bool) -> Sequence[SynthesisEvent]:
        match self._state:
            case _State.START:
                return self._start(last)
            case _State.HEADER:
                return self._header()
            case _State.DATA:
                return self._data()
            case _State.AFTER_DATA:
                return self._after_data(last)
            case _State.JUDGED:
                return self._judge(last)
            case _State.RAW:
                return self._raw()
            case _State.REFUSED:
                assert self._refused is not None
                return (Failed(self._refused),)

    def _refuse(self, failure: Failure) -> Sequence[SynthesisEvent]:
        self._state, self._refused, self._held = _State.REFUSED, failure, b""
        return (Failed(failure),)

    def _start(self, last: bool) -> Sequence[SynthesisEvent]:
        if len(self._held) < SNIFF_BYTES and not (last and self._held):
            refused = self._declared.refused
            return self._refuse(refused) if last and refused is not None else ()
        if is_wav(self._held):
            self._state = _State.HEADER
            return ()
        if (name := other_format(self._held)) is not None:
            said = self._declared.refused
            return self._refuse(said if said is not None else _refusal(name))
        if self._declared.refused is not None:
            return self._refuse(self._declared.refused)
        swapped = self._declared.swapped
        self._swapped = bool(swapped)
        self._state = _State.JUDGED if swapped is None else _State.RAW
        return () if self._declared.rate is None else (Rate(self._declared.rate),)

    def _header(self) -> Sequence[SynthesisEvent]:
        header = wav_header(self._held)
        if header is None:
            if len(self._held) > WAV_HEADER_BYTES_MAX:
                return self._refuse(Failure(Kind.PROTOCOL_ERROR, "a WAV header without an end"))
            return ()
        if isinstance(header, str):
            return self._refuse(_refusal(header))
        self._held = self._held[header.begins :]
        self._left = header.size
        self._state = _State.DATA
        return (Rate(header.rate),)

    def _data(self) -> Sequence[SynthesisEvent]:
        if self._left is None:
            self._state = _State.RAW
            return ()
        pcm, self._held = self._held[: self._left], self._held[self._left :]
        self._left -= len(pcm)
        if not self._left:
            self._state = _State.AFTER_DATA
        return (Audio(pcm),) if pcm else ()

    def _after_data(self, last: bool) -> Sequence[SynthesisEvent]:
        """The samples that the header counted are out: a further chunk, a further WAV, or more
        samples, from a server that did not know how many there would be."""
        if len(self._held) < SNIFF_BYTES and not last:
            return ()
        name = self._held[:4]
        if name in (b"RIFF", b"RF64"):
            self._state = _State.HEADER
        elif name in _CHUNKS_AFTER_DATA:
            if len(self._held) >= 8:
                size = struct.unpack_from("<I", self._held, 4)[0]
                whole = 8 + size + size % 2
                if len(self._held) < whole <= WAV_HEADER_BYTES_MAX and not last:
                    return ()
                self._held = self._held[whole:]
            else:
                self._held = b""
        else:
            self._state = _State.RAW
        return ()

    def _judge(self, last: bool) -> Sequence[SynthesisEvent]:
        """audio/L16 is big-endian by its RFC; most speech servers send their machine's order all
        the same. Neighbouring samples of speech are alike in one order only."""
        whole = self._held[: len(self._held) // SAMPLE_BYTES * SAMPLE_BYTES]
        sound = whole.lstrip(b"\0")
        if len(sound) < JUDGED_SAMPLES * SAMPLE_BYTES and not last:
            return ()
        self._swapped = _rougher(whole, "<i2", ">i2")
        self._state = _State.RAW
        return ()

    def _raw(self) -> Sequence[SynthesisEvent]:
        end = len(self._held)
        if self._swapped:
            end -= end % SAMPLE_BYTES
        pcm, self._held = self._held[:end], self._held[end:]
        if self._swapped:
            pcm = np.frombuffer(pcm, ">i2").astype("<i2").tobytes()
        return (Audio(pcm),) if pcm else ()


def _rougher(pcm: bytes, one: str, other: str) -> bool:
    """Whether `pcm` jumps more from sample to sample in byte order `one` than in `other`."""

    def jumps(order: str) -> float:
        return float(np.abs(np.diff(np.frombuffer(pcm, order).astype(np.int32))).sum())

    return jumps(one) > jumps(other)
