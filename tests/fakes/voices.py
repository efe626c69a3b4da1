"""What every fake voice shares: audio that can be told apart, word by word, and ways to fail.

A text always sounds the same, so what was said can be read from the samples: a sentence was
heard in full if its rendering stands in them. What happens in an utterance is scripted with
`utterances`, e.g. `"reset:0.5"`: after half a second of audio the connection is reset.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from aiohttp import web

from tests.fakes.base import FakeServer, cut, reset

LETTER_S = 0.03
GAP_S = 0.02
SENTENCE_GAP_S = 0.25
AMPLITUDE = 6000
PIECE_S = 0.06


@dataclass(frozen=True)
class Word:
    text: str
    start: float
    end: float


@lru_cache(maxsize=4096)
def render(text: str, rate: int = 24000) -> bytes:
    """s16le samples of `text`: a tone for each word, silence after it."""
    parts = []
    for word in text.split():
        pitch = 120 + int(hashlib.sha256(word.encode()).hexdigest()[:4], 16) % 400
        seconds = LETTER_S * max(len(word), 2)
        t = np.arange(round(seconds * rate)) / rate
        edge = np.minimum(1.0, np.minimum(t, seconds - t) / 0.005)
        parts.append((np.sin(2 * np.pi * pitch * t) * edge * AMPLITUDE).astype(np.int16))
        gap_s = SENTENCE_GAP_S if word[-1] in ".!?" else GAP_S
        parts.append(np.zeros(round(gap_s * rate), np.int16))
    return np.concatenate(parts).tobytes() if parts else b""


def words(text: str, rate: int = 24000) -> list[Word]:
    """When each word of `render(text)` begins and ends, in seconds."""
    found, at = [], 0.0
    for word in text.split():
        length = round(LETTER_S * max(len(word), 2) * rate) / rate
        found.append(Word(word, at, at + length))
        gap_s = SENTENCE_GAP_S if word[-1] in ".!?" else GAP_S
        at += length + round(gap_s * rate) / rate
    return found


def sounds(audio: bytes, rate: int = 24000) -> list[bytes]:
    """What is heard between pauses: the words, however long somebody waited between them."""
    samples = np.frombuffer(audio, np.int16)
    loud = np.flatnonzero(samples)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > GAP_S * rate / 2)
    firsts, lasts = [0, *(breaks + 1)], [*breaks, len(loud) - 1]
    return [
        samples[loud[first] : loud[last] + 1].tobytes()
        for first, last in zip(firsts, lasts, strict=True)
    ]


def times_said(text: str, audio: bytes) -> int:
    """How often all words of `text` stand in `audio` one after the other, whatever the pauses."""
    heard, wanted = sounds(audio), sounds(render(text))
    starts = range(len(heard) - len(wanted) + 1)
    return sum(heard[start : start + len(wanted)] == wanted for start in starts)


@dataclass(frozen=True)
class Piece:
    """Audio, and the words that begin in it (seconds since the text's first sample)."""

    pcm: bytes
    words: list[Word]


class Fault(Exception):
    """The scripted misfortune happens now."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Utterance:
    """One utterance as a fake speaks it: `scenario` is `kind:seconds of audio before it`."""

    def __init__(self, scenario: str, speed: float, first_s: float, odd: bool = False) -> None:
        kind, _, at = scenario.partition(":")
        self.kind, self.at_s = kind, float(at or 0.0)
        self.speed, self.first_s, self.odd = speed, first_s, odd
        self.audio_s = 0.0
        self.speaking = False

    async def speak(self, text: str, rate: int = 24000) -> AsyncIterator[Piece]:
        """The text's audio in pieces, `speed` times as fast as it sounds. Raises Fault."""
        self.speaking = True
        try:
            async for piece in self._pieces(text, rate):
                yield piece
        finally:
            self.speaking = False

    async def _pieces(self, text: str, rate: int) -> AsyncIterator[Piece]:
        pcm, timed = render(text, rate), words(text, rate)
        size = int(PIECE_S * rate) * 2 + (1 if self.odd else 0)
        await asyncio.sleep(self.first_s)
        for start in range(0, len(pcm), size):
            if self.kind not in ("", "ok") and self.audio_s >= self.at_s:
                await self._misfortune()
            piece = pcm[start : start + size]
            from_s, to_s = start / 2 / rate, (start + len(piece)) / 2 / rate
            yield Piece(piece, [w for w in timed if from_s <= w.start < to_s])
            self.audio_s += len(piece) / 2 / rate
            if self.speed:
                await asyncio.sleep(len(piece) / 2 / rate / self.speed)

    async def _misfortune(self) -> None:
        if self.kind == "hole":
            await asyncio.Event().wait()
        raise Fault(self.kind)


class FakeVoice(FakeServer):
    """A fake that speaks. `script` is for connections and requests, `utterances` for what is
    spoken on them."""

    def __init__(self, speed: float = 20.0, first_s: float = 0.01, default: str = "ok") -> None:
        super().__init__()
        self.speed, self.first_s, self.default = speed, first_s, default
        self.said: deque[str] = deque(maxlen=10_000)  # texts of all utterances, in order
        self.cancelled: deque[float] = deque(maxlen=10_000)  # loop times of cancellations
        self.closed: deque[float] = deque(maxlen=10_000)  # ends of connections
        self._utterances: deque[str] = deque()
        self._begun: deque[Utterance] = deque(maxlen=10_000)

    @property
    def spoken_s(self) -> float:
        """Audio of all utterances that has gone out."""
        return sum(utterance.audio_s for utterance in self._begun)

    @property
    def speaking(self) -> bool:
        """Whether any utterance is neither at its end nor cancelled."""
        return any(utterance.speaking for utterance in self._begun)

    def utterances(self, *scenarios: str) -> None:
        """What becomes of the next utterances, one each; then `default` again."""
        self._utterances.extend(scenarios)

    def utterance(self, odd: bool = False) -> Utterance:
        scenario = self._utterances.popleft() if self._utterances else self.default
        self._begun.append(Utterance(scenario, self.speed, self.first_s, odd))
        return self._begun[-1]

    def forget(self) -> None:
        super().forget()
        self._utterances.clear()
        self._begun.clear()
        self.said.clear()
        self.cancelled.clear()
        self.closed.clear()


def refusal(scenario: str | None) -> web.Response | None:
    """`status:429` as an answer to a handshake or request; None for anything else."""
    if scenario is None or not scenario.startswith("status:"):
        return None
    status = int(scenario.partition(":")[2])
    return web.json_response({"error": {"message": f"refused with {status}"}}, status=status)


def break_off(request: web.Request, fault: Fault) -> None:
    """The faults that are a connection's."""
    if fault.kind == "reset":
        reset(request)
    else:
        cut(request)


def silent(message: Any) -> bool:
    return not str(message).strip()
