"""Changing the rate of a stream."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.resample import Resampler


def tone(rate: int, seconds: float = 1.0) -> bytes:
    t = np.arange(round(rate * seconds)) / rate
    return (np.sin(2 * np.pi * 440 * t) * 10_000).astype(np.int16).tobytes()


@pytest.mark.parametrize(("rate_in", "rate_out"), [(8000, 24000), (24000, 44100), (48000, 16000)])
def test_a_stream_in_pieces_is_as_smooth_and_as_long_as_in_one(rate_in: int, rate_out: int) -> None:
    pcm, pieces = tone(rate_in), Resampler(rate_in, rate_out)
    out = b"".join(pieces.feed(pcm[i : i + 322]) for i in range(0, len(pcm), 322))
    got = np.frombuffer(out + pieces.finish(), np.int16).astype(float)
    wanted = np.frombuffer(tone(rate_out), np.int16).astype(float)
    assert len(got) == len(wanted)
    assert np.abs(got - wanted)[300:-300].max() < 60
    assert np.abs(np.diff(got[300:-300])).max() <= np.abs(np.diff(wanted)).max() * 1.05
