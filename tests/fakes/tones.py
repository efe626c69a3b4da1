"""Speech for machines: each word is a tone, so that a fake recogniser tells exactly what it heard.

A word of WORD_S is a sine of its own frequency with a short gap behind it. What is heard twice or
not at all after a failover shows in the words themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

WORD_S = 0.2
GAP_S = 0.05
HOP_S = 0.02
HEARD_S_MIN = 0.1  # less of a word is a click
FIRST_HZ, STEP_HZ = 400.0, 50.0
VOCABULARY = tuple(
    a + b
    for a in ("ba", "da", "fo", "gu", "ki", "la", "me")
    for b in ("ron", "tal", "vic", "nus", "pel", "sor", "mik")
)


def spoken(words: Sequence[str], rate: int = 16_000) -> bytes:
    """The words as s16le samples."""
    t = np.arange(round(WORD_S * rate)) / rate
    gap = np.zeros(round(GAP_S * rate), np.int16)
    parts = []
    for word in words:
        hz = FIRST_HZ + STEP_HZ * VOCABULARY.index(word)
        parts += [(9000 * np.sin(2 * np.pi * hz * t)).astype(np.int16), gap]
    return b"".join(part.tobytes() for part in parts)


def hush(seconds: float, rate: int = 16_000) -> bytes:
    return bytes(2 * round(seconds * rate))


@dataclass(frozen=True)
class HeardWord:
    text: str
    start: float
    end: float


@dataclass
class Ear:
    """Takes samples, knows the words in them. Times are seconds of what it was given."""

    rate: int = 16_000
    words: list[HeardWord] = field(default_factory=list)  # all so far
    time: float = 0.0
    quiet_s: float = 0.0  # since the last sound
    _rest: bytes = b""
    _current: str | None = None
    _began: float = 0.0
    _last: float = 0.0

    def feed(self, pcm: bytes) -> list[HeardWord]:
        """The words that have ended in what was given so far."""
        hop = round(HOP_S * self.rate)
        data = self._rest + pcm
        done = len(data) // (2 * hop) * 2 * hop
        self._rest = data[done:]
        samples = np.frombuffer(data[:done], np.int16).reshape(-1, hop).astype(np.float32)
        ended: list[HeardWord] = []
        for frame in samples:
            ended += self._frame(self._tone(frame))
            self.time += HOP_S
        return ended

    def settle(self) -> list[HeardWord]:
        """The word that is being spoken, cut off here."""
        return self._end()

    def _frame(self, tone: str | None) -> list[HeardWord]:
        self.quiet_s = 0.0 if tone is not None else self.quiet_s + HOP_S
        if tone is not None and tone == self._current:
            self._last = self.time + HOP_S
            return []
        ended = self._end()
        if tone is not None:
            self._current, self._began, self._last = tone, self.time, self.time + HOP_S
        return ended

    def _end(self) -> list[HeardWord]:
        current, self._current = self._current, None
        if current is None or self._last - self._began < HEARD_S_MIN - 1e-6:
            return []
        word = HeardWord(current, round(self._began, 3), round(self._last, 3))
        self.words.append(word)
        return [word]

    def _tone(self, frame: np.ndarray) -> str | None:
        if float(np.sqrt(np.mean(frame**2))) < 1500:
            return None
        spectrum = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 2_048))
        hz = float(np.argmax(spectrum)) * self.rate / 2_048
        index = round((hz - FIRST_HZ) / STEP_HZ)
        return VOCABULARY[index] if 0 <= index < len(VOCABULARY) else None
