"""When a recogniser owes an answer, and how long it may take. Pure.

Methods that end in `_at` return a moment of the session's clock, or None where nothing is owed.
"""

from __future__ import annotations

from typing import Final

from gateway.audio.pcm import BYTES_PER_SAMPLE
from gateway.audio.voice import holds_voice
from gateway.conversations.stt.connection import WITHIN_WORDS_S, RecognizerConnection
from gateway.conversations.stt.hedges import STEP_S
from gateway.conversations.stt.replay_buffer import CUT_AHEAD_S, ReplayBuffer
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.routing.breaker import Breaker
from gateway.settings.stt import SttConfig

OVERDUE_FLUSH_S: Final = 2.0
"""Least time that a flush for an overdue final may take."""

FILL_AFTER_S: Final = 0.5
"""A recogniser that needs audio to end an utterance is sent silence after this much time without
audio from the user."""

FILL_MID_WORD_S: Final = 1.0
"""The same where the user's audio stopped in the middle of speech. A network that stalls for less
than this would have silence put into a word, which the recogniser then hears twice, as two
halves."""

DOUBT_TIMES: Final = 1.5
"""A recogniser is doubted after this multiple of what it usually takes (95th percentile) from
speech to its first word."""

DOUBT_S_MIN: Final = 1.2
"""Speech without a word that is never doubted, however fast a recogniser usually is: a long number
or name takes that long."""

DOUBT_S_MAX: Final = 3.0
"""Most speech without a word before doubt."""

PATIENT_S: Final = 4.0
"""A recogniser that usually takes longer than this tells whole utterances, and is not doubted: a
silent one could not be told from a patient one."""

DOUBT_S: Final = 1.8
"""The same for a recogniser that has not been measured so far."""

TELLS_INTERIMS_S: Final = 12.0
"""An unmeasured recogniser is doubted only if it counts as deaf after this much speech or less:
those that are given more time have no interims."""

SHORT_S: Final = 0.4
"""Speech without a word that ends before it is long enough for doubt raises it all the same, when
as much time has passed since: a "yes" that is not heard is followed by nothing. Doubled in a
session each time that nobody found words: a cough sounds like a voice."""

REPLAY_DOUBT_S: Final = 0.75
REPLAY_DOUBT_SHARE: Final = 0.1
"""Speech that is sent faster than it was spoken should bring words within this time, and this share
of the speech's own time."""

STEP_S_MIN: Final = 0.3
"""A hedge has so long to tell words before the next is asked, however quick its kind was: a network
takes as long to repeat a lost packet."""

VERDICT_S: Final = 2.5
"""Time that a hedge has from its first audio to its first word, at least. One that usually takes
longer has as long as before doubt."""

VOICE_WINDOW_S: Final = 3.0
"""The latest audio that is searched for a voice before a recogniser is doubted."""

END_DOUBT_S: Final = 1.2
"""Time after the last audio of a session before a recogniser that owes words is doubted. Usual
providers tell the last final within 0.5 s of being asked."""

CAUTION_MAX: Final = 4
"""Each stall that the next provider confirms as silence doubles the speech needed to suspect one;
beyond this factor loudness is ignored."""

WORDS_EXPECTED_S: Final = 0.2
"""A flush or a finish should bring words if at least this much speech has brought none so far."""

CLOSE_AGAIN_MAX: Final = 4
"""Further providers that are asked for the last finals, `close_s` (5 s) each: clients wait 30 s for
them at most."""


class StallDetector:
    """What the connections of one session are expected to say, by what was sent and heard.

    That audio is loud does not prove that it is speech. `caution`: the factor by which more of it
    is needed, doubled by each failure that only loudness proves, 1 again once there is text.
    """

    def __init__(
        self,
        config: SttConfig,
        buffer: ReplayBuffer,
        transcripts: TranscriptAssembler,
        breaker: Breaker | None = None,
    ) -> None:
        self._config = config
        self._buffer = buffer
        self._transcripts = transcripts
        self._breaker = breaker or Breaker()  # keeps how fast each deployment is
        self.caution = 1
        self._short_s = SHORT_S
        self._was_overdue = False  # a final was, and a second provider is asked for it
        self._closed_again = 0  # providers asked for the last finals after the first one

    # -- what has happened

    def heard_text(self) -> None:
        """A provider found words: it was speech."""
        self.caution = 1

    def measure(self, connection: RecognizerConnection) -> float | None:
        """A recogniser tells words; called before its activity knows. Keeps how much speech it
        took to the first word of an utterance, and later pauses that are unusual: returned in
        seconds, None where neither was measured."""
        activity = connection.activity
        speech_s = activity.speech_since_text_s - activity.noise_s
        if connection.number > 1 and not activity.has_text:
            return None  # it heard a replay, which is sent faster than speech
        if speech_s > 0.0 and (not self._transcripts.is_open or speech_s > DOUBT_S_MIN):
            self._breaker.record_ttft(connection.attempt, speech_s)
            return speech_s
        return None

    def heard_final(self) -> None:
        """The final that was waited for, or another one."""
        self._was_overdue = False

    def stalled(self, connection: RecognizerConnection) -> None:
        """The connection is given up since it says nothing."""
        heartbeat_s = self._heartbeat_s(connection)
        if heartbeat_s is None or connection.activity.audio_since_message_s < heartbeat_s:
            self.caution *= 2

    def heard_words(self, connection: RecognizerConnection) -> None:
        """A recogniser told words, and the client knows them. Those that come late, or repeat what
        was told, do not answer for speech that was sent meanwhile."""
        told = self._transcripts.told
        if not self._transcripts.is_open and told is not None:
            since_s = max(self._transcripts.final_until, told.end + CUT_AHEAD_S)
            connection.activity.still_owes(self._buffer.loud_s(since_s, connection.sent_until))

    def final_overdue(self, connection: RecognizerConnection) -> bool:
        """The final did not come, though it was asked for. True: another provider may have it;
        False: that was tried."""
        if self._was_overdue:
            self._was_overdue = False
            return False
        self._was_overdue = True
        self._suspect(connection)
        return True

    def asks_again(self, connection: RecognizerConnection) -> None:
        """The last finals did not come, and the next provider is asked for them."""
        self._closed_again += 1
        self._suspect(connection)

    def _suspect(self, connection: RecognizerConnection) -> None:
        if not self._transcripts.is_open and self.has_untold_speech(connection):
            self.caution *= 2

    # -- doubt

    def watch_doubt(self, connection: RecognizerConnection) -> None:
        """Set how much speech without text raises doubt from now on."""
        connection.doubt_s = self._doubt_s(connection)
        connection.watch_s = self._short_s if connection.doubt_s < float("inf") else float("inf")

    def not_doubted(self, connection: RecognizerConnection, now: float) -> None:
        """The speech so far is no reason for doubt, or was looked into."""
        connection.activity.not_doubted(now)
        self.watch_doubt(connection)

    def verdict_s(self, connection: RecognizerConnection) -> float:
        """How long a hedge may take to its first word."""
        usual_s = self._breaker.ttft_p95_s(connection.attempt) or 0.0
        return max(VERDICT_S, min(DOUBT_TIMES * usual_s, DOUBT_S_MAX) + REPLAY_DOUBT_S)

    def heard_replay(self, connection: RecognizerConnection, first_word_s: float) -> None:
        """A hedge told words so long after its audio began."""
        self._breaker.record_replay(connection.attempt, first_word_s)

    def step_s(self, connection: RecognizerConnection) -> float:
        """How long a hedge may be silent before the next is asked beside it: by what replays to
        its deployment usually take."""
        usual_s = self._breaker.replay_p95_s(connection.attempt)
        return STEP_S if usual_s is None else min(max(DOUBT_TIMES * usual_s, STEP_S_MIN), STEP_S)

    def doubted_in_vain(self) -> None:
        """Nobody who was asked beside it found words either."""
        self._short_s = min(2 * self._short_s, DOUBT_S_MAX)

    def _doubt_s(self, connection: RecognizerConnection) -> float:
        never = float("inf")
        if not self._config.hedge.enabled:
            return never
        attempt = connection.attempt
        if attempt.options.get("interim_results") is False:
            return never
        usual_s = connection.activity.longest_gap_s or self._breaker.ttft_p95_s(attempt)
        if usual_s is None:
            return DOUBT_S if connection.traits.deaf_after_s <= TELLS_INTERIMS_S else never
        if usual_s >= PATIENT_S:
            return never
        return min(max(DOUBT_TIMES * usual_s, DOUBT_S_MIN), DOUBT_S_MAX)

    def doubt_at(self, connection: RecognizerConnection) -> float | None:
        """When a second recogniser should be asked beside this one."""
        activity, doubt_s = connection.activity, connection.doubt_s
        times = []
        if activity.doubtful_s >= doubt_s:  # it took as long to be said, unless in a replay
            replay_s = REPLAY_DOUBT_S + REPLAY_DOUBT_SHARE * activity.doubtful_s
            times.append(activity.doubt_from + min(doubt_s, replay_s))
        if activity.doubtful_s >= self._short_s:
            times.append(max(activity.last_loud_at, activity.doubt_from) + doubt_s)
        return min(times, default=None)

    def end_doubt_at(self, connection: RecognizerConnection) -> float | None:
        """The same, for a connection that was asked for the session's last words."""
        if connection.doubt_s == float("inf") or not self.owes_last_words(connection):
            return None
        return max(connection.activity.last_sent_at, connection.activity.doubt_from) + END_DOUBT_S

    def hears_voice(self, connection: RecognizerConnection) -> bool:
        """Whether the latest audio that it was sent sounds like somebody who speaks."""
        rate = self._buffer.rate
        begin = connection.sent_until - int(VOICE_WINDOW_S * rate)
        chunks = [c for c in self._buffer.since(begin) if c.end <= connection.sent_until]
        voice = holds_voice(b"".join(chunk.pcm for chunk in chunks), rate)
        if not voice:
            connection.activity.was_noise()
        return voice

    # -- what is expected

    def flush_answered_at(self, connection: RecognizerConnection) -> float | None:
        """When a flush counts as answered: some providers say nothing where there is nothing."""
        at = connection.flush_sent_at
        if at is None or self._transcripts.is_open or self._flush_owes_words(connection):
            return None
        if connection.traits.flush_is_answered:
            return at + connection.traits.final_within_s
        return at + self._config.finalize_s

    def keepalive_at(self, connection: RecognizerConnection) -> float | None:
        """When a keepalive is due."""
        keepalive_s = connection.traits.keepalive_s
        return None if keepalive_s is None else connection.activity.last_sent_at + keepalive_s

    def fill_at(self, connection: RecognizerConnection) -> float | None:
        """When silence is sent so that the open utterance ends."""
        if not connection.traits.needs_audio_to_end_turn:
            return None
        transcripts = self._transcripts
        speaking = transcripts.speaking and connection.activity.has_text
        if not transcripts.is_open and not speaking:
            return None
        activity = connection.activity
        mid_word = activity.last_sent_at - activity.last_loud_at < WITHIN_WORDS_S
        return activity.last_sent_at + (FILL_MID_WORD_S if mid_word else FILL_AFTER_S)

    def overdue_at(self, connection: RecognizerConnection) -> float | None:
        """When the final of the open utterance is asked for, and then when it is given up."""
        if not self._transcripts.is_open and not self._flush_owes_words(connection):
            return None
        traits, at = connection.traits, connection.flush_sent_at
        if at is None:
            return connection.activity.last_speech_at + (
                self._config.overdue_s or traits.final_within_s
            )
        if traits.flush_is_answered:
            return at + traits.final_within_s
        return at + max(OVERDUE_FLUSH_S, self._config.finalize_s)

    def stall_at(self, connection: RecognizerConnection) -> float | None:
        """When the connection counts as stalled if nothing is heard before."""
        activity, stall_s = connection.activity, self._config.stall_s * self.caution
        times = []
        heartbeat_s = self._heartbeat_s(connection)
        if heartbeat_s is not None and activity.audio_since_message_s >= heartbeat_s:
            times.append(activity.last_heard_at + heartbeat_s)
        if self.caution <= CAUTION_MAX:
            if activity.speech_since_message_s >= stall_s:
                times.append(activity.last_heard_at + stall_s)
            deaf_s = connection.traits.deaf_after_s * self.caution
            if activity.speech_since_text_s >= deaf_s:
                times.append(activity.last_text_at + deaf_s)
        return min(times, default=None)

    def owes_last_words(self, connection: RecognizerConnection) -> bool:
        """Whether the last words have not come, and another provider may be asked for them."""
        if not connection.finishing:  # it has not even got all the audio
            return self.may_ask_for_last_words()
        if self._closed_again >= CLOSE_AGAIN_MAX:
            return False
        return self.has_untold_speech(connection) or self.speech_goes_past_interim()

    def owes_last_final(self, connection: RecognizerConnection) -> bool:
        """The same of one that will say no more: where interims have no times, nobody knows how
        far the latest one came, so its final is owed."""
        if self.owes_last_words(connection):
            return True
        said = self._transcripts.interim
        return said is not None and not said.words and self.may_ask_for_last_words()

    def missed_words(self, connection: RecognizerConnection) -> bool:
        """Whether one that will say no more has not told words that it was sent. Long noise is not
        worth a replay: the next one would lag behind the user for as long."""
        if not self.owes_last_words(connection):
            return False
        if connection.activity.untold_s <= DOUBT_S_MAX:
            return True
        rate = self._buffer.rate
        kept = [c.pcm for c in self._buffer.chunks if c.end <= connection.sent_until]
        pcm, size = b"".join(kept), int(VOICE_WINDOW_S * rate) * BYTES_PER_SAMPLE
        return any(holds_voice(pcm[at : at + size], rate) for at in range(0, len(pcm), size))

    def may_ask_for_last_words(self) -> bool:
        """Whether there is speech without a final, and one more provider may be asked for it."""
        return self._closed_again < CLOSE_AGAIN_MAX and self._buffer.speech() is not None

    @property
    def asked_again(self) -> bool:
        """Whether a second provider was asked for the last finals."""
        return self._closed_again > 0

    def _heartbeat_s(self, connection: RecognizerConnection) -> float | None:
        heartbeat_s = connection.traits.heartbeat_s
        return None if heartbeat_s is None else max(self._config.stall_s, heartbeat_s)

    def _flush_owes_words(self, connection: RecognizerConnection) -> bool:
        """Whether a flush was met with silence although there was speech before it."""
        return self._is_enough(connection.untold_at_flush_s)

    def has_untold_speech(self, connection: RecognizerConnection) -> bool:
        """Whether there was speech that is in no words."""
        return self._is_enough(connection.activity.untold_s)

    def _is_enough(self, speech_s: float) -> bool:
        """Whether so much speech without text means that words are missing."""
        return self.caution <= CAUTION_MAX and speech_s >= WORDS_EXPECTED_S * self.caution

    def speech_goes_past_interim(self) -> bool:
        """Whether the text of the open utterance ends before the speech does."""
        said, speech = self._transcripts.interim, self._buffer.speech()
        if said is None or speech is None:
            return False
        return speech[1] / self._buffer.rate - said.end >= WORDS_EXPECTED_S
