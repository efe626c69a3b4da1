"""What was sent to a recogniser and heard of it, and when. Pure."""

from __future__ import annotations


class Activity:
    """Counts of one connection. Times are of the session's clock, durations are audio; seconds."""

    __slots__ = (
        "audio_since_message_s",
        "has_text",
        "last_heard_at",
        "last_loud_at",
        "last_sent_at",
        "last_text_at",
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
        self.has_text = False

    @property
    def last_speech_at(self) -> float:
        """When speech was last sent, or told as text."""
        return max(self.last_loud_at, self.last_text_at)

    def became_ready(self, now: float) -> None:
        """Audio may be sent from now on: nothing is owed for the time before."""
        self.last_sent_at = self.last_heard_at = now
        self.last_loud_at = self.last_text_at = now

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

    def heard(self, now: float) -> None:
        """A message came, whatever it says."""
        self.last_heard_at = now
        self.audio_since_message_s = self.speech_since_message_s = 0.0

    def heard_text(self, now: float) -> None:
        """A message came with words."""
        self.has_text = True
        self.last_text_at = now
        self.speech_since_text_s = 0.0
