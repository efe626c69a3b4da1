"""The user's audio since the last final: what the next provider has to hear again. Pure."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, NamedTuple

from gateway.audio.pcm import BYTES_PER_SAMPLE, Loudness, level

CHUNK_S_MAX: Final = 0.1
"""Longer frames of a client are split: loudness and places to cut are known by chunk."""

CUT_BACK_S: Final = 0.05
CUT_AHEAD_S: Final = 0.15
"""Window around the end of a final in which a quiet place is searched, for a replay to begin at.
Providers differ by about this much on where a word ends."""

PAUSE_S: Final = 0.15
"""Shortest silence that separates utterances."""

ONSET_S_MAX: Final = 1.5
"""Longest sound that may be the beginning of a word which no provider has told yet."""

SPEECH_S_MIN: Final = 0.1
"""Loud audio shorter than this is a click."""


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
    """Chunks in order, at most `seconds_max` of them: the oldest go first. Samples are counted
    from the first one of the session."""

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

    @property
    def end_s(self) -> float:
        """How much was received since the session began."""
        return self.end / self.rate

    def seconds_from(self, sample: int) -> float:
        """How much is kept from this sample on."""
        return max(0, self.end - max(sample, self.start)) / self.rate

    def since(self, sample: int) -> list[AudioChunk]:
        """The chunks that are kept from this sample on, which is where one begins."""
        count = 0
        for chunk in reversed(self.chunks):
            if chunk.end <= sample:
                break
            count += 1
        return list(islice(self.chunks, len(self.chunks) - count, None))

    def add(self, pcm: bytes) -> None:
        """Keep what the client sent: whole samples of s16le, at least one."""
        size = self._chunk_bytes_max
        if len(pcm) <= size:
            self._append(pcm)
        else:
            for at in range(0, len(pcm), size):
                self._append(pcm[at : at + size])
        chunks = self.chunks
        while self.end - chunks[0].start > self._samples_max and len(chunks) > 1:
            chunks.popleft()

    def _append(self, pcm: bytes) -> None:
        start = self.end
        self.end = end = start + len(pcm) // BYTES_PER_SAMPLE
        self.chunks.append(AudioChunk(start, end, pcm, self._loudness.loud(level(pcm))))

    def forget(self, until_s: float) -> None:
        """A final covers the audio up to `until_s`: drop it, up to a quiet place near there."""
        cut = self.quiet_place(until_s)
        while self.chunks and self.chunks[0].end <= cut:
            self.chunks.popleft()

    def quiet_place(self, until_s: float) -> int:
        """The sample near `until_s` where audio is best cut; that moment itself if all is loud."""
        until = int(until_s * self.rate)
        back, ahead = int(CUT_BACK_S * self.rate), int(CUT_AHEAD_S * self.rate)
        for chunk in self.chunks:
            if chunk.start > until + ahead:
                break
            if chunk.end >= until - back and not chunk.loud:
                return max(chunk.start, min(until, chunk.end))
        return until

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
        """Where the sound that lasts until `sample` began, if it is shorter than ONSET_S_MAX; else
        `sample` itself."""
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

    def loud_s(self, begin_s: float, end: int) -> float:
        """Seconds of loud audio from `begin_s` of the session to sample `end`."""
        begin = int(begin_s * self.rate)
        samples = 0
        for chunk in reversed(self.chunks):
            if chunk.start < begin:
                break
            if chunk.loud and chunk.end <= end:
                samples += chunk.samples
        return samples / self.rate

    def speech(self) -> tuple[int, int] | None:
        """Samples at which speech begins and ends in what is kept; None: all is quiet."""
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
