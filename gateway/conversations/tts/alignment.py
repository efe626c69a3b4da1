"""Timings of a synthesis: put on the utterance's clock, and each sent with its audio."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from gateway.upstreams.tts import Chars, Timed, Times, Words

WAITING_MAX: Final = 20_000
"""Timings that wait for their audio; a provider that sends more loses the rest."""

JITTER_S: Final = 0.005
"""A start earlier than the end before it by no more than this is rounding, not a restart."""

PAUSE_S_MAX: Final = 0.5
"""Longest silence assumed at the end of a provider's synthesis. Timings may come after the first
audio of the next one, so the audio heard so far is only an upper bound of where that begins."""


class Alignment:
    """Timings of one synthesis. Seconds go in on the provider's clock and come out counted from the
    synthesis's first sample, never decreasing, once the audio they belong to has been sent."""

    __slots__ = ("_base", "_end", "_times", "_waiting", "spaced")

    def __init__(self, times: Times) -> None:
        self._times = times
        self._base = 0.0
        self._end = 0.0
        self._waiting: deque[tuple[bool, Timed]] = deque()
        self.spaced = True

    def restart(self, audio_s: float) -> None:
        """The provider's clock begins again with the audio that follows."""
        self._base = max(audio_s, self._end)

    def hear(self, heard: Words | Chars, audio_s: float) -> tuple[Timed, ...]:
        """Take timings in, `audio_s` being the audio heard so far; returns them on the
        synthesis's clock."""
        entries = heard.words if isinstance(heard, Words) else heard.chars
        is_word = isinstance(heard, Words)
        if isinstance(heard, Words):
            self.spaced = heard.spaced
        if (
            entries
            and self._times is Times.RESTARTING
            and entries[0].start + self._base < self._end - JITTER_S
        ):
            self._base = min(max(audio_s, self._end), self._end + PAUSE_S_MAX)
        known = []
        for entry in entries:
            start = max(entry.start + self._base, 0.0)
            end = max(entry.end + self._base, start)
            known.append(replace(entry, start=start, end=end))
            self._end = max(self._end, end)
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append((is_word, known[-1]))
        return tuple(known)

    def due(self, audio_s: float) -> tuple[list[Timed], list[Timed]]:
        """Words and characters whose audio has begun before `audio_s`."""
        words: list[Timed] = []
        chars: list[Timed] = []
        while self._waiting and self._waiting[0][1].start < audio_s:
            is_word, entry = self._waiting.popleft()
            (words if is_word else chars).append(entry)
        return words, chars
