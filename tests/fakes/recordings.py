"""Real speech that a fake recogniser knows by its samples: what it heard is read from the audio.

A recording's speech is cut into slices of about SLICE_S, each a word with a name of its own. An ear
finds the samples that it is given among those of all recordings, wherever they begin and whatever
was left out between them: a slice that comes twice is heard twice, half a slice is no word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fakes.tones import HeardWord

RATE = 16_000
SLICE_S = 0.3
BLOCK = 160  # samples that are compared at once: 10 ms
BLOCK_S = BLOCK / RATE
PAUSE_BLOCKS = 20
"""So much quiet parts two stretches of speech; the fake's utterances end at longer ones."""

SPEECH_SHARE = 0.08  # of the 95th percentile of a recording's level
OVER_NOISE = 3.0  # times the 10th percentile
LEVEL_MIN = 120.0
LOUD_SHARE = 0.3  # of a slice, or it is a pause with noise in it
HEARD_SHARE = 0.6  # of a slice makes the word


@dataclass(frozen=True)
class Slice:
    """A word: blocks `begin` to `end` of the library."""

    name: str
    begin: int
    end: int


class Library:
    """All the speech that there is, s16le at 16 kHz."""

    def __init__(self, recordings: Sequence[bytes]) -> None:
        self.recordings: list[bytes] = []
        self.slices: list[list[Slice]] = []  # of each recording
        at = 0
        for n, given in enumerate(recordings):
            pcm = given[: len(given) // (2 * BLOCK) * 2 * BLOCK]
            blocks = np.frombuffer(pcm, np.int16).reshape(-1, BLOCK)
            self.recordings.append(pcm)
            self.slices.append(
                [
                    Slice(f"r{n}s{i}", at + begin, at + end)
                    for i, (begin, end) in enumerate(_slices(blocks))
                ]
            )
            at += len(blocks)
        self._all = b"".join(self.recordings)
        self._of_block: list[Slice | None] = [None] * at
        for slices in self.slices:
            for one in slices:
                self._of_block[one.begin : one.end] = [one] * (one.end - one.begin)

    def is_at(self, sample: int, block: bytes) -> bool:
        """Whether `block` stands at this sample of the library."""
        return self._all.startswith(block, 2 * sample)

    def find(self, block: bytes) -> int | None:
        """At which sample `block` stands, if it does."""
        if len(set(block)) < 8:  # silence that a gateway put in
            return None
        at = self._all.find(block)
        while at % 2 and at != -1:
            at = self._all.find(block, at + 1)
        return None if at == -1 else at // 2

    def slice_at(self, sample: int) -> Slice | None:
        """The word that is spoken at this sample."""
        block = sample // BLOCK
        return self._of_block[block] if block < len(self._of_block) else None

    def words(self, n: int) -> list[tuple[str, float]]:
        """The words of a recording and when, in its seconds, each ends."""
        first = sum(len(pcm) for pcm in self.recordings[:n]) // (2 * BLOCK)
        return [(one.name, (one.end - first) * BLOCK_S) for one in self.slices[n]]


def _slices(blocks: npt.NDArray[Any]) -> list[tuple[int, int]]:
    level = blocks.astype(np.float32).std(axis=1)
    quiet, speech = np.percentile(level, (10, 95))
    is_loud = level > max(SPEECH_SHARE * speech, OVER_NOISE * quiet, LEVEL_MIN)
    loud = np.flatnonzero(is_loud)
    if not len(loud):
        return []
    edges = [0, *(np.flatnonzero(np.diff(loud) > PAUSE_BLOCKS) + 1), len(loud)]
    found = []
    for first, last in pairwise(edges):
        begin, end = int(loud[first]), int(loud[last - 1]) + 1
        parts = max(1, round((end - begin) * BLOCK_S / SLICE_S))
        cuts = [begin + (end - begin) * i // parts for i in range(parts + 1)]
        found += [(a, b) for a, b in pairwise(cuts) if is_loud[a:b].mean() >= LOUD_SHARE]
    return found


@dataclass
class RecordingEar:
    """As `tones.Ear`, for the recordings of a library. Times are seconds of what it was given."""

    library: Library
    words: list[HeardWord] = field(default_factory=list)  # all so far
    rate: int = 16_000  # the library's: another is not known again
    time: float = 0.0
    quiet_s: float = 0.0  # since the last speech
    _rest: bytes = b""
    _next: int | None = None  # the sample of the library that should come
    _current: Slice | None = None
    _heard: int = 0  # blocks of it
    _began: float = 0.0
    _last: float = 0.0

    def feed(self, pcm: bytes) -> list[HeardWord]:
        """The words that have ended in what was given so far."""
        data = self._rest + pcm
        done = len(data) // (2 * BLOCK) * 2 * BLOCK
        self._rest = data[done:]
        ended: list[HeardWord] = []
        for at in range(0, done, 2 * BLOCK):
            ended += self._block(data[at : at + 2 * BLOCK])
            self.time += BLOCK_S
        return ended

    def settle(self) -> list[HeardWord]:
        """The word that is being spoken, cut off here."""
        return self._end()

    def _block(self, block: bytes) -> list[HeardWord]:
        sample, jumped = self._next, False
        if sample is None or not self.library.is_at(sample, block):
            sample, jumped = self.library.find(block), True
        self._next = None if sample is None else sample + BLOCK
        spoken = None if sample is None else self.library.slice_at(sample + BLOCK // 2)
        ended = [] if spoken is self._current and not jumped else self._end()
        if spoken is None:
            self.quiet_s += BLOCK_S
            return ended
        if self._current is None:
            self._current, self._heard, self._began = spoken, 0, self.time
        self._heard += 1
        self._last = self.time + BLOCK_S
        self.quiet_s = 0.0
        return ended

    def _end(self) -> list[HeardWord]:
        current, self._current = self._current, None
        if current is None or self._heard < HEARD_SHARE * (current.end - current.begin):
            return []
        word = HeardWord(current.name, round(self._began, 3), round(self._last, 3))
        self.words.append(word)
        return [word]
