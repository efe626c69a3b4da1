"""Which sentences of a synthesis have been spoken, judged when it breaks off.

Three sources, the most reliable first: the provider reports where each text ends; timings, as long
as they spell the text; else the length of the audio, with the pauses in it. In doubt a sentence
counts as not spoken: it is heard twice, which is better than not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.conversations.tts.text import letters, weight
from gateway.upstreams.tts import Timed

LETTERS_PER_S: Final = 13.0
"""Of unhurried English speech, its pauses included."""

ROUNDING_S: Final = 0.002
"""Audio that may be missing at the end of a word: times are rounded to milliseconds."""

SURE: Final = 1.6
"""A sentence is over after its expected length times this, even without a pause."""

PAUSE_S: Final = 0.2
"""Shortest pause that may be the end of a sentence."""

PAUSE_EARLY: Final = 0.7
PAUSE_LATE: Final = 1.5
"""Range in which a pause may end a sentence, as a share of its expected length."""


class Progress:
    """What one synthesis was given to say, and what is known of how far it is."""

    __slots__ = (
        "_mark_times",
        "_marked",
        "_marks",
        "_parts",
        "_spelt",
        "_strayed",
        "_stream",
        "_weight",
        "_word_ends",
        "_word_starts",
        "texts",
    )

    def __init__(self, marked: bool) -> None:
        self.texts: list[str] = []
        self._marked = marked
        self._parts: list[int] = []
        self._marks = 0
        self._mark_times: list[float] = []
        self._stream: list[str] = []
        self._weight = 0.0
        self._spelt = 0
        self._strayed = False
        self._word_ends: list[tuple[int, float]] = []
        self._word_starts: list[float] = []

    def said(self, text: str, parts: int) -> None:
        """One more sentence was given, in `parts` messages."""
        self.texts.append(text)
        self._parts.append(parts)
        self._stream.append(letters(text))
        self._weight += weight(text)

    def part_spoken(self, audio_s: float = 0.0) -> None:
        """The provider has reported the end of a message's audio, `audio_s` into the synthesis."""
        self._marks += 1
        self._mark_times.append(audio_s)

    def timed(self, timings: Sequence[Timed]) -> None:
        """Timings on the synthesis's clock, in the order of the text."""
        if self._strayed:
            return
        stream = "".join(self._stream)
        for timing in timings:
            spelt = letters(timing.text)
            if not spelt:
                continue
            if not stream.startswith(spelt, self._spelt):
                self._strayed = True  # normalised ("21" became "twenty one"): no longer comparable
                return
            self._spelt += len(spelt)
            self._word_ends.append((self._spelt, timing.end))
            self._word_starts.append(timing.start)

    def spoken(self, audio_s: float, pauses: Callable[[float], list[tuple[float, float]]]) -> int:
        """How many sentences are fully spoken in the first `audio_s` seconds; `pauses(min)` are
        those in that audio."""
        if self._marked:
            return self._by_marks()
        if self._word_ends and not self._strayed:
            return self._by_timings(audio_s)
        return self._by_duration(audio_s, pauses)

    def nothing_pending(self, audio_s: float) -> bool:
        """Whether all that was given has surely been spoken."""
        if self._marked:
            return self._by_marks() >= len(self.texts)
        if self._word_ends and not self._strayed:
            return self._by_timings(audio_s) >= len(self.texts)
        # not sure: long enough for it is what counts, so that a slow writer is not taken for a hole
        return audio_s * LETTERS_PER_S * 2 >= self._weight

    def ends(self, audio_s: float) -> list[float] | None:
        """Where each sentence of a complete synthesis ends, if that is surely known: the last at
        `audio_s`, the whole length."""
        if len(self.texts) == 1:
            return [audio_s]
        if self._marked and len(self._mark_times) == sum(self._parts):
            ends, part = [], 0
            for parts in self._parts:
                part += parts
                ends.append(self._mark_times[part - 1])
            return ends
        if self._marked or self._strayed or self._spelt < sum(map(len, self._stream)):
            return None
        return self._ends_by_timings(audio_s)

    def _ends_by_timings(self, audio_s: float) -> list[float] | None:
        """The pause after a sentence belongs to it, but for the breath before the next."""
        ends: list[float] = []
        total = 0
        for stream in self._stream[:-1]:
            total += len(stream)
            if total not in (position for position, _ in self._word_ends):
                return None  # a word over the border of two sentences
            ends.append(next(end for position, end in self._word_ends if position == total))
        starts = [self._start_after(end) for end in ends]
        return [(e + s) / 2 for e, s in zip(ends, starts, strict=True)] + [audio_s]

    def _start_after(self, end: float) -> float:
        return min((start for start in self._word_starts if start >= end), default=end)

    def _by_marks(self) -> int:
        left = self._marks
        for i, parts in enumerate(self._parts):
            left -= parts
            if left < 0:
                return i
        return len(self._parts)

    def _by_timings(self, audio_s: float) -> int:
        heard = 0
        for position, end in self._word_ends:
            if end > audio_s + ROUNDING_S:
                break
            heard = position
        spoken = 0
        total = 0
        for stream in self._stream:
            total += len(stream)
            if heard < total:
                break
            spoken += 1
        return spoken

    def _by_duration(
        self, audio_s: float, pauses: Callable[[float], list[tuple[float, float]]]
    ) -> int:
        found = pauses(PAUSE_S)
        spoken = 0
        begins = 0.0
        for text in self.texts:
            expected_s = weight(text) / LETTERS_PER_S
            early, late = begins + PAUSE_EARLY * expected_s, begins + PAUSE_LATE * expected_s
            ends = [end for start, end in found if early <= start and end <= late + PAUSE_S]
            if ends:
                # the last one that fits: a comma makes pauses too
                begins = ends[-1]
            elif audio_s >= begins + SURE * expected_s + PAUSE_S:
                begins += expected_s
            else:
                break
            spoken += 1
        return spoken
