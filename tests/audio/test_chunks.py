"""Cutting streams of samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.chunks import Whole, chunks


@given(st.integers(0, 5000), st.integers(1, 400))
def test_chunks_are_whole_short_even_and_join_to_the_audio(samples: int, samples_max: int) -> None:
    pcm = bytes(i % 251 for i in range(2 * samples))
    pieces = list(chunks(pcm, 2 * samples_max))
    assert b"".join(pieces) == pcm
    assert all(len(piece) % 2 == 0 and 0 < len(piece) <= 2 * samples_max for piece in pieces)
    if pieces:
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 2


@given(st.lists(st.binary(max_size=9), max_size=30))
def test_samples_cut_anywhere_are_made_whole(parts: list[bytes]) -> None:
    whole = Whole()
    out = [whole.feed(part) for part in parts]
    data = b"".join(parts)
    assert all(len(piece) % 2 == 0 for piece in out)
    assert b"".join(out) == data[: len(data) // 2 * 2]
