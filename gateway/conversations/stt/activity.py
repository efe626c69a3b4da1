"""What was sent to a recogniser and heard of it, and when. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

WITHIN_WORDS_S: Final = 0.25
"""A silence shorter than this is part of speech: stops and short pauses between words."""

GAPS_KEPT: Final = 32
"""Texts of a connection whose speech before them is kept."""

GAPS_MIN: Final = 6
"""A connection is known after so many texts."""


class Activity:
    """Counts of one connection. Times are of the session's clock, durations are audio; seconds."""

    __slots__ = (
        "audio_since_message_s",
        "doubt_from",
        "doubtful_s",
        "gaps",
        "has_text",
        "last_heard_at",
        "last_loud_at",
        "last_sent_at",
        "last_text_at",
        "noise_s",
        "speech_since_message_s",
        "speech_since_text_s",
    )

    def __init__(self, now: float) -> None:
        self.last_sent_at = now
        self.last_heard_at = now
        self.last_loud_at = now
        self.last_text_at = now
        self.audio_since_message_s = 0.0
        self.speech_since_message_s = 0.0
        self.speech_since_text_s = 0.0
        self.noise_s = 0.0  # what of this was found to be none
        self.has_text = False
        self.gaps: deque[float] = deque(maxlen=GAPS_KEPT)  # speech from text to text
        self.doubt_from = now
        self.doubtful_s = 0.0  # speech without text, less what was found to be noise

    @property
    def last_speech_at(self) -> float:
        """When speech was last sent, or told as text."""
        return max(self.last_loud_at, self.last_text_at)

    def became_ready(self, now: float) -> None:
        """Audio may be sent from now on: nothing is owed for the time before."""
        self.last_sent_at = self.last_heard_at = now
        self.last_loud_at = self.last_text_at = self.doubt_from = now

    def sent(self, now: float) -> None:
        """Anything but the user's audio was sent."""
        self.last_sent_at = now

    def sent_audio(self, seconds: float, loud: bool, now: float) -> None:
        """Audio of the user's was sent."""
        self.last_sent_at = now
        self.audio_since_message_s += seconds
        if loud:
            self.last_loud_at = now
            self.speech_since_message_s += seconds
            self.speech_since_text_s += seconds
            self.doubtful_s += seconds
        elif now - self.last_loud_at < WITHIN_WORDS_S:
            self.doubtful_s += seconds

    def heard(self, now: float) -> None:
        """A message came, whatever it says."""
        self.last_heard_at = now
        self.audio_since_message_s = self.speech_since_message_s = 0.0

    def heard_text(self, now: float) -> None:
        """A message came with words."""
        if self.doubtful_s > 0.0 and self.has_text:
            self.gaps.append(self.doubtful_s)
        self.has_text = True
        self.last_text_at = now
        self.speech_since_text_s = self.noise_s = 0.0
        self.not_doubted(now)

    @property
    def longest_gap_s(self) -> float | None:
        """Most speech from one text to the next, of the latest ones; None: too few so far."""
        return max(self.gaps) if len(self.gaps) >= GAPS_MIN else None

    def was_noise(self) -> None:
        """What was loud so far did not sound like a voice."""
        self.noise_s = self.speech_since_text_s

    def not_doubted(self, now: float) -> None:
        """The speech so far is no reason for doubt, or was looked into."""
        self.doubtful_s = 0.0
        self.doubt_from = now
