"""Sample rate, size of messages, pace."""

import pytest

from gateway.conversations.stt.audio_format import AudioFormat
from gateway.upstreams.stt import Capabilities

RATE = 16_000
PIECE = bytes(2 * RATE // 20)  # 50 ms


def sizes(pieces: object) -> list[float]:
    return [len(piece) / 2 / RATE for piece in pieces]  # type: ignore[attr-defined]


def test_what_fits_is_passed_on_as_it_is() -> None:
    (piece,) = AudioFormat(Capabilities(), RATE, RATE).pieces(PIECE)
    assert piece is PIECE


def test_short_pieces_wait_for_more() -> None:
    merged = AudioFormat(Capabilities(frame_s_min=0.1), RATE, RATE)
    assert sizes(merged.pieces(PIECE)) == []
    assert sizes(merged.pieces(PIECE)) == [0.1]


def test_long_pieces_are_split_and_a_short_rest_waits() -> None:
    split = AudioFormat(Capabilities(frame_s_min=0.1, frame_s_max=0.2), RATE, RATE)
    assert sizes(split.pieces(9 * PIECE)) == [0.2, 0.2]
    assert sizes(split.pieces(PIECE)) == [0.1]


def test_the_rest_is_padded_once_and_the_padding_is_told() -> None:
    merged = AudioFormat(Capabilities(frame_s_min=0.1), RATE, RATE)
    merged.pieces(PIECE)
    rest = merged.rest()
    assert rest is not None
    assert (len(rest[0]), rest[1]) == (2 * len(PIECE), RATE // 20)
    assert merged.rest() is None


def test_padding_is_counted_at_the_rate_of_the_input() -> None:
    merged = AudioFormat(Capabilities(frame_s_min=10.0), RATE, 2 * RATE)
    for _ in range(40):
        merged.pieces(PIECE)
    rest = merged.rest()
    assert rest is not None
    assert rest[1] / RATE == pytest.approx(8.0, abs=0.1)


def test_audio_is_resampled() -> None:
    doubled = AudioFormat(Capabilities(frame_s_max=9.0), RATE, 2 * RATE)
    samples = sum(len(piece) for _ in range(40) for piece in doubled.pieces(PIECE)) / 2
    assert samples == pytest.approx(4 * RATE, rel=0.05)
