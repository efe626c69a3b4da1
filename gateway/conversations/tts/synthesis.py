"""One try at speaking some sentences by one provider: its samples, timings and progress."""

from __future__ import annotations

from typing import Final

from gateway.audio.chunks import SAMPLE_BYTES, Whole
from gateway.audio.container import is_wav, other_format, wav_header
from gateway.audio.envelope import Envelope, gained
from gateway.audio.resample import Resampler
from gateway.conversations.tts.alignment import Alignment
from gateway.conversations.tts.progress import Progress
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.tts import Capabilities, Chars, Timed, Words

MATCH_S: Final = 0.3
"""Audio over which the loudness of a voice that takes over is measured; it is held back for this
long."""

GAIN_DB_MIN: Final = 1.5
"""A smaller difference is not corrected: it is inaudible between two voices, and so short a
measurement is no more exact."""

RECORDING_BYTES_MAX: Final = 6 << 20
"""A longer synthesis (about two minutes) is not recorded for the cache."""

WAV_HEADER_BYTES: Final = 44
"""Of the usual header, for one that cannot be read to its end."""

GAIN_DB_MAX: Final = 9.0
"""Voices differ by less; a larger difference is a wrong measurement."""


class Synthesis:
    """Takes what is heard of one synthesis; gives samples at the utterance's rate.

    `first` is the index in its segment of the first sentence it was given, `base` the utterance's
    clock (samples) at its first sample, `sent` its own samples so far. `retried` is how a kept
    connection ended that was found dead. Times are the session's: `heard_at` of the last audio,
    `waits_since` since when audio is due. `first_audio_s`: from `began` to the first audio, None
    before. `hedge`: it was begun beside another.
    """

    def __init__(
        self,
        number: int,
        attempt: Attempt,
        traits: Capabilities,
        first: int,
        rate: int,
        now: float,
        match_db: float | None,
    ) -> None:
        self.number = number
        self.attempt = attempt
        self.traits = traits
        self.first = first
        self.began = now
        self.waits_since = now
        self.heard_at = now
        self.finished = False
        self.first_audio_s: float | None = None
        self.hedge = False
        self.retried: Failure | None = None
        self.base = 0
        self.sent = 0
        self.progress = Progress(traits.marks)
        self.alignment = Alignment(traits.times)
        self.recording: bytearray | None = None
        self.spoken_words: list[Timed] = []
        self._rate = rate
        self._rate_in = traits.rate_for(rate)
        self._whole = Whole()
        self._resampler: Resampler | None = None
        self._match_db = match_db
        self._gain_db = 0.0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._measure = Envelope(rate) if match_db is not None else None

    def record(self, pcm: bytes) -> None:
        """Keep what is sent, for the cache."""
        if self.recording is not None:
            self.recording += pcm
            if self._gain_db or len(self.recording) > RECORDING_BYTES_MAX:
                self.recording = None

    def keep_words(self, words: list[Timed]) -> None:
        """Keep the words of what is sent, for the cache."""
        if self.recording is not None:
            self.spoken_words += words

    @property
    def sent_s(self) -> float:
        return self.sent / self._rate

    def rate(self, rate_in: int) -> None:
        """The provider's audio has this rate."""
        if rate_in != self._rate_in:
            self._rate_in = rate_in
            self._resampler = None

    def unwrapped(self, data: bytes) -> bytes | str:
        """Samples as the provider sent them: a WAV header on them is taken off, and its rate
        believed. A text: they are something else, which would be noise."""
        if self.first_audio_s is None and (name := other_format(data)) is not None:
            return name
        if not is_wav(data):  # some put a header on every message
            return data
        header = wav_header(data)
        if isinstance(header, str):
            return header
        if header is None:
            return data[WAV_HEADER_BYTES:]
        self.rate(header.rate)
        return data[header.begins :]

    def samples(self, pcm: bytes) -> bytes:
        """Whole samples at the utterance's rate, ready to be sent."""
        pcm = self._whole.feed(pcm)
        if self._rate_in != self._rate and pcm:
            if self._resampler is None:
                self._resampler = Resampler(self._rate_in, self._rate)
            pcm = self._resampler.feed(pcm)
        return self._matched(pcm)

    def rest(self) -> bytes:
        """What resampler and gain still hold, at the end of the synthesis."""
        pcm = b""
        if self._resampler is not None:
            pcm, self._resampler = self._resampler.finish(), None
        pcm = self._matched(pcm)
        return self._settle() + pcm if self._measure is not None else pcm

    def _matched(self, pcm: bytes) -> bytes:
        if self._measure is None:
            return gained(pcm, self._gain_db) if self._gain_db and pcm else pcm
        self._held.append(pcm)
        self._held_bytes += len(pcm)
        self._measure.feed(pcm)
        if self._held_bytes < MATCH_S * self._rate * SAMPLE_BYTES:
            return b""
        return self._settle()

    def _settle(self) -> bytes:
        """Decide the gain, by what has been held back so far; it does not change any more."""
        assert self._measure is not None
        assert self._match_db is not None
        loudness_db = self._measure.loudness_db()
        if loudness_db is not None:
            self._gain_db = min(max(self._match_db - loudness_db, -GAIN_DB_MAX), GAIN_DB_MAX)
            if abs(self._gain_db) < GAIN_DB_MIN:
                self._gain_db = 0.0
        self._measure = None
        held, self._held = b"".join(self._held), []
        return self._matched(held)

    def timings(self, heard: Words | Chars) -> None:
        """Take timings in."""
        self.progress.timed(self.alignment.hear(heard, self.sent_s))

    def due(self, everything: bool = False) -> tuple[list[Timed], list[Timed]]:
        """Words and characters to be sent now."""
        return self.alignment.due(float("inf") if everything else self.sent_s)
