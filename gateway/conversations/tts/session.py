"""/tts: what to do, and when. Pure: events in, actions out.

An utterance is a row of segments (texts in one style, mostly just one). A segment is spoken by one
synthesis at a time. When that fails, another one, by the next provider of the plan, goes on with
the first sentence that was not fully spoken. Where hedging is on, a second provider may be asked
beside a silent one; the first to speak is heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.audio.chunks import SAMPLE_BYTES, chunks
from gateway.audio.envelope import Envelope, ramp_to_zero
from gateway.conversations.tts.actions import (
    Action,
    Admit,
    Admitted,
    Begin,
    CancelSynthesis,
    Close,
    Event,
    Finish,
    Found,
    Keep,
    Looked,
    LookUp,
    Prepare,
    Say,
    SendToClient,
    Sounded,
    Spoke,
    Spoken,
    Tried,
    Unblocked,
)
from gateway.conversations.tts.clips import clip_key, clips_of
from gateway.conversations.tts.planning import asked_name
from gateway.conversations.tts.protocol import (
    CloseSession,
    Create,
    Encoder,
    Flush,
    InputText,
    Style,
    read_message,
)
from gateway.conversations.tts.synthesis import Synthesis
from gateway.conversations.tts.text import speakable, split
from gateway.conversations.tts.utterance import (
    LOOK_UP_S_MAX,
    LookUpPending,
    Segment,
    Utterance,
)
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Exhausted, Failover, RetryPolicy
from gateway.routing.hedging import HedgeBudget
from gateway.settings.tts import TtsConfig
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Chars,
    Clip,
    Failed,
    Finished,
    PartSpoken,
    Rate,
    Restart,
    Retried,
    SpeechRequest,
    SynthesisEvent,
    Words,
)

CHUNK_S: Final = 0.1
"""Longest piece of audio in one message."""

UTTERANCE_CHARS_MAX: Final = 100_000
"""Characters of one utterance, about two hours of speech; a longer one is a client's mistake."""

LATER_MAX: Final = 256
"""Messages that may come for the next utterances while one is being spoken."""

CACHE: Final = "cache"
"""In place of a provider, for what is said from the cache."""

SILENCE_S: Final = 0.02
"""Sent for a text without a letter: the clients take an utterance without audio for a failure."""

SEAM_S: Final = 0.005
"""A voice that breaks off is faded to silence over this time."""

AHEAD_S: Final = 1.0
"""A silent provider is left at the latest this long before the listener runs out of audio."""

BACKOFF_S: Final = 0.25
BACKOFF_S_MAX: Final = 2.0
"""Pauses between rounds, see `RetryPolicy`."""

HEDGE_S_MIN: Final = 0.3
"""Where the time before a hedge is taken from recent answers, it is never shorter."""

LEFT_OUT_MAX: Final = 16
NAME_CHARS_MAX: Final = 32
"""Options left out that are named in the log of one session, and how much of each name: clients
choose them."""

_NEVER: Final = float("inf")


Planning = Callable[[Style, tuple[Style, ...]], Plan | Failure]
"""The plan for texts in this style, given the client's fallbacks."""


@dataclass(slots=True)
class Report:
    """What happened, for the log."""

    utterances: int = 0
    failure: Failure | None = None
    left: bool = False
    left_out: dict[str, None] = field(default_factory=dict)
    """Options that a provider was not sent: "provider:name"."""

    def note_left_out(self, attempt: Attempt) -> None:
        for name in attempt.left_out:
            if len(self.left_out) < LEFT_OUT_MAX:
                self.left_out[f"{attempt.provider}:{presentable(name)[:NAME_CHARS_MAX]}"] = None


class TtsSession:
    """One connection of a client."""

    def __init__(
        self,
        session_id: str,
        planning: Planning,
        traits: Mapping[str, Capabilities],
        breaker: Breaker,
        config: TtsConfig,
        default_model: str | None,
        idle_s: float,
        now: float,
        hedges: HedgeBudget | None = None,
        *,
        charged: bool = False,
        tells_sound: bool = False,
    ) -> None:
        """`charged`: there are limits to what its key may use. `tells_sound`: samples are told
        beside the messages that carry them (`Sounded`)."""
        self._charged = charged
        self._tells_sound = tells_sound
        self._waiting: tuple[Style, str] | None = None  # for Admitted
        self._encoder = Encoder(session_id)
        self._planning = planning
        self._traits = traits
        self._breaker = breaker
        self._config = config
        self._default_model = default_model
        self._idle_s = idle_s
        self._idle_at = now + idle_s
        self._hedges = hedges or HedgeBudget(config.hedge.share_max)
        self._retries = RetryPolicy(
            rounds=config.rounds,
            rounds_alone=config.rounds,
            backoff_s=BACKOFF_S,
            backoff_max_s=BACKOFF_S_MAX,
            # somebody else at once is better than the same one again: the listener waits
            retry_same=False,
            retry_alone=True,
        )
        self._created: Create | None = None
        self._asked_s: float | None = None
        """How long the client lets one provider take to its first audio."""
        self._later: deque[InputText | Flush] = deque()
        self._utterance: Utterance | None = None
        self._current: Synthesis | None = None
        self._hedge: Synthesis | None = None
        self._hedge_at = _NEVER
        self._number = 0
        self._told_at = now
        self._unblocked_at = now
        self._over = False
        self._out: list[Action] = []
        self.report = Report()

    @property
    def deadline(self) -> float | None:
        if self._over:
            return None
        if self._utterance is None:
            return self._idle_at
        return min(
            self._told_at + self._config.keepalive_s,
            self._fails_at(),
            self._hedges_at(),
            self._expires_at(),
            self._resumes_at(),
        )

    def may_end(self, now: float) -> bool:
        """Whether no utterance has begun."""
        return self._utterance is None and not self._later

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        if self._over:
            return []
        if not isinstance(event, DeadlinePassed):
            self._idle_at = now + self._idle_s
        match event:
            case Spoke(number, heard):
                self._spoke(number, heard, now)
            case Text(text):
                self._text(text, now)
            case DeadlinePassed():
                self._woken(now)
            case Found(key, clip):
                self._found(key, clip, now)
            case Unblocked():
                # what a provider sent meanwhile waits unheard: its silence is measured from now
                self._unblocked_at = now
            case Admitted(plan):
                self._admitted(plan, now)
            case Binary():
                self._refuse(
                    Failure(Kind.BAD_REQUEST, "expected text messages with JSON, got a binary one")
                )
            case ClientLeft():
                self.report.left = True
                self._end()
                self._out.append(Close(1000))
        if self._later:
            self._take_later(now)
        out, self._out = self._out, []
        return out

    def _take_later(self, now: float) -> None:
        """Go on with what came for the next utterances, once the one before is done."""
        while self._later and not (
            self._over or self._waiting or (self._utterance and self._utterance.flushed)
        ):
            message = self._later.popleft()
            if isinstance(message, InputText):
                self._transcript(message, now)
            else:
                self._flush(now)

    # The client's side

    def _text(self, text: str, now: float) -> None:
        default_model = self._created.style.model if self._created else self._default_model
        message = read_message(text, default_model)
        match message:
            case Failure():
                self._refuse(message)
            case Create():
                self._create(message, now)
            case CloseSession():
                self._end()
                self._tell(self._encoder.session_closed, now)
                self._out.append(Close(1000))
            case _ if self._created is None:
                self._refuse(Failure(Kind.BAD_REQUEST, "type: expected session.create first"))
            case _ if self._waiting or (self._utterance is not None and self._utterance.flushed):
                if len(self._later) >= LATER_MAX:
                    self._refuse(
                        Failure(
                            Kind.BAD_REQUEST,
                            f"more than {LATER_MAX} messages before the end of an utterance",
                        )
                    )
                else:
                    self._later.append(message)
            case InputText():
                self._transcript(message, now)
            case Flush():
                self._flush(now)

    def _create(self, create: Create, now: float) -> None:
        if self._utterance is not None:
            self._refuse(
                Failure(Kind.BAD_REQUEST, "type: session.create in the middle of an utterance")
            )
            return
        plan = self._planning(create.style, create.fallback)
        if isinstance(plan, Failure):
            self._refuse(plan)
            return
        self._created = create
        if create.rounds is not None:
            rounds = create.rounds
            self._retries = replace(self._retries, rounds=rounds, rounds_alone=rounds)
        if create.timeout_s is not None:
            self._asked_s = min(create.timeout_s, self._config.last_audio_timeout_s)
        self._tell(self._encoder.created, now)
        self._prepare(self._breaker.order(plan, now)[0])

    def _prepare(self, attempt: Attempt) -> None:
        self._out.append(Prepare(attempt.provider, self._request(attempt)))

    def _request(self, attempt: Attempt) -> SpeechRequest:
        assert self._created is not None
        return SpeechRequest(
            attempt.model,
            attempt.voice,
            attempt.language,
            self._traits[attempt.provider].rate_for(self._created.sample_rate),
            attempt.options,
        )

    def _transcript(self, message: InputText, now: float) -> None:
        assert self._created is not None
        if self._utterance is None:
            self._utterance = Utterance(now)
            self._told_at = now
            self._hedges.earn()
        utterance = self._utterance
        utterance.chars += len(message.text)
        if utterance.chars > UTTERANCE_CHARS_MAX:
            self._refuse(
                Failure(
                    Kind.TOO_LARGE,
                    f"the utterance has more than {UTTERANCE_CHARS_MAX} characters",
                    param="transcript",
                    bound=Bound.UTTERANCE_CHARS,
                )
            )
            return
        if not speakable(message.text):
            return
        created = self._created.style
        style = Style(
            message.model or created.model,
            message.voice or created.voice,
            message.language or created.language,
            created.extra if message.extra is None else message.extra,
        )
        segment = utterance.segments[-1] if utterance.segments else None
        if segment is None or segment.style != style:
            plan = self._planning(style, self._created.fallback)
            if isinstance(plan, Failure):
                self._refuse(plan)
            elif self._charged:
                self._waiting = (style, message.text)
                asked, count = asked_name(style.model, plan), not utterance.admitted
                self._out.append(Admit(asked, plan, count, len(message.text)))
            else:
                self._begin_segment(style, plan, message.text, now)
            return
        segment.texts.append(message.text)
        self._advance(now)

    def _admitted(self, plan: Plan | Failure, now: float) -> None:
        """The quota has answered."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or self._utterance is None:
            return
        if isinstance(plan, Failure):
            self._refuse(plan)
            return
        self._utterance.admitted = True
        style, text = waiting
        self._begin_segment(style, plan, text, now)

    def _begin_segment(self, style: Style, plan: Plan, text: str, now: float) -> None:
        utterance = self._utterance
        assert utterance is not None
        if utterance.segments:
            utterance.segments[-1].closed = True
        segment = Segment(style, plan, Failover(plan, self._retries, self._breaker, now))
        utterance.segments.append(segment)
        segment.texts.append(text)
        self._advance(now)

    def _flush(self, now: float) -> None:
        if self._utterance is None:
            self._utterance = Utterance(now)
        utterance = self._utterance
        utterance.flushed = True
        if utterance.segments:
            utterance.segments[-1].closed = True
        elif utterance.chars:
            assert self._created is not None
            self._send(bytes(SAMPLE_BYTES * int(self._created.sample_rate * SILENCE_S)), now)
        self._advance(now)

    # Syntheses

    def _advance(self, now: float) -> None:
        """Give what is unsaid to the current synthesis or a new one; end what is complete."""
        utterance = self._utterance
        assert utterance is not None
        while utterance.segments:
            segment = utterance.segments[0]
            if self._current is not None:
                self._give(self._current, segment, now)
                if self._hedge is not None:
                    self._give(self._hedge, segment, now)
                return
            if not segment.unsaid:
                if not segment.closed:
                    return
                utterance.segments.popleft()
            elif self._must_wait(segment, now) or not self._begin_next(segment, now):
                return
        if utterance.flushed:
            self._done(now)

    def _must_wait(self, segment: Segment, now: float) -> bool:
        """Whether the next text cannot be given to a provider yet: there is a pause before the
        next round, or the cache is asked first."""
        if segment.waits_until is not None:
            return True
        if not self._config.cache.enabled or segment.next < segment.looked_up:
            return False
        assert self._created is not None
        text = segment.texts[segment.next]
        if len(text) > self._config.cache.text_chars:
            self._looked(segment, None)
            return False
        key = clip_key(segment.style, self._created.sample_rate, text)
        segment.lookup = LookUpPending(key, now + LOOK_UP_S_MAX)
        self._out.append(LookUp(key))
        return True

    def _looked(self, segment: Segment, clip: Clip | None) -> None:
        segment.lookup = None
        segment.looked_up = segment.next + 1
        self._out.append(Looked(clip is not None))

    def _found(self, key: str, clip: Clip | None, now: float) -> None:
        """The cache has answered."""
        utterance = self._utterance
        if utterance is None or not utterance.segments:
            return
        segment = utterance.segments[0]
        if segment.lookup is None or segment.lookup.key != key:
            return  # it was waited for no longer
        self._looked(segment, clip)
        if clip is not None:
            segment.next += 1
            self._play(utterance, clip, now)
        self._advance(now)

    def _play(self, utterance: Utterance, clip: Clip, now: float) -> None:
        """Say a text from the cache."""
        assert self._created is not None
        if utterance.first_audio_at is None:
            utterance.first_audio_at, utterance.provider = now, CACHE
        base_s = utterance.clock / self._created.sample_rate
        self._send(clip.pcm, now)
        if clip.words:
            self._tell(self._encoder.words(clip.words, base_s, self._space(True)), now)

    def _keep(self, synthesis: Synthesis, segment: Segment) -> None:
        """Keep what a complete synthesis has said. What another voice than the asked one said is
        not kept, and nothing that was made louder or quieter."""
        assert self._created is not None
        if synthesis.recording is None or synthesis.attempt != segment.plan[0]:
            return
        rate = self._created.sample_rate
        for text, clip in clips_of(synthesis, rate):
            if len(text) <= self._config.cache.text_chars:
                self._out.append(Keep(clip_key(segment.style, rate, text), clip))

    def _begin_next(self, segment: Segment, now: float) -> bool:
        """Ask the next provider. False: nobody is left, and the client was told."""
        attempt = segment.failover.next(now)
        if attempt is None:
            assert segment.failure is not None
            self._refuse(segment.failure)
            return False
        assert self._utterance is not None
        self._current = self._begin(segment, attempt, segment.next, now)
        self._utterance.envelope = None
        self._hedge_at = self._next_hedge(attempt, now)
        return True

    def _begin(self, segment: Segment, attempt: Attempt, first: int, now: float) -> Synthesis:
        """Start a synthesis with all texts from the one with index `first`."""
        assert self._utterance is not None
        assert self._created is not None
        self._number += 1
        synthesis = Synthesis(
            self._number,
            attempt,
            self._traits[attempt.provider],
            first,
            self._created.sample_rate,
            now,
            self._utterance.loudness_db if self._config.match_loudness else None,
        )
        synthesis.base = self._utterance.clock
        if self._config.cache.enabled:
            synthesis.recording = bytearray()
        self._breaker.began(attempt, now)
        self.report.note_left_out(attempt)
        self._out.append(Begin(synthesis.number, attempt.provider, self._request(attempt)))
        self._give(synthesis, segment, now)
        return synthesis

    def _give(self, synthesis: Synthesis, segment: Segment, now: float) -> None:
        """Say to `synthesis` what it was not given yet."""
        given = synthesis.first + len(synthesis.progress.texts)
        if not synthesis.finished and given < len(segment.texts):
            if synthesis.progress.nothing_pending(synthesis.sent_s):
                synthesis.waits_since = now
            chars_max = synthesis.traits.text_chars_max
            for text in segment.texts[given:]:
                parts = [part for part in split(text, chars_max) if speakable(part)]
                synthesis.progress.said(text, len(parts))
                self._out += [Say(synthesis.number, part) for part in parts]
            segment.next = len(segment.texts)
        if segment.closed and not synthesis.finished:
            synthesis.finished = True
            synthesis.waits_since = max(synthesis.waits_since, synthesis.heard_at)
            self._out.append(Finish(synthesis.number))

    def _spoke(self, number: int, heard: SynthesisEvent, now: float) -> None:
        synthesis = self._current
        if synthesis is None or synthesis.number != number:
            synthesis = self._hedge
            if synthesis is None or synthesis.number != number:
                return  # a late event of a synthesis that was cancelled
        match heard:
            case Audio():
                self._audio(synthesis, heard, now)
            case Words() | Chars():
                synthesis.timings(heard)
                self._align(synthesis, now)
            case PartSpoken():
                synthesis.progress.part_spoken(synthesis.sent_s)
            case Restart():
                synthesis.alignment.restart(synthesis.sent_s)
            case Rate(sample_rate):
                synthesis.rate(sample_rate)
            case Finished():
                self._finished(synthesis, now)
            case Failed(failure):
                self._failed(synthesis, failure, now)
            case Retried(failure):
                self._retried(synthesis, failure)
            case _:
                pass

    def _audio(self, synthesis: Synthesis, audio: Audio, now: float) -> None:
        pcm = synthesis.unwrapped(audio.pcm)
        if isinstance(pcm, str):
            self._out.append(CancelSynthesis(synthesis.number))
            why = f"the provider answered with {pcm} instead of samples of 16 bits"
            self._failed(synthesis, Failure(Kind.PROTOCOL_ERROR, why), now)
            return
        if not pcm:
            return
        if synthesis.first_audio_s is None:
            synthesis.first_audio_s = now - synthesis.began
            self._breaker.record_ttft(synthesis.attempt, synthesis.first_audio_s)
        synthesis.heard_at = now
        if self._hedge is not None:
            self._win(synthesis)
        pcm = synthesis.samples(pcm)
        unchanged = pcm is audio.pcm
        self._send_of(synthesis, pcm, now, audio.encoded if unchanged else None)

    def _win(self, winner: Synthesis) -> None:
        """The first of two to speak goes on alone. The other has not failed: it may be asked again
        for this segment, the hedge as the next, the first one after all others."""
        assert self._current is not None
        assert self._hedge is not None
        assert self._utterance is not None
        failover = self._utterance.segments[0].failover
        if winner is self._current:
            loser = self._hedge
            failover.instead(loser.attempt)
        else:
            loser = self._current
            failover.later(loser.attempt)
        self._breaker.cancelled(loser.attempt)
        self._out += [self._tried(loser, lost=True), CancelSynthesis(loser.number)]
        self._current, self._hedge = winner, None

    def _send_of(
        self, synthesis: Synthesis, pcm: bytes, now: float, encoded: str | None = None
    ) -> None:
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        if not pcm:
            return
        if utterance.first_audio_at is None:
            utterance.first_audio_at = now
            utterance.provider = synthesis.attempt.provider
        if utterance.envelope is None:
            utterance.envelope = Envelope(self._created.sample_rate)
        utterance.envelope.feed(pcm)
        synthesis.sent += len(pcm) // SAMPLE_BYTES
        synthesis.record(pcm)
        self._send(pcm, now, encoded)
        self._align(synthesis, now)

    def _send(self, pcm: bytes, now: float, encoded: str | None = None) -> None:
        """Whole samples; `encoded` is their base64, where it is known."""
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        rate = self._created.sample_rate
        bytes_max = int(rate * CHUNK_S) * SAMPLE_BYTES
        samples = len(pcm) // SAMPLE_BYTES
        length_s = samples / rate
        if encoded is not None and len(pcm) <= bytes_max:
            self._tell(self._encoder.encoded_audio(encoded), now, length_s)
        else:
            for chunk in chunks(pcm, bytes_max):
                self._tell(self._encoder.audio(chunk), now, len(chunk) // SAMPLE_BYTES / rate)
        plays_at = max(utterance.plays_until, now)
        if self._tells_sound:
            self._out.append(Sounded(pcm, rate, plays_at, utterance.clock == 0))
        utterance.clock += samples
        utterance.plays_until = plays_at + length_s
        utterance.last_sample = int.from_bytes(pcm[-SAMPLE_BYTES:], "little", signed=True)

    def _align(self, synthesis: Synthesis, now: float, *, everything: bool = False) -> None:
        assert self._created is not None
        words, chars = synthesis.due(everything)
        if not words and not chars:
            return
        base_s = synthesis.base / self._created.sample_rate
        if words:
            synthesis.keep_words(words)
            space = self._space(synthesis.alignment.spaced)
            self._tell(self._encoder.words(words, base_s, space), now)
        if chars:
            self._tell(self._encoder.chars(chars, base_s), now)

    def _space(self, spaced: bool) -> str:
        """What follows a word. The Python client adds the space by itself if its own model is
        Cartesia's, whoever speaks."""
        assert self._created is not None
        adds_space = self._created.style.model.startswith("cartesia")
        return " " if spaced and not adds_space else ""

    def _finished(self, synthesis: Synthesis, now: float) -> None:
        if synthesis is self._hedge:
            self._drop_hedge(Failure(Kind.PROTOCOL_ERROR, "the provider sent no audio"), now)
            return
        self._send_of(synthesis, synthesis.rest(), now)
        if not synthesis.sent:
            failure = Failure(Kind.PROTOCOL_ERROR, "the provider sent no audio for the text")
            self._failed(synthesis, failure, now)
            return
        self._align(synthesis, now, everything=True)
        self._ended_well(synthesis, now)

    def _ended_well(self, synthesis: Synthesis, now: float) -> None:
        utterance = self._utterance
        assert utterance is not None
        segment = utterance.segments[0]
        self._keep(synthesis, segment)
        segment.served_by(synthesis.attempt, now)
        self._out.append(self._tried(synthesis))
        utterance.last = synthesis.attempt
        # a provider that ends before it was asked to has still spoken what it was given
        segment.next = synthesis.first + len(synthesis.progress.texts)
        self._current = None
        self._advance(now)

    # Failures

    def _retried(self, synthesis: Synthesis, failure: Failure) -> None:
        """A kept connection was found dead, and the provider asked over a new one. That is a try;
        the breaker counts it only if the new connection fails as well, for a provider that closes
        idle connections is not ill."""
        assert self._utterance is not None
        synthesis.retried = replace(failure, provider=synthesis.attempt.provider)
        self._out.append(self._tried(synthesis, synthesis.retried))

    @staticmethod
    def _tried(
        synthesis: Synthesis,
        failure: Failure | None = None,
        *,
        switched: bool = False,
        lost: bool = False,
        left: bool = False,
    ) -> Tried:
        return Tried(
            synthesis.attempt.provider,
            synthesis.attempt.model,
            failure,
            switched,
            synthesis.began,
            synthesis.first_audio_s,
            synthesis.hedge,
            lost,
            left,
            synthesis.attempt,
            sum(map(len, synthesis.progress.texts)),
            synthesis.sent_s,
        )

    def _tell_breaker(self, synthesis: Synthesis, failure: Failure, now: float) -> None:
        for one in (synthesis.retried, failure):
            if one is not None:
                self._breaker.failed(synthesis.attempt, one, now, id(self.report))

    def _failed(self, synthesis: Synthesis, failure: Failure, now: float) -> None:
        if synthesis is self._hedge:
            self._drop_hedge(failure, now)
            return
        utterance = self._utterance
        assert utterance is not None
        segment = utterance.segments[0]
        failure = segment.failure = replace(failure, provider=synthesis.attempt.provider)
        self._tell_breaker(synthesis, failure, now)
        self._current = None
        segment.next = synthesis.first
        if synthesis.sent:
            self._break_seam(synthesis, segment, now)
        if segment.closed and not segment.unsaid:
            # all of it was spoken, only the provider's word that it is done is missing
            self._out.append(self._tried(synthesis, failure))
            self._advance(now)
            return
        outcome = segment.failover.failed(synthesis.attempt, failure, now)
        if self._hedge is not None:
            self._out.append(self._tried(synthesis, failure, switched=True))
            self._current, self._hedge = self._hedge, None
            self._hedge_at = self._next_hedge(self._current.attempt, now)
            return
        if isinstance(outcome, Exhausted) and segment.unsaid:
            self._out.append(self._tried(synthesis, failure))
            self._refuse(outcome.failure)
            return
        self._out.append(self._tried(synthesis, failure, switched=True))
        if isinstance(outcome, Exhausted):
            segment.replan(now)  # nothing is missing yet, so the client need not know
        elif outcome.at > now:
            segment.retry_at = outcome.at
        self._advance(now)

    def _break_seam(self, synthesis: Synthesis, segment: Segment, now: float) -> None:
        """The voice broke off after some audio: judge what was spoken, and fade to silence."""
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        envelope = utterance.envelope
        spoken = synthesis.progress.spoken(
            synthesis.sent_s, envelope.pauses if envelope is not None else lambda _: []
        )
        segment.next = synthesis.first + spoken
        if envelope is not None:
            utterance.loudness_db = utterance.loudness_db or envelope.loudness_db()
        if utterance.last_sample:
            samples = int(self._created.sample_rate * SEAM_S)
            self._send(ramp_to_zero(utterance.last_sample, samples), now)

    def _drop_hedge(self, failure: Failure, now: float) -> None:
        """The hedge has failed; the first one still has its time."""
        assert self._utterance is not None
        assert self._hedge is not None
        hedge, self._hedge = self._hedge, None
        failure = replace(failure, provider=hedge.attempt.provider)
        self._tell_breaker(hedge, failure, now)
        self._out.append(self._tried(hedge, failure))
        self._utterance.segments[0].failover.failed(hedge.attempt, failure, now)
        self._hedge_at = now  # another may take its place, within the budget

    # The end of an utterance

    def _done(self, now: float) -> None:
        """The utterance is complete: the last byte has been sent."""
        self._note()
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        self._tell(self._encoder.done, now)
        self.report.utterances += 1
        if utterance.last is not None:
            self._prepare(utterance.last)

    def _note(self) -> None:
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        if utterance.chars:
            first = utterance.first_audio_at
            self._out.append(
                Spoken(
                    utterance.provider,
                    None if first is None else first - utterance.began,
                    utterance.clock / self._created.sample_rate,
                    utterance.chars,
                )
            )

    # Time

    def _fails_at(self) -> float:
        """When the current synthesis is given up for its silence."""
        synthesis = self._current
        if synthesis is None:
            return _NEVER
        utterance = self._utterance
        assert utterance is not None
        config = self._config
        # who has no successor is waited for: asking the same one again would begin anew
        failover = utterance.segments[0].failover
        alone = self._hedge is None and not failover.has_others(synthesis.attempt)
        if not synthesis.sent and synthesis.heard_at == synthesis.began:
            wait_s = config.last_audio_timeout_s if alone else config.first_audio_timeout_s
            wait_s = wait_s if self._asked_s is None else self._asked_s
            return max(synthesis.waits_since, self._unblocked_at) + wait_s
        if not synthesis.finished and synthesis.progress.nothing_pending(synthesis.sent_s):
            return _NEVER  # the writer is slow, not the speaker
        wait_s = config.last_audio_timeout_s if alone else config.hole_timeout_s
        since = max(synthesis.heard_at, synthesis.waits_since, self._unblocked_at)
        # who has delivered far ahead of the listener has time to think
        ahead_s = utterance.plays_until - AHEAD_S - since
        return since + max(wait_s, min(ahead_s, config.last_audio_timeout_s))

    def _next_hedge(self, attempt: Attempt, now: float) -> float:
        """When a second provider may be asked beside `attempt`, which starts now."""
        hedge = self._config.hedge
        if not hedge.enabled:
            return _NEVER
        if hedge.after_s is not None:
            return now + hedge.after_s
        p95_s = self._breaker.ttft_p95_s(attempt)
        return _NEVER if p95_s is None else now + max(p95_s, HEDGE_S_MIN)

    def _hedges_at(self) -> float:
        current, utterance = self._current, self._utterance
        if (
            self._hedge_at == _NEVER
            or current is None
            or utterance is None
            or self._hedge is not None
            or utterance.first_audio_at is not None
            or not any(
                other.provider != current.attempt.provider
                for other in utterance.segments[0].failover.left
            )
        ):
            return _NEVER
        return self._hedge_at

    def _ask_beside(self, now: float) -> None:
        """Ask a second provider while the first is silent, if the budget allows it."""
        self._hedge_at = _NEVER
        assert self._current is not None
        assert self._utterance is not None
        if not self._hedges.spend():
            return
        segment, current = self._utterance.segments[0], self._current
        other = segment.failover.next(
            now, free=lambda attempt: attempt.provider != current.attempt.provider
        )
        assert other is not None
        self._hedge = self._begin(segment, other, current.first, now)
        self._hedge.hedge = True

    def _expires_at(self) -> float:
        """When the current context has to be finished before its provider drops it."""
        synthesis = self._current
        if synthesis is None or synthesis.finished or not synthesis.sent:
            return _NEVER
        if synthesis.traits.expires_s is None:
            return _NEVER
        return max(synthesis.heard_at, synthesis.waits_since) + synthesis.traits.expires_s

    def _resumes_at(self) -> float:
        """When the next synthesis starts, if something is waited for before it."""
        utterance = self._utterance
        if self._current is not None or utterance is None or not utterance.segments:
            return _NEVER
        waits_until = utterance.segments[0].waits_until
        return _NEVER if waits_until is None else waits_until

    def _resume(self, now: float) -> None:
        """A pause is over, or the cache has not answered in time."""
        assert self._utterance is not None
        segment = self._utterance.segments[0]
        if segment.lookup is not None:
            self._looked(segment, None)
        else:
            segment.retry_at = None
        self._advance(now)

    def _woken(self, now: float) -> None:
        if self._utterance is None:
            if now >= self._idle_at:
                why = f"nothing came from the client for {self._idle_s:g} s"
                self.report.failure = Failure(Kind.IDLE, why, bound=Bound.SESSION_IDLE)
                self._end()
                self._out.append(Close(1001, "idle"))
            return
        if now >= self._resumes_at():
            self._resume(now)
        if now >= self._expires_at():
            assert self._current is not None
            self._current.finished = True
            self._out.append(Finish(self._current.number))
        if now >= self._fails_at():
            assert self._current is not None
            what = "next part of its audio" if self._current.sent else "first audio"
            self._out.append(CancelSynthesis(self._current.number, suspect=True))
            failure = Failure(Kind.TIMEOUT, f"the provider did not send the {what} in time")
            self._failed(self._current, failure, now)
        elif now >= self._hedges_at():
            self._ask_beside(now)
        if not self._over and now >= self._told_at + self._config.keepalive_s:
            self._tell(self._encoder.keepalive, now)

    # Ends

    def _tell(self, text: str, now: float, audio_s: float = 0.0) -> None:
        self._told_at = now
        self._out.append(SendToClient(text, audio_s))

    def _refuse(self, failure: Failure) -> None:
        """Tell the client what went wrong. It drops its socket then, and so do we."""
        self.report.failure = failure
        self._out.append(SendToClient(self._encoder.error(failure)))
        self._end()
        self._out.append(Close(1008 if failure.status < 429 else 1011, failure.kind.value))

    def settle(self) -> list[Tried | Spoken]:
        """The client's connection has gone without a word to the session: what is to be counted of
        what was under way."""
        if not self._over:
            self._end()
        out, self._out = self._out, []
        return [action for action in out if isinstance(action, Tried | Spoken)]

    def _end(self) -> None:
        """Nothing more is done. An utterance that is cut short counts as far as it came: its
        providers bill it."""
        self._over = True
        under_way = [one for one in (self._current, self._hedge) if one is not None]
        self._out += [self._tried(synthesis, left=True) for synthesis in under_way]
        if self._utterance is not None:
            self._note()
        for synthesis in under_way:
            self._breaker.cancelled(synthesis.attempt)
            self._out.append(CancelSynthesis(synthesis.number))
        self._current = self._hedge = self._utterance = None
