"""Callers' recordings become samples, or words that say why not."""

from __future__ import annotations

import importlib.util
import struct

import numpy as np
import pytest

from gateway.audio.pcm import wav
from gateway.engines import recordings
from gateway.engines.recordings import RATE, samples
from gateway.upstreams.errors import Failure
from tests.collection import RECORDINGS

FLAC = RECORDINGS / "speech_ocean" / "000240324.flac"
needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="faster-whisper is not installed"
)


async def test_a_wav_is_resampled() -> None:
    found = await samples(wav(struct.pack("<h", 8192) * 8000, 8000))
    assert isinstance(found, bytes)
    assert len(found) == 2 * RATE
    assert abs(int(np.frombuffer(found, np.int16)[RATE // 2]) - 8192) < 10


@needs_av
async def test_other_formats_are_decoded_in_a_process_of_their_own() -> None:
    found = await samples(FLAC.read_bytes())
    assert isinstance(found, bytes)
    assert abs(len(found) / 2 / RATE - 2.68) < 0.05


async def message(recording: bytes) -> str:
    failure = await samples(recording)
    assert isinstance(failure, Failure)
    assert (failure.status, failure.param) == (400, "file")
    return failure.message


async def test_what_is_no_recording_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no samples" in await message(b"RIFF\0\0\0\0WAVE")
    if importlib.util.find_spec("av") is not None:
        assert "cannot be decoded" in await message(b"ID3" + bytes(200))
    monkeypatch.setattr(recordings, "SECONDS_MAX", 0.5)
    assert "longer than" in await message(wav(bytes(2 * RATE), RATE))


async def test_without_decoders_it_is_told_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "only WAV" in await message(b"fLaC")
