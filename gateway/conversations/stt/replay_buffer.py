"""The caller's audio since the last final: what the next provider would need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.audio.pcm import BYTES_PER_SAMPLE, Loudness, level

CHUNK_S_MAX: Final = 0.1
"""Longer frames of a client are split, for loudness and places to cut are known by chunk."""

CUT_BACK_S: Final = 0.05
CUT_AHEAD_S: Final = 0.15
"""Around the end of a final, where a quiet place to begin a replay is looked for: providers differ
by so much about where a word ends."""

PAUSE_S: Final = 0.15
"""So much quiet is a pause between utterances."""

ONSET_S_MAX: Final = 1.5
"""A sound that lasts longer without a word is no word that has just begun."""

SPEECH_S_MIN: Final = 0.1
"""Less that is loud is a click."""


class AudioChunk(NamedTuple):
    """Consecutive samples, `start` to `end` as counted from the session's first one."""

    start: int
    end: int
    pcm: bytes
    loud: bool

    @property
    def samples(self) -> int:
        return self.end - self.start


class ReplayBuffer:
    """Chunks in order, at most `seconds_max` of them; the oldest are let go. Sample counts are
    those of the session."""

    def __init__(self, rate: int, seconds_max: float) -> None:
        self.rate = rate
        self.end = 0  # samples received
        self.chunks: deque[AudioChunk] = deque()
        self._samples_max = int(seconds_max * rate)
        self._chunk_bytes_max = int(CHUNK_S_MAX * rate) * BYTES_PER_SAMPLE
        self._loudness = Loudness()

    @property
    def start(self) -> int:
        """The first sample that is kept."""
        return self.chunks[0].start if self.chunks else self.end

    @property
    def seconds(self) -> float:
        """How much is kept."""
        return (self.end - self.start) / self.rate

    def seconds_of(self, count: int) -> float:
        """How long the newest `count` chunks are."""
        if not count:
            return 0.0
        return (self.end - self.chunks[len(self.chunks) - count].start) / self.rate

    def add(self, pcm: bytes) -> int:
        """Keep what the client sent; how many chunks that made."""
        size = self._chunk_bytes_max
        if len(pcm) <= size:
            self._append(pcm)
            made = 1
        else:
            made = 0
            for at in range(0, len(pcm), size):
                self._append(pcm[at : at + size])
                made += 1
        chunks = self.chunks
        while self.end - chunks[0].start > self._samples_max and len(chunks) > 1:
            chunks.popleft()
        return made

    def _append(self, pcm: bytes) -> None:
        start = self.end
        self.end = end = start + len(pcm) // BYTES_PER_SAMPLE
        self.chunks.append(AudioChunk(start, end, pcm, self._loudness.loud(level(pcm))))

    def last(self, count: int) -> Iterator[AudioChunk]:
        """The newest `count` chunks, oldest first."""
        chunks = self.chunks
        for i in range(max(0, len(chunks) - count), len(chunks)):
            yield chunks[i]

    def forget(self, until_s: float) -> None:
        """A final covers the audio up to `until_s`: begin at a quiet place near it."""
        until = int(until_s * self.rate)
        back, ahead = int(CUT_BACK_S * self.rate), int(CUT_AHEAD_S * self.rate)
        cut = until
        for chunk in self.chunks:
            if chunk.start > until + ahead:
                break
            if chunk.end >= until - back and not chunk.loud:
                cut = max(chunk.start, min(until, chunk.end))
                break
        while self.chunks and self.chunks[0].end <= cut:
            self.chunks.popleft()

    def pause_before(self, sample: int) -> int:
        """Where the latest pause before `sample` begins; `sample` itself if there is none."""
        need = int(PAUSE_S * self.rate)
        quiet = 0
        begin = sample
        for chunk in reversed(self.chunks):
            if chunk.start >= sample:
                continue
            if chunk.loud:
                if quiet >= need:
                    return begin
                quiet = 0
            else:
                quiet += chunk.samples
                begin = chunk.start
        return begin if quiet >= need else sample

    def onset_before(self, sample: int) -> int:
        """Where the sound that goes on at `sample` began, if that was less than ONSET_S_MAX
        before; else `sample` itself."""
        quiet, begin = 0, sample
        for chunk in reversed(self.chunks):
            if chunk.start >= sample:
                continue
            if chunk.loud:
                quiet, begin = 0, chunk.start
                if sample - begin > ONSET_S_MAX * self.rate:
                    return sample
            else:
                quiet += chunk.samples
                if quiet >= PAUSE_S * self.rate:
                    break
        return begin

    def speech(self) -> tuple[int, int] | None:
        """Where speech begins and ends in what is kept, or None if all is quiet."""
        first = last = None
        loud = 0
        for chunk in self.chunks:
            if chunk.loud:
                loud += chunk.samples
                first = chunk.start if first is None else first
                last = chunk.end
        if first is None or last is None or loud < SPEECH_S_MIN * self.rate:
            return None
        return first, last
