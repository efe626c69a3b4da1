"""One connection to a recogniser: what it was sent, asked and heard to say, and when. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from gateway.audio.pcm import silence
from gateway.audio.timeline import Timeline
from gateway.conversations.stt.audio_format import AudioFormat
from gateway.conversations.stt.replay_buffer import AudioChunk, ReplayBuffer
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.stt import (
    FINISH,
    FLUSH,
    KEEP_ALIVE,
    Audio,
    Capabilities,
    FinalTranscript,
    InterimTranscript,
    Recognizer,
    RecognizerEvent,
)

QUIET_KEPT_S: Final = 0.2
"""Silence that a replay keeps on either side of speech when it leaves out the rest."""

SKIP_RATE_MAX: Final = 2.0
"""A provider that takes audio faster than this is replayed every silence: it costs little time."""

FLUSH_SILENCE_S: Final = 1.0
"""Silence that ends the utterance at a provider that has no message for it."""

FLUSHED_S_MIN: Final = 0.2
"""So much speech without text is what a flush asks for."""

KEEPALIVE_SILENCE_S: Final = 0.1
"""Silence sent as a keepalive."""

WITHIN_WORDS_S: Final = 0.25
"""A silence shorter than this is part of speech: stops and short pauses between words."""

GAPS_KEPT: Final = 32
"""Texts of a connection whose speech before them is kept."""

GAPS_MIN: Final = 6
"""A connection is known after so many texts."""

BURST_S: Final = 0.5
"""Audio that may be ahead of the provider's greatest rate: clients send unevenly."""

CREDIT_S: Final = 2.0
"""Longest gap in the audio that may be made up for at once. A network that holds frames back
delivers them together, and that is no faster than real time."""


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
        "owed_s",
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
        self.owed_s = 0.0  # speech from before the text that is not in it
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
        if (gap_s := self.doubtful_s - self.owed_s) > 0.0 and self.has_text:
            self.gaps.append(gap_s)
        self.has_text = True
        self.last_text_at = now
        self.speech_since_text_s = self.noise_s = self.owed_s = 0.0
        self.not_doubted(now)

    def still_owes(self, seconds: float) -> None:
        """So much speech was sent before the words came that were heard last, and is not in
        them."""
        self.owed_s = self.doubtful_s = seconds

    @property
    def untold_s(self) -> float:
        """Speech that is in no words so far."""
        return self.speech_since_text_s + self.owed_s

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


class Pacer:
    """Holds audio back that would be sent faster than `rate` times real time."""

    __slots__ = ("_done_at", "_paced", "_rate", "next_at")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._paced = rate != float("inf")
        self.start(now)

    def start(self, now: float) -> None:
        """Nothing has been sent so far."""
        self._done_at = now  # when the audio sent so far would be over at the greatest rate
        self.next_at = now - BURST_S if self._paced else 0.0
        """When the next audio may be sent."""

    def sent(self, seconds: float, now: float) -> None:
        """So much audio was sent."""
        if self._paced:
            self._done_at = max(self._done_at, now - CREDIT_S) + seconds / self._rate
            self.next_at = self._done_at - BURST_S


class RecognizerConnection:
    """A connection, numbered from 1 within its session.

    It is given audio by its place in the session's buffer: all from `cursor` (a sample of the
    session) on is still to be sent. Methods that send return the messages, in order.
    """

    def __init__(
        self, number: int, attempt: Attempt, recognizer: Recognizer, rate: int, now: float
    ) -> None:
        self.number = number
        self.began_at = now
        self.attempt = attempt
        self.traits: Capabilities = recognizer.traits
        self.timeline = Timeline(rate)
        self.activity = Activity(now)
        self.ready_at: float | None = None  # audio may be sent since then
        self.flush_sent_at: float | None = None  # a flush has no answer so far
        self.flush_until = 0  # sample of the session: what was sent before the last flush
        self._flushes_speech = False
        self.flush_has_words = False  # a final without times has come since then
        self.untold_at_flush_s = 0.0  # speech without text before it, until anything is heard
        self.finishing = False  # its last finals were asked for
        self.unhedged = False  # it was doubted, and there was no budget for a hedge
        # speech without text that raises doubt, and that makes it watched, see `StallDetector`
        self.doubt_s = self.watch_s = float("inf")
        self.cursor = 0
        self.sent_until = 0  # sample of the session
        self._recognizer = recognizer
        self._rate = rate
        self._format = AudioFormat(recognizer.traits, rate, recognizer.rate)
        self._pacer = Pacer(recognizer.traits.replay_rate, now)
        self._until: int | None = None
        self._skips_silence = False
        self._quiet_run_s = 0.0
        self.upstream_id: str | None = None
        """The provider's own name of it, once a transcript has told one."""

    # -- its life

    def opened(self, now: float) -> Sequence[Any]:
        """The socket is open: the first messages."""
        self.activity.sent(now)
        return self._recognizer.opening()

    def became_ready(self, now: float) -> None:
        """It takes audio."""
        self.ready_at = now
        self.activity.became_ready(now)
        self._pacer.start(now)

    def heard(self, frame: Any, now: float) -> Sequence[RecognizerEvent]:
        """What a message of the provider means."""
        self.activity.heard(now)
        self.untold_at_flush_s = 0.0
        events = self._recognizer.decode(frame)
        if self.upstream_id is None:
            for event in events:
                if isinstance(event, InterimTranscript | FinalTranscript):
                    self.upstream_id = event.transcript.request_id
        return events

    def closed(self, code: int, reason: str) -> Failure:
        """What it means that the provider hung up without being asked."""
        return self._recognizer.closed(code, reason)

    def update(self, attempt: Attempt) -> list[Any] | None:
        """The messages that change its settings to those of `attempt`; None: it cannot do that."""
        frames = self._recognizer.update(attempt)
        if frames is None:
            return None
        self.attempt = attempt
        return list(frames)

    # -- which audio it gets

    def replay_s(self, buffer: ReplayBuffer, until_s: float) -> float:
        """How long a replay from the beginning of `buffer` takes to get to `until_s` of the
        session."""
        return max(0.0, until_s - buffer.start / buffer.rate) / self.traits.replay_rate

    def start_at(self, sample: int) -> None:
        """It gets the session's audio from this sample on."""
        self.cursor = sample

    def stop_at(self, sample: int) -> None:
        """It gets no audio from this sample on: another connection does."""
        self._until = sample

    def skip_silence(self) -> None:
        """Leave out long silences until it has caught up with the user."""
        self._skips_silence = True

    def is_behind(self, buffer: ReplayBuffer) -> bool:
        """Whether there is audio that it should get and has not been sent."""
        end = buffer.end if self._until is None else min(self._until, buffer.end)
        return max(self.cursor, buffer.start) < end

    def behind_s(self, buffer: ReplayBuffer) -> float:
        """How much audio it has not been sent."""
        return buffer.seconds_from(self.cursor)

    @property
    def sent_s(self) -> float:
        """Seconds of the session that have been sent."""
        return self.sent_until / self._rate

    @property
    def heard_until(self) -> int:
        """The sample of the session up to which a transcript without times is: where a flush waits
        for the words before it, that."""
        flushes = self.flush_sent_at is not None and self._flushes_speech
        return self.flush_until if flushes else self.sent_until

    # -- sending

    @property
    def next_send_at(self) -> float:
        """When audio may be sent again."""
        return self._pacer.next_at

    def send_audio(self, buffer: ReplayBuffer, now: float) -> list[Any]:
        """Send of the buffer what may be sent now."""
        frames: list[Any] = []
        chunks = buffer.chunks
        if not chunks or (newest := chunks[-1]).end <= self.cursor:
            return frames
        if newest.start == self.cursor and not self._skips_silence:  # a live frame
            if self._pacer.next_at <= now and (self._until is None or newest.start < self._until):
                self._send(newest, now, frames)
            return frames
        waiting = buffer.since(self.cursor)
        for i, chunk in enumerate(waiting):
            if self._until is not None and chunk.start >= self._until:
                return frames
            if self._pacer.next_at > now:
                return frames
            if self._skips_silence and self._may_skip(waiting, i):
                self.cursor = chunk.end
            else:
                self._send(chunk, now, frames)
        self._skips_silence = False
        return frames

    def fill(self, seconds: float, now: float) -> list[Any]:
        """Send silence that is not the user's."""
        samples = int(seconds * self._rate)
        self.timeline.fill(samples)
        self._pacer.sent(seconds, now)
        self.activity.sent(now)
        frames: list[Any] = []
        self._encode(silence(samples), frames)
        return frames

    def keep_alive(self, now: float) -> list[Any]:
        """Nothing was sent for a while."""
        traits = self.traits
        frames: list[Any] = []
        needs_audio_first = traits.first_audio and not self.timeline.sent_s
        if traits.keepalive_by == "silence" or needs_audio_first:
            frames += self.fill(max(KEEPALIVE_SILENCE_S, traits.frame_s_min), now)
        if traits.keepalive_by == "message":
            frames += self._recognizer.encode(KEEP_ALIVE)
        self.activity.sent(now)
        return frames

    def flush(self, now: float) -> list[Any]:
        """Ask for the finals of what was sent so far."""
        frames = self._send_rest()
        if self.traits.flush_by == "silence":
            frames += self.fill(FLUSH_SILENCE_S, now)
        frames += self._recognizer.encode(FLUSH)
        self.activity.sent(now)
        self.flush_sent_at = now
        self.flush_until = self.sent_until
        self.flush_has_words = False
        self._flushes_speech = self.activity.untold_s >= FLUSHED_S_MIN
        self.untold_at_flush_s = self.activity.untold_s
        return frames

    def flush_answered(self) -> None:
        """Nothing more is expected of the last flush."""
        self.flush_sent_at = None
        self.untold_at_flush_s = 0.0

    def finish(self, now: float) -> list[Any]:
        """Ask for the last finals and the end."""
        frames = self._send_rest()
        frames += self._recognizer.encode(FINISH)
        self.activity.sent(now)
        self.finishing = True
        return frames

    def _may_skip(self, waiting: Sequence[AudioChunk], i: int) -> bool:
        """Whether chunk `i` is in the middle of a silence that need not be replayed."""
        began = bool(self.timeline.sent_s)
        if self.traits.replay_rate > SKIP_RATE_MAX and began:
            return False
        if waiting[i].loud or (began and self._quiet_run_s < QUIET_KEPT_S):
            return False
        ahead_s = 0.0
        for chunk in waiting[i + 1 :]:
            if chunk.loud:
                return ahead_s >= QUIET_KEPT_S
            ahead_s += chunk.samples / self._rate
            if ahead_s >= QUIET_KEPT_S:
                return True
        return False

    def _send(self, chunk: AudioChunk, now: float, frames: list[Any]) -> None:
        start, end, pcm, loud = chunk
        seconds = (end - start) / self._rate
        self.timeline.feed(start, end - start)
        self.cursor = self.sent_until = end
        self._quiet_run_s = 0.0 if loud else self._quiet_run_s + seconds
        self.activity.sent_audio(seconds, loud, now)
        self._pacer.sent(seconds, now)
        self._encode(pcm, frames)

    def _encode(self, pcm: bytes, frames: list[Any]) -> None:
        if len(pcm) in self._format.as_it_is and not self._format.held:
            frames.extend(self._recognizer.encode(Audio(pcm)))
            return
        for piece in self._format.pieces(pcm):
            frames.extend(self._recognizer.encode(Audio(piece)))

    def _send_rest(self) -> list[Any]:
        """What was too short to be sent."""
        rest = self._format.rest()
        if rest is None:
            return []
        piece, padding = rest
        self.timeline.fill(padding)
        return list(self._recognizer.encode(Audio(piece)))
