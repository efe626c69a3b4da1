"""Cutting a stream of samples into messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SAMPLE_BYTES: Final = 2
"""s16le mono."""


def chunks(pcm: bytes, bytes_max: int) -> Iterator[bytes]:
    """`pcm` (whole samples) in pieces of at most `bytes_max`, all about as long as each other: a
    short rest at the end would make the pace uneven."""
    if len(pcm) <= bytes_max:
        if pcm:
            yield pcm
        return
    count = -(-len(pcm) // bytes_max)
    samples = len(pcm) // SAMPLE_BYTES
    view = memoryview(pcm)
    for i in range(count):
        start, end = samples * i // count, samples * (i + 1) // count
        yield bytes(view[start * SAMPLE_BYTES : end * SAMPLE_BYTES])


class Whole:
    """Makes whole samples of bytes that are cut anywhere."""

    __slots__ = ("_odd",)

    def __init__(self) -> None:
        self._odd = b""

    def feed(self, data: bytes) -> bytes:
        """The whole samples known so far; an odd byte waits for its other half."""
        if self._odd:
            data = self._odd + data
        if len(data) % SAMPLE_BYTES:
            self._odd = data[-1:]
            return data[:-1]
        self._odd = b""
        return data
