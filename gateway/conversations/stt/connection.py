"""One connection to a recogniser, as the session sees it: what was sent, when, and how fast. Pure.

It gives audio the form that the provider takes (rate, size of pieces, pace), keeps the map from
its clock to the session's, and counts what has to be noticed: silence of either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.audio.pcm import BYTES_PER_SAMPLE, silence
from gateway.audio.resample import Resampler
from gateway.audio.timeline import Timeline
from gateway.conversations.stt.replay_buffer import AudioChunk, ReplayBuffer
from gateway.upstreams.plan import Attempt
from gateway.upstreams.stt import FLUSH, KEEP_ALIVE, Audio, Capabilities, Recognizer, Request

BURST_S: Final = 0.5
"""Audio that may go out at once: clients send unevenly."""

CREDIT_S: Final = 2.0
"""So much of a gap in the client's audio may be made up for at once: a network that holds frames
back delivers them together, and that is no faster than real time."""

QUIET_KEPT_S: Final = 0.2
"""So much of each silence is sent all the same, on either side."""

FLUSH_SILENCE_S: Final = 1.0
"""Silence that makes a provider without a flush end an utterance."""

KEEPALIVE_SILENCE_S: Final = 0.1
"""Silence that keeps a line open."""


class RecognizerConnection:
    """A connection, numbered; see `Capabilities` for what the provider wants."""

    def __init__(
        self, number: int, attempt: Attempt, recognizer: Recognizer, rate: int, now: float
    ) -> None:
        self.number = number
        self.attempt = attempt
        self.recognizer = recognizer
        self.traits: Capabilities = recognizer.traits
        self.timeline = Timeline(rate)
        self.began_at = now
        self.open = False  # the WebSocket is
        self.ready = False  # audio may be sent
        self.ready_at = now
        self.finishing = False
        self.unsent = 0  # chunks at the end of what is kept that wait to be sent
        self.until: int | None = None  # a line that is replaced gets audio up to this sample
        self.sent_until = 0  # sample of the session
        self.last_sent_at = now
        self.last_heard_at = now
        self.last_loud_at = now
        self.last_text_at = now
        self.audio_sent = False
        self.unheard_s = 0.0  # audio sent since anything was heard
        self.loud_unheard_s = 0.0  # speech sent since anything was heard
        self.loud_untold_s = 0.0  # speech sent since any text was heard
        self.heard_text = False
        self.catching_up = False
        self.flush_sent_at: float | None = None
        self.flushes = 0
        self._rate = rate
        self._resampler = Resampler(rate, recognizer.rate) if recognizer.rate != rate else None
        self._bytes_min = int(self.traits.frame_s_min * recognizer.rate) * BYTES_PER_SAMPLE
        self._bytes_max = int(self.traits.frame_s_max * recognizer.rate) * BYTES_PER_SAMPLE
        self._held = b""
        self._paced = self.traits.replay_rate != float("inf")
        self._due = now  # when the audio sent so far would be over at the greatest rate
        self._quiet_run = 0.0

    @property
    def next_send_at(self) -> float:
        """When the next chunk may be sent."""
        return self._due - BURST_S if self._paced else 0.0

    def opened(self, now: float) -> Sequence[Any]:
        """The socket is open: the first messages."""
        self.open = True
        self.last_heard_at = self.last_sent_at = now
        return self.recognizer.opening()

    def became_ready(self, now: float) -> None:
        self.ready = True
        self.ready_at = self.last_heard_at = self.last_sent_at = now
        self.last_loud_at = self.last_text_at = self._due = now

    def heard(self, now: float) -> None:
        """Any message of the provider's."""
        self.last_heard_at = now
        self.unheard_s = self.loud_unheard_s = 0.0

    def heard_words(self, now: float) -> None:
        self.heard_text = True
        self.last_text_at = now
        self.loud_untold_s = 0.0

    def pump(self, kept: ReplayBuffer, now: float, frames: list[Any]) -> None:
        """Send what may be sent now."""
        if not self.unsent:
            return
        if self.unsent == 1 and not self.catching_up:  # a live caller
            if self.next_send_at > now:
                return
            self.unsent = 0
            self._send(kept.chunks[-1], now, frames)
            return
        waiting = list(kept.last(self.unsent))
        for i, chunk in enumerate(waiting):
            if self.until is not None and chunk.start >= self.until:
                self.unsent = 0
                return
            if self.next_send_at > now:
                break
            self.unsent -= 1
            if not (self.catching_up and self._may_skip(waiting, i)):
                self._send(chunk, now, frames)
        if not self.unsent:
            self.catching_up = False

    def _may_skip(self, waiting: list[AudioChunk], i: int) -> bool:
        """Whether chunk `i` is in the middle of a silence that need not be replayed."""
        if self.traits.replay_rate > 2 and self.audio_sent:
            return False
        if waiting[i].loud:
            return False
        if self.audio_sent and self._quiet_run < QUIET_KEPT_S:
            return False
        ahead = 0.0
        for chunk in waiting[i + 1 :]:
            if chunk.loud:
                return ahead >= QUIET_KEPT_S
            ahead += chunk.samples / self._rate
            if ahead >= QUIET_KEPT_S:
                return True
        return False

    def _send(self, chunk: AudioChunk, now: float, frames: list[Any]) -> None:
        samples = chunk.samples
        seconds = samples / self._rate
        self.timeline.feed(chunk.start, samples)
        self.sent_until = chunk.end
        self.unheard_s += seconds
        if chunk.loud:
            self.loud_unheard_s += seconds
            self.loud_untold_s += seconds
            self.last_loud_at = now
            self._quiet_run = 0.0
        else:
            self._quiet_run += seconds
        self.audio_sent = True
        self._due = max(self._due, now - CREDIT_S) + seconds / self.traits.replay_rate
        self.last_sent_at = now
        self._encode(chunk.pcm, frames)

    def fill(self, seconds: float, now: float, frames: list[Any]) -> None:
        """Send silence that is not the caller's."""
        samples = int(seconds * self._rate)
        self.timeline.fill(samples)
        self._due = max(self._due, now - CREDIT_S) + seconds / self.traits.replay_rate
        self.audio_sent = True
        self.last_sent_at = now
        self._encode(silence(samples), frames)

    def _encode(self, pcm: bytes, frames: list[Any]) -> None:
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        if self._held:
            pcm, self._held = self._held + pcm, b""
        if not pcm:
            return
        if len(pcm) < self._bytes_min:
            self._held = pcm
            return
        if len(pcm) <= self._bytes_max:
            frames.extend(self.recognizer.encode(Audio(pcm)))
            return
        size = self._bytes_max
        for at in range(0, len(pcm), size):
            piece = pcm[at : at + size]
            if len(piece) < self._bytes_min:
                self._held = piece
            else:
                frames.extend(self.recognizer.encode(Audio(piece)))

    def flush(self, now: float, frames: list[Any]) -> None:
        """Ask for finals."""
        self._settle(frames)
        if self.traits.flush_by == "silence":
            self.fill(FLUSH_SILENCE_S, now, frames)
        frames.extend(self.recognizer.encode(FLUSH))
        self.flush_sent_at = self.last_sent_at = now
        self.flushes += 1

    def finish(self, request: Request, now: float, frames: list[Any]) -> None:
        """Ask for finals and the end."""
        self._settle(frames)
        frames.extend(self.recognizer.encode(request))
        self.finishing = True
        self.last_sent_at = now

    def _settle(self, frames: list[Any]) -> None:
        """Send what is held back because it is short, padded."""
        if self._held:
            padding = self._bytes_min - len(self._held)
            self.timeline.fill(padding // BYTES_PER_SAMPLE * self._rate // self.recognizer.rate)
            frames.extend(self.recognizer.encode(Audio(self._held.ljust(self._bytes_min, b"\0"))))
            self._held = b""

    def keep_alive(self, now: float, frames: list[Any]) -> None:
        """Nothing was sent for a while."""
        traits = self.traits
        if traits.keepalive_by == "silence" or (traits.first_audio and not self.audio_sent):
            self.fill(max(KEEPALIVE_SILENCE_S, traits.frame_s_min), now, frames)
        if traits.keepalive_by == "message":
            frames.extend(self.recognizer.encode(KEEP_ALIVE))
        self.last_sent_at = now

    def sent_s(self) -> float:
        """Seconds of the session that have been sent."""
        return self.sent_until / self._rate
