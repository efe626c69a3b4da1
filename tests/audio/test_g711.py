from __future__ import annotations

import numpy as np
import pytest

from gateway.audio import g711

LAWS = [(g711.from_ulaw, g711.to_ulaw), (g711.from_alaw, g711.to_alaw)]


@pytest.mark.parametrize(("decode", "encode"), LAWS)
def test_a_code_is_written_again_as_it_was_read(decode: object, encode: object) -> None:
    codes = bytes(range(256))
    samples = decode(codes)  # type: ignore[operator]
    assert decode(encode(samples)) == samples  # type: ignore[operator]


@pytest.mark.parametrize(("decode", "encode"), LAWS)
def test_every_sample_is_off_by_a_twenty_fifth_at_most(decode: object, encode: object) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    again = np.frombuffer(decode(encode(samples.tobytes())), np.int16)  # type: ignore[operator]
    off = np.abs(again.astype(np.int32) - samples.astype(np.int32))
    assert np.all(off <= np.maximum(16, np.abs(samples.astype(np.int32)) / 25))


def test_silence_and_the_loudest_are_what_the_standard_says() -> None:
    assert g711.from_ulaw(b"\xff\x00\x80") == np.array([0, -32124, 32124], np.int16).tobytes()
    assert g711.from_alaw(b"\xd5\x2a\xaa") == np.array([8, -32256, 32256], np.int16).tobytes()
