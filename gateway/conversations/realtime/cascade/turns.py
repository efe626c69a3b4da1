"""When the caller begins and ends to speak, by the voice detector's probabilities. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

BEGIN_MS: Final = 60.0
"""So much speech in a row begins an utterance: a click is none."""

HYSTERESIS: Final = 0.15
"""Once somebody speaks, so much less probability is still speech."""

PAUSE_MS: Final = 200.0
"""A pause of so long may be the end of a turn: the model of turns is asked."""

ASK_AGAIN_MS: Final = 400.0
"""And again after so much more of it, while it says that the turn goes on."""


class Change(Enum):
    """What a piece of audio changed."""

    BEGAN = "somebody began to speak"
    PAUSED = "a pause in which a turn may end"
    SILENT = "the silence that ends a turn"


@dataclass(frozen=True, slots=True)
class Silences:
    """`threshold` of speech; `end_ms`: the silence that ends a turn; `asks`: whether shorter
    pauses are told."""

    threshold: float = 0.5
    end_ms: float = 500.0
    asks: bool = False


class SpeechGate:
    """One caller's input. Times are milliseconds of it."""

    def __init__(self) -> None:
        self._last_ms = 0.0
        self.reset()

    def reset(self) -> None:
        """What was heard so far belongs to nothing."""
        self.open = False
        """Whether an utterance has begun and not ended."""
        self.began_ms = 0.0
        self.silent_since_ms: float | None = None
        """When the caller last stopped to speak, inside an utterance."""
        self._speech_ms = 0.0
        self._ask_at_ms = PAUSE_MS

    def hear(self, until_ms: float, probability: float, silences: Silences) -> Change | None:
        """What the audio up to `until_ms` changes."""
        length_ms, self._last_ms = until_ms - self._last_ms, until_ms
        if not 0 < length_ms < 1000:  # the detector was off meanwhile
            length_ms = 0.0
        if not self.open:
            return self._before(length_ms, probability >= silences.threshold)
        if probability >= silences.threshold - HYSTERESIS:
            self.silent_since_ms, self._ask_at_ms = None, PAUSE_MS
            return None
        if self.silent_since_ms is None:
            self.silent_since_ms = until_ms - length_ms
        silent_ms = until_ms - self.silent_since_ms
        # the nearest end of a piece, not the next one
        if silent_ms >= silences.end_ms - length_ms / 2:
            return Change.SILENT
        if silences.asks and silent_ms >= self._ask_at_ms:
            self._ask_at_ms += ASK_AGAIN_MS
            return Change.PAUSED
        return None

    def _before(self, length_ms: float, speech: bool) -> Change | None:
        self._speech_ms = self._speech_ms + length_ms if speech else 0.0
        if self._speech_ms < BEGIN_MS:
            return None
        self.open, self.began_ms = True, self._last_ms - self._speech_ms
        self.silent_since_ms, self._ask_at_ms = None, PAUSE_MS
        self._speech_ms = 0.0
        return Change.BEGAN
