"""When a recogniser owes what, and how long it may take. Pure.

Each method says a moment, or None where there is none; the session acts when it comes.
"""

from __future__ import annotations

from typing import Final

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.settings.stt import SttConfig

OVERDUE_FLUSH_S: Final = 2.0
"""After asking for an overdue final: how long it is waited for."""

FILL_AFTER_S: Final = 0.5
"""A recogniser that needs audio to end an utterance gets silence when none came for so long."""

DOUBT_MAX: Final = 4
"""A stall that the next provider does not contradict was no speech: twice as much is needed for
the next one, and past this factor loudness alone proves nothing in this session."""

UNTOLD_S: Final = 0.2
"""So much speech without a word, and nothing said to a flush or a finish: words are owed."""

CLOSE_AGAIN_MAX: Final = 4
"""So many providers more are asked for the last finals, `close_s` (5 s) each: clients wait 30 s for
them at most."""


class StallDetector:
    """What is expected of the lines of one session, by what the client was told and is kept.

    `doubt` grows with each failure that only the loudness of the caller's audio proves, until a
    provider hears words in it. `draining`: the last finals of a replaced line are waited for.
    """

    def __init__(self, config: SttConfig, kept: ReplayBuffer, telling: TranscriptAssembler) -> None:
        self._config = config
        self._kept = kept
        self._telling = telling
        self.doubt = 1
        self.draining = False
        self.overdue_before = False  # a final was, and a second provider is asked
        self.closed_again = 0  # providers that were asked for the last finals after the first

    def ready_by(self, line: RecognizerConnection, timeout_s: float) -> float:
        """When the line has to take audio."""
        if line.open:
            return line.last_sent_at + line.traits.ready_s
        # the shell has the same time-out; this one is in case it says nothing
        return line.began_at + timeout_s + 1.0

    def dues(self, line: RecognizerConnection) -> list[float | None]:
        """All moments at which a line that is ready is to be looked at."""
        return [
            line.next_send_at if line.unsent else None,
            self.keepalive_at(line),
            self.fill_at(line),
            self.overdue_at(line),
            self.stall_at(line),
            self.flush_answer_at(line),
        ]

    def flush_answer_at(self, line: RecognizerConnection) -> float | None:
        """When a flush counts as answered: some providers say nothing where there is nothing."""
        if line.flush_sent_at is None or self._telling.interim is not None:
            return None
        if self.owes_flush(line):
            return None
        if line.traits.flush_is_answered:
            return line.flush_sent_at + line.traits.final_within_s
        return line.flush_sent_at + self._config.finalize_s

    def keepalive_at(self, line: RecognizerConnection) -> float | None:
        if line.traits.keepalive_s is None or line.finishing:
            return None
        return line.last_sent_at + line.traits.keepalive_s

    def fill_at(self, line: RecognizerConnection) -> float | None:
        """When silence is sent so that an open utterance comes to its end."""
        if not line.traits.needs_audio_to_end_turn or line.unsent or line.finishing:
            return None
        if self._telling.interim is None and not (self._telling.speaking and line.heard_text):
            return None
        return line.last_sent_at + FILL_AFTER_S

    def overdue_at(self, line: RecognizerConnection) -> float | None:
        """When the final of the open utterance is asked for, and then when it is given up."""
        if self._telling.interim is None and not self.owes_flush(line):
            return None
        if line.unsent or self.draining:
            return None
        if line.finishing:
            return None  # the time to close is the bound
        if line.flush_sent_at is not None:
            if line.traits.flush_is_answered:
                return line.flush_sent_at + line.traits.final_within_s
            return line.flush_sent_at + max(OVERDUE_FLUSH_S, self._config.finalize_s)
        limit_s = self._config.overdue_s or line.traits.final_within_s
        return max(line.last_loud_at, line.last_text_at) + limit_s

    def stall_at(self, line: RecognizerConnection) -> float | None:
        """When the line counts as stalled if nothing is heard till then; None: not to be said."""
        traits, stall_s = line.traits, self._config.stall_s
        times = []
        if traits.heartbeat_s is not None:
            heartbeat_s = max(stall_s, traits.heartbeat_s)
            if line.unheard_s >= heartbeat_s:
                times.append(line.last_heard_at + heartbeat_s)
        if self.doubt <= DOUBT_MAX:
            if line.loud_unheard_s >= stall_s * self.doubt:
                times.append(line.last_heard_at + stall_s * self.doubt)
            deaf_s = traits.deaf_after_s * self.doubt
            if line.loud_untold_s >= deaf_s:
                times.append(line.last_text_at + deaf_s)
        return min(times) if times else None

    def proven_by_speech(self, line: RecognizerConnection) -> bool:
        """Whether it was loudness that made the line look stalled."""
        heartbeat_s = line.traits.heartbeat_s
        return heartbeat_s is None or line.unheard_s < max(self._config.stall_s, heartbeat_s)

    def owes_flush(self, line: RecognizerConnection) -> bool:
        """Whether a flush was met with silence although there was speech to tell of."""
        at = line.flush_sent_at
        return at is not None and line.last_heard_at <= at and self._spoke_untold(line)

    def owes_end(self, line: RecognizerConnection) -> bool:
        """Whether the last words have not come, and one provider more may be asked for them."""
        if not line.finishing:  # it has not even taken all the audio
            return self.owes_all()
        if self.closed_again >= CLOSE_AGAIN_MAX:
            return False
        return self._spoke_untold(line) or self._spoke_after_interim()

    def owes_all(self) -> bool:
        """As `owes_end`, where there is no line that has heard everything."""
        return self.closed_again < CLOSE_AGAIN_MAX and self._kept.speech() is not None

    def _spoke_untold(self, line: RecognizerConnection) -> bool:
        return self.doubt <= DOUBT_MAX and line.loud_untold_s >= UNTOLD_S * self.doubt

    def _spoke_after_interim(self) -> bool:
        """Whether the text of the open utterance ends before the speech does."""
        said, speech = self._telling.interim, self._kept.speech()
        if said is None or speech is None:
            return False
        return speech[1] / self._kept.rate - said.end >= UNTOLD_S

    def doubted(self, line: RecognizerConnection) -> None:
        """A line fails because of speech that brought no word: it may have been none."""
        if self._telling.interim is None and self._spoke_untold(line):
            self.doubt *= 2
