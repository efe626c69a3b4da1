"""Cuts audio into utterances and decides what is transcribed when. Pure.

For recognisers that take a whole recording: a voice detector's probabilities come in with the
audio; out come wishes to have something transcribed, and what a streaming provider would say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import (
    Ended,
    EndpointingConfig,
    Failed,
    Flushed,
    InterimTranscript,
    RecognizerEvent,
    SpeechStarted,
    Transcript,
    Word,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

RATE: Final = 16_000
CHUNK: Final = 512
"""Samples that one probability is for."""

CHUNK_S: Final = CHUNK / RATE

START_CHUNKS: Final = 3
"""So many chunks of speech among START_OF begin an utterance: a click does not."""

START_OF: Final = 5

PRE_ROLL_CHUNKS: Final = 10
"""0.32 s before the first speech belong to the utterance."""

UTTERANCE_S_MAX: Final = 28.0
"""A longer one is cut: Whisper hears 30 s at a time."""

CUT_WITHIN_S: Final = 3.0
"""It is cut where it is quietest in its last so many seconds."""

FINALS_MAX: Final = 8
"""Utterances that may wait to be transcribed; with more the engine has failed."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Have s16le samples transcribed; `number` comes back with the answer. `early`: the utterance
    may go on, and the answer is its final if it does not."""

    number: int
    pcm: bytes
    interim: bool
    prompt: str
    early: bool = False


@dataclass(frozen=True, slots=True)
class _Cut:
    pcm: bytes
    start_s: float
    end_s: float
    covers_s: float


Out = Transcribe | RecognizerEvent


class Segmenter:
    """One stream of audio. Every method returns what is to be done, in order."""

    def __init__(self, cutting: EndpointingConfig, prompt: str = "") -> None:
        self._cutting = cutting
        self._silence_chunks = max(1, round(cutting.silence_s / CHUNK_S))
        early_s = cutting.early_s
        self._early_chunks = None if early_s is None else max(1, round(early_s / CHUNK_S))
        self._early: int | None = None  # the request that is the final if no speech follows
        self._early_answer: Transcript | None = None
        self._chunks = 0  # heard so far
        self._before: deque[bytes] = deque(maxlen=PRE_ROLL_CHUNKS)
        self._recent: deque[bool] = deque(maxlen=START_OF)
        self._open: list[bytes] = []  # chunks of the open utterance
        self._loudness: list[float] = []
        self._start = 0  # its first chunk
        self._quiet = 0  # chunks of quiet at its end
        self._asked_chunks = 0  # chunks of it in the last interim
        self._finals: deque[_Cut] = deque()
        self._asked: tuple[int, _Cut | None] | None = None  # the request that runs
        self._number = 0
        self._flushes: deque[int] = deque()  # finals still to come before each answer
        self._finishing = False
        self._prompt = prompt

    def hear(self, chunk: bytes, probability: float) -> list[Out]:
        """The next CHUNK samples, and how probably they are speech."""
        is_speech = probability >= self._cutting.threshold
        self._chunks += 1
        out: list[Out] = []
        if not self._open:
            self._before.append(chunk)
            self._recent.append(is_speech)
            if sum(self._recent) >= START_CHUNKS:
                out.append(self._begin())
            return out
        self._open.append(chunk)
        self._loudness.append(_loudness(chunk))
        self._quiet = 0 if is_speech else self._quiet + 1
        if is_speech:
            self._early, self._early_answer = None, None
        if self._quiet >= self._silence_chunks:
            return self._close(len(self._open))
        if len(self._open) * CHUNK_S >= UTTERANCE_S_MAX:
            return self._close(self._quietest())
        if self._quiet == self._early_chunks:
            return self._ask_early()
        return self._maybe_interim()

    def _begin(self) -> RecognizerEvent:
        self._open = list(self._before)
        self._loudness = [_loudness(chunk) for chunk in self._open]
        self._start = self._chunks - len(self._open)
        self._before.clear()
        self._recent.clear()
        self._quiet = self._asked_chunks = 0
        spoken = max(0, self._chunks - START_OF)
        return SpeechStarted(max(self._start, spoken) * CHUNK_S)

    def _close(self, chunks: int) -> list[Out]:
        """The open utterance ends after so many chunks; what is left begins the next one."""
        rest, rest_loudness = self._open[chunks:], self._loudness[chunks:]
        quiet = self._quiet if not rest else 0
        start_s = self._start * CHUNK_S
        end_s = (self._start + chunks - quiet) * CHUNK_S
        cut = _Cut(b"".join(self._open[:chunks]), start_s, end_s, (self._start + chunks) * CHUNK_S)
        early, answer = self._early, self._early_answer
        self._early, self._early_answer = None, None
        if answer is not None and not rest:
            self._open, self._loudness = [], []
            self._quiet = self._asked_chunks = 0
            self._start += chunks
            return [FinalHeard(_placed(answer, cut))]
        if early is not None and not rest and self._asked == (early, None):
            self._asked = (early, cut)  # it is under way already
        self._finals.append(cut)
        self._open, self._loudness = rest, rest_loudness
        self._start += chunks
        self._quiet = self._asked_chunks = 0
        if len(self._finals) > FINALS_MAX:
            return [Failed(Failure(Kind.OVERLOADED, "the recogniser cannot keep up"))]
        return self._next()

    def _quietest(self) -> int:
        window = round(0.2 / CHUNK_S)
        first = max(1, len(self._loudness) - round(CUT_WITHIN_S / CHUNK_S))
        sums = [sum(self._loudness[i : i + window]) for i in range(first, len(self._loudness))]
        return first + int(np.argmin(sums))

    def _ask_early(self) -> list[Out]:
        """Have the open utterance transcribed as if it had ended; overtakes an interim."""
        if self._finals:
            return []  # those of before are waited for first
        self._asked_chunks = len(self._open)
        asked = self._ask(self._open_cut(), interim=True)
        self._early = asked.number
        return [replace(asked, interim=False, early=True)]

    def _open_cut(self) -> _Cut:
        start_s = self._start * CHUNK_S
        end_s = start_s + len(self._open) * CHUNK_S
        return _Cut(b"".join(self._open), start_s, end_s, end_s)

    def _maybe_interim(self) -> list[Out]:
        interim_s = self._cutting.interim_s
        if self._early is not None:
            return []  # nothing was said since it was asked
        if self._early_chunks is not None and self._quiet:
            return []  # it would be in the way of the final that may be asked in a moment
        if interim_s is None or self._asked is not None or self._finals:
            return []
        if (len(self._open) - self._asked_chunks) * CHUNK_S < interim_s:
            return []
        self._asked_chunks = len(self._open)
        return [self._ask(self._open_cut(), interim=True)]

    def _ask(self, cut: _Cut, *, interim: bool) -> Transcribe:
        self._number += 1
        self._asked = (self._number, None if interim else cut)
        self._interim_cut = cut
        return Transcribe(self._number, cut.pcm, interim, self._prompt)

    def _next(self) -> list[Out]:
        """Ask for the next final; one that waits overtakes an interim that runs."""
        if not self._finals or (self._asked is not None and self._asked[1] is not None):
            return []
        return [self._ask(self._finals[0], interim=False)]

    def flush(self) -> list[Out]:
        """End the open utterance now; `Flushed` comes after its final."""
        out: list[Out] = []
        if self._open:
            out += self._close(len(self._open))
        self._flushes.append(len(self._finals))
        return out + self._answer_flushes()

    def finish(self) -> list[Out]:
        """As `flush`, and then the end."""
        self._finishing = True
        return self.flush()

    def _answer_flushes(self) -> list[Out]:
        out: list[Out] = []
        while self._flushes and self._flushes[0] <= 0:
            self._flushes.popleft()
            out.append(Ended() if self._finishing and not self._flushes else Flushed())
        return out

    def answered(self, number: int, answer: Transcript | Failure | None) -> list[Out]:
        """The transcript of a request, why there is none, or None if it was not made."""
        if self._asked is None or self._asked[0] != number:
            return []  # overtaken
        _, cut = self._asked
        self._asked = None
        if isinstance(answer, Failure):
            return [Failed(answer)]
        if cut is None:
            out: list[Out] = []
            if number == self._early:
                self._early_answer = answer
                if answer is None:  # the engine had no time for it
                    self._early = None
            if answer is not None and answer.text.strip():
                out.append(InterimTranscript(_placed(answer, self._interim_cut)))
            return out + self._next()
        if answer is None:  # asked early, refused for want of time; it is a final by now
            return [self._ask(cut, interim=False)]
        self._finals.popleft()
        for i in range(len(self._flushes)):
            self._flushes[i] -= 1
        # earlier finals are no prompt: Whisper then repeats and invents from the second turn on
        return [FinalHeard(_placed(answer, cut)), *self._answer_flushes(), *self._next()]


def _loudness(chunk: bytes) -> float:
    samples = np.frombuffer(chunk, np.int16).astype(np.float32)
    return float(samples @ samples)


def _placed(transcript: Transcript, cut: _Cut) -> Transcript:
    """A transcript whose clock began with its utterance, on the stream's clock."""
    text = transcript.text.strip()
    words = tuple(
        replace(
            word,
            start=min(cut.start_s + word.start, cut.covers_s),
            end=min(cut.start_s + word.end, cut.covers_s),
        )
        for word in transcript.words
    )
    if not words and text:
        words = estimated_words(text, cut.start_s, cut.end_s)
    return replace(transcript, text=text, words=words, start=cut.start_s, end=cut.covers_s)


def estimated_words(text: str, start_s: float, end_s: float) -> tuple[Word, ...]:
    """Times for the words of an engine that gives none: by their length."""
    parts: Sequence[str] = text.split()
    letters = sum(len(part) + 1 for part in parts)
    words, at = [], start_s
    for part in parts:
        until = at + (end_s - start_s) * (len(part) + 1) / letters
        words.append(Word(part, at, until))
        at = until
    return tuple(words)
