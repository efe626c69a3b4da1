"""/tts: what to do, and when. Pure: events in, actions out.

An utterance is a row of passages (texts in one style, mostly just one). A passage is spoken by a
speech at a time; when that fails, another speech by the next provider of the plan goes on with the
first sentence that was not fully spoken.
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
    Begin,
    CancelSynthesis,
    Close,
    Event,
    Finish,
    Looked,
    Prepare,
    Say,
    SendToClient,
    Spoke,
    Spoken,
    Stalled,
    Tried,
)
from gateway.conversations.tts.clips import Clip, Clips
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
from gateway.routing.breaker import Breaker
from gateway.settings.tts import TtsConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text
from gateway.upstreams.plan import Attempt, Plan, left_after
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Chars,
    Failed,
    Finished,
    PartSpoken,
    Rate,
    Restart,
    SpeechRequest,
    SynthesisEvent,
    Words,
)

CHUNK_S: Final = 0.1
"""Longest piece of audio in one message."""

UTTERANCE_CHARS_MAX: Final = 100_000
"""Two hours of speech; what wants more is no utterance."""

LATER_MAX: Final = 256
"""Messages that may come for the next utterances while one is being spoken."""

CACHE: Final = "cache"
"""In place of a provider, for what is said from the cache."""

SILENCE_S: Final = 0.02
"""Sent for a text without a letter: the clients take an utterance without audio for a failure."""

SEAM_S: Final = 0.005
"""A voice that breaks off glides to silence in this time."""

AHEAD_S: Final = 1.0
"""A hole is mended at the latest so long before the listener runs out of audio."""

HOLE_S_MAX: Final = 8.0
"""A hole is mended after so long, however much audio the listener still has."""

_NEVER: Final = float("inf")


Planning = Callable[[Style, tuple[Style, ...]], Plan | Failure]


@dataclass(slots=True)
class _Segment:
    """Texts in one style. `next` is the first that no speech was given yet; `closed` says that
    no more come; `choice` is what was asked for, whoever is asked first today."""

    style: Style
    plan: Plan
    choice: Attempt
    texts: list[str] = field(default_factory=list)
    next: int = 0
    closed: bool = False


@dataclass(slots=True)
class _Utterance:
    began: float
    passages: deque[_Segment] = field(default_factory=deque)
    flushed: bool = False
    chars: int = 0
    clock: int = 0
    """Samples sent."""
    first_audio_at: float | None = None
    provider: str | None = None
    speeches: int = 0
    loudness_db: float | None = None
    """Of a voice that broke off; who goes on shall be as loud."""
    last_sample: int = 0
    envelope: Envelope | None = None
    """Of the current speech."""
    last: Attempt | None = None
    """Who spoke last, to the end."""


@dataclass(slots=True)
class Report:
    """What happened, for the log."""

    utterances: int = 0
    failure: Failure | None = None
    left: bool = False


class TtsSession:
    """One connection of a client."""

    def __init__(
        self,
        session_id: str,
        planning: Planning,
        traits: Mapping[str, Capabilities],
        health: Breaker,
        config: TtsConfig,
        default_model: str | None,
        idle_s: float,
        now: float,
        clips: Clips | None = None,
    ) -> None:
        self._clips = clips
        self._said = Encoder(session_id)
        self._planning = planning
        self._traits = traits
        self._health = health
        self._config = config
        self._default_model = default_model
        self._idle_s = idle_s
        self._idle_at = now + idle_s
        self._created: Create | None = None
        self._later: deque[InputText | Flush] = deque()
        self._utterance: _Utterance | None = None
        self._voice: Synthesis | None = None
        self._rival: Synthesis | None = None
        self._number = 0
        self._told_at = now
        self._over = False
        self._out: list[Action] = []
        self.report = Report()

    @property
    def deadline(self) -> float | None:
        if self._over:
            return None
        utterance = self._utterance
        if utterance is None:
            return self._idle_at
        return min(
            self._told_at + self._config.keepalive_s,
            self._fails_at(),
            self._hedges_at(),
            self._expires_at(),
        )

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
            case Binary():
                self._refuse(
                    Failure(Kind.BAD_REQUEST, "expected text messages with JSON, got a binary one")
                )
            case ClientLeft():
                self.report.left = True
                self._end()
                self._out.append(Close(1000))
            case Stalled():
                self.report.left = True
                self._end()
                self._out.append(Close(1008, "the audio was not read"))
        self._take_later(now)
        out, self._out = self._out, []
        return out

    def _take_later(self, now: float) -> None:
        """Go on with what came for the next utterances, once the one before is done."""
        while self._later and not (self._over or (self._utterance and self._utterance.flushed)):
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
                self._tell(self._said.session_closed, now)
                self._out.append(Close(1000))
            case _ if self._created is None:
                self._refuse(Failure(Kind.BAD_REQUEST, "type: expected session.create first"))
            case _ if self._utterance is not None and self._utterance.flushed:
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
        self._tell(self._said.created, now)
        self._prepare(self._health.order(plan, now)[0])

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
            self._utterance = _Utterance(now)
            self._told_at = now
        utterance = self._utterance
        utterance.chars += len(message.text)
        if utterance.chars > UTTERANCE_CHARS_MAX:
            self._refuse(
                Failure(
                    Kind.TOO_LARGE,
                    f"the utterance has more than {UTTERANCE_CHARS_MAX} characters",
                    param="transcript",
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
        passage = utterance.passages[-1] if utterance.passages else None
        if passage is None or passage.style != style:
            plan = self._planning(style, self._created.fallback)
            if isinstance(plan, Failure):
                self._refuse(plan)
                return
            if passage is not None:
                passage.closed = True
            passage = _Segment(style, self._health.order(plan, now), plan[0])
            utterance.passages.append(passage)
        passage.texts.append(message.text)
        self._advance(now)

    def _flush(self, now: float) -> None:
        if self._utterance is None:
            self._utterance = _Utterance(now)
        utterance = self._utterance
        utterance.flushed = True
        if utterance.passages:
            utterance.passages[-1].closed = True
        elif utterance.chars:
            assert self._created is not None
            self._send(bytes(SAMPLE_BYTES * int(self._created.sample_rate * SILENCE_S)), now)
        self._advance(now)

    # Speeches

    def _advance(self, now: float) -> None:
        """Give what is unsaid to the current speech or a new one; end what is complete."""
        utterance = self._utterance
        assert utterance is not None
        while utterance.passages:
            passage = utterance.passages[0]
            if self._voice is None:
                if passage.next < len(passage.texts):
                    if self._play(passage, now):
                        continue
                    self._voice = self._begin(passage, passage.plan[0], now)
                    utterance.envelope = None
                elif passage.closed:
                    utterance.passages.popleft()
                    continue
                return
            self._give(self._voice, passage, now)
            if self._rival is not None:
                self._give(self._rival, passage, now)
            return
        if utterance.flushed:
            self._done(now)

    def _play(self, passage: _Segment, now: float) -> bool:
        """Say the next text from the cache, if it is there."""
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        if self._clips is None:
            return False
        rate = self._created.sample_rate
        clip = self._clips.get(passage.style, rate, passage.texts[passage.next])
        self._out.append(Looked(clip is not None))
        if clip is None:
            return False
        passage.next += 1
        if utterance.first_audio_at is None:
            utterance.first_audio_at, utterance.provider = now, CACHE
        base_s = utterance.clock / rate
        self._send(clip.pcm, now)
        if clip.words:
            self._tell(self._said.words(clip.words, base_s, self._space(True)), now)
        return True

    def _record(self, speech: Synthesis, passage: _Segment) -> None:
        """Keep what a complete speech has said, sentence by sentence. What another voice than the
        asked one said is not kept, and nothing that was made louder or quieter."""
        assert self._created is not None
        if self._clips is None or speech.recording is None or speech.attempt != passage.choice:
            return
        rate = self._created.sample_rate
        ends = speech.progress.ends(speech.sent_s)
        if ends is None:
            return
        begins = 0
        words = list(speech.spoken_words)
        for text, end_s in zip(speech.progress.texts, ends, strict=True):
            end = round(end_s * rate)
            start_s = begins / rate
            mine = [word for word in words if start_s <= word.start < end_s]
            shifted = tuple(
                replace(word, start=word.start - start_s, end=word.end - start_s) for word in mine
            )
            pcm = bytes(speech.recording[begins * SAMPLE_BYTES : end * SAMPLE_BYTES])
            self._clips.put(passage.style, rate, text, Clip(pcm, shifted))
            begins = end

    def _begin(self, passage: _Segment, attempt: Attempt, now: float) -> Synthesis:
        assert self._utterance is not None
        assert self._created is not None
        self._number += 1
        self._utterance.speeches += 1
        speech = Synthesis(
            self._number,
            attempt,
            self._traits[attempt.provider],
            passage.next,
            self._created.sample_rate,
            now,
            self._utterance.loudness_db if self._config.match_loudness else None,
        )
        speech.base = self._utterance.clock
        if self._clips is not None:
            speech.recording = bytearray()
        self._health.began(attempt, now)
        self._out.append(Begin(speech.number, attempt.provider, self._request(attempt)))
        self._give(speech, passage, now)
        return speech

    def _give(self, speech: Synthesis, passage: _Segment, now: float) -> None:
        """Say to `speech` what it was not given yet."""
        given = speech.first + len(speech.progress.texts)
        if not speech.finished and given < len(passage.texts):
            if speech.progress.nothing_pending(speech.sent_s):
                speech.waits_since = now
            for text in passage.texts[given:]:
                parts = [
                    part for part in split(text, speech.traits.text_chars_max) if speakable(part)
                ]
                speech.progress.said(text, len(parts))
                self._out += [Say(speech.number, part) for part in parts]
            passage.next = max(passage.next, len(passage.texts))
        if passage.closed and not speech.finished:
            speech.finished = True
            speech.waits_since = max(speech.waits_since, speech.heard_at)
            self._out.append(Finish(speech.number))

    def _spoke(self, number: int, heard: SynthesisEvent, now: float) -> None:
        speech = self._voice
        if speech is None or speech.number != number:
            speech = self._rival
            if speech is None or speech.number != number:
                return  # late words of a speech that was let go
        match heard:
            case Audio(pcm):
                self._audio(speech, pcm, now)
            case Words() | Chars():
                speech.timings(heard)
                self._align(speech, now)
            case PartSpoken():
                speech.progress.part_spoken(speech.sent_s)
            case Restart():
                speech.alignment.restart(speech.sent_s)
            case Rate(sample_rate):
                speech.rate(sample_rate)
            case Finished():
                self._finished(speech, now)
            case Failed(failure):
                self._failed(speech, failure, now)
            case _:
                pass

    def _audio(self, speech: Synthesis, pcm: bytes, now: float) -> None:
        if not pcm:
            return
        speech.heard_at = now
        if self._rival is not None:
            self._win(speech)
        self._send_of(speech, speech.samples(pcm), now)

    def _win(self, speech: Synthesis) -> None:
        """The first of two to speak goes on alone; the other stays in the plan as the last."""
        assert self._voice is not None
        assert self._utterance is not None
        if speech is self._voice:
            assert self._rival is not None
            self._out.append(CancelSynthesis(self._rival.number))
        else:
            self._out.append(CancelSynthesis(self._voice.number))
            passage = self._utterance.passages[0]
            passage.plan = (*passage.plan[1:], passage.plan[0])
            self._voice = speech
        self._rival = None

    def _send_of(self, speech: Synthesis, pcm: bytes, now: float) -> None:
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        if not pcm:
            return
        if utterance.first_audio_at is None:
            utterance.first_audio_at = now
            utterance.provider = speech.attempt.provider
        if utterance.envelope is None:
            utterance.envelope = Envelope(self._created.sample_rate)
        utterance.envelope.feed(pcm)
        speech.sent += len(pcm) // SAMPLE_BYTES
        speech.record(pcm)
        self._send(pcm, now)
        self._align(speech, now)

    def _send(self, pcm: bytes, now: float) -> None:
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        rate = self._created.sample_rate
        for chunk in chunks(pcm, int(rate * CHUNK_S) * SAMPLE_BYTES):
            samples = len(chunk) // SAMPLE_BYTES
            utterance.clock += samples
            self._tell(self._said.audio(chunk), now, samples / rate)
        utterance.last_sample = int.from_bytes(pcm[-SAMPLE_BYTES:], "little", signed=True)

    def _align(self, speech: Synthesis, now: float, *, everything: bool = False) -> None:
        assert self._created is not None
        words, chars = speech.due(everything)
        if not words and not chars:
            return
        base_s = speech.base / self._created.sample_rate
        if words:
            speech.keep_words(words)
            self._tell(self._said.words(words, base_s, self._space(speech.alignment.spaced)), now)
        if chars:
            self._tell(self._said.chars(chars, base_s), now)

    def _space(self, spaced: bool) -> str:
        """What follows a word. The Python client adds the space by itself if its own model is
        Cartesia's, whoever speaks."""
        assert self._created is not None
        adds_space = self._created.style.model.startswith("cartesia")
        return " " if spaced and not adds_space else ""

    def _finished(self, speech: Synthesis, now: float) -> None:
        if speech is self._rival:
            self._drop_rival(Failure(Kind.PROTOCOL_ERROR, "the provider sent no audio"), now)
            return
        self._send_of(speech, speech.rest(), now)
        if not speech.sent:
            failure = Failure(Kind.PROTOCOL_ERROR, "the provider sent no audio for the text")
            self._failed(speech, failure, now)
            return
        self._align(speech, now, everything=True)
        assert self._utterance is not None
        self._record(speech, self._utterance.passages[0])
        self._ended_well(speech, now)

    def _ended_well(self, speech: Synthesis, now: float) -> None:
        utterance = self._utterance
        assert utterance is not None
        self._health.worked(speech.attempt)
        self._out.append(Tried(speech.attempt.provider, None))
        utterance.last = speech.attempt
        passage = utterance.passages[0]
        # a provider that ends before it was asked to has still spoken what it was given
        passage.next = speech.first + len(speech.progress.texts)
        self._voice = None
        self._advance(now)

    def _remember_loudness(self) -> None:
        utterance = self._utterance
        assert utterance is not None
        if utterance.envelope is not None:
            loudness_db = utterance.envelope.loudness_db()
            utterance.loudness_db = utterance.loudness_db or loudness_db

    def _failed(self, speech: Synthesis, failure: Failure, now: float) -> None:
        if speech is self._rival:
            self._drop_rival(failure, now)
            return
        utterance = self._utterance
        assert utterance is not None
        passage = utterance.passages[0]
        failure = replace(failure, provider=speech.attempt.provider)
        self._health.failed(speech.attempt, failure, now)
        self._voice = None
        passage.plan = left_after(failure, passage.plan[0], passage.plan[1:])
        passage.next = speech.first
        if speech.sent:
            self._break_seam(speech, passage, now)
        if passage.next >= len(passage.texts) and passage.closed:
            # all of it was spoken, only the goodbye is missing
            self._out.append(Tried(speech.attempt.provider, failure))
            self._rival = None
            self._advance(now)
            return
        rival, self._rival = self._rival, None
        if rival is not None and passage.plan and passage.plan[0] == rival.attempt:
            self._out.append(Tried(speech.attempt.provider, failure, switched=True))
            self._voice = rival
            return
        if rival is not None:
            self._out.append(CancelSynthesis(rival.number))
        if not passage.plan and passage.next >= len(passage.texts):
            passage.plan = (speech.attempt,)  # nothing is missing yet, so nobody need hear of it
        if not passage.plan:
            self._out.append(Tried(speech.attempt.provider, failure))
            self._refuse(failure)
            return
        self._out.append(Tried(speech.attempt.provider, failure, switched=True))
        self._advance(now)

    def _break_seam(self, speech: Synthesis, passage: _Segment, now: float) -> None:
        """The voice broke off after some audio: judge what was spoken, and glide to silence."""
        utterance = self._utterance
        assert utterance is not None
        assert self._created is not None
        envelope = utterance.envelope
        spoken = speech.progress.spoken(
            speech.sent_s, envelope.pauses if envelope is not None else lambda _: []
        )
        passage.next = speech.first + spoken
        self._remember_loudness()
        if utterance.last_sample:
            samples = int(self._created.sample_rate * SEAM_S)
            self._send(ramp_to_zero(utterance.last_sample, samples), now)

    def _drop_rival(self, failure: Failure, now: float) -> None:
        assert self._utterance is not None
        assert self._rival is not None
        passage = self._utterance.passages[0]
        failure = replace(failure, provider=self._rival.attempt.provider)
        self._health.failed(self._rival.attempt, failure, now)
        self._out.append(Tried(self._rival.attempt.provider, failure))
        passage.plan = (passage.plan[0], *left_after(failure, passage.plan[1], passage.plan[2:]))
        self._rival = None

    def _done(self, now: float) -> None:
        """The utterance is complete: the last byte has been sent."""
        self._note()
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        self._tell(self._said.done, now)
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
                    utterance.speeches,
                )
            )

    # Time

    def _fails_at(self) -> float:
        """When the current speech is given up for its silence."""
        speech = self._voice
        if speech is None:
            return _NEVER
        utterance = self._utterance
        assert utterance is not None
        # who has no successor is waited for: asking the same one again would begin anew
        alone = all(one == speech.attempt for one in utterance.passages[0].plan)
        if not speech.sent and speech.heard_at == speech.began:
            config = self._config
            wait_s = config.last_audio_timeout_s if alone else config.first_audio_timeout_s
            return speech.waits_since + wait_s
        if not speech.finished and speech.progress.nothing_pending(speech.sent_s):
            return _NEVER  # the writer is slow, not the speaker
        assert self._created is not None
        wait_s = self._config.last_audio_timeout_s if alone else self._config.hole_timeout_s
        since = max(speech.heard_at, speech.waits_since)
        if utterance.first_audio_at is not None:
            plays_until = utterance.first_audio_at + utterance.clock / self._created.sample_rate
            wait_s = max(wait_s, min(plays_until - AHEAD_S - since, HOLE_S_MAX))
        return since + wait_s

    def _hedges_at(self) -> float:
        speech, utterance = self._voice, self._utterance
        wait_s = self._config.hedge_after_s
        if (
            wait_s is None
            or speech is None
            or utterance is None
            or self._rival is not None
            or utterance.first_audio_at is not None
            or len(utterance.passages[0].plan) < 2
            or utterance.passages[0].plan[1].provider == speech.attempt.provider
        ):
            return _NEVER
        return speech.began + wait_s

    def _expires_at(self) -> float:
        """When the current context has to be ended before its provider does so."""
        speech = self._voice
        if speech is None or speech.finished or speech.traits.expires_s is None or not speech.sent:
            return _NEVER
        return max(speech.heard_at, speech.waits_since) + speech.traits.expires_s

    def _woken(self, now: float) -> None:
        if self._utterance is None:
            if now >= self._idle_at:
                self._end()
                self._out.append(Close(1001, "idle"))
            return
        if now >= self._expires_at():
            assert self._voice is not None
            self._voice.finished = True
            self._out.append(Finish(self._voice.number))
        if now >= self._fails_at():
            assert self._voice is not None
            what = "next part of its audio" if self._voice.sent else "first audio"
            self._out.append(CancelSynthesis(self._voice.number))
            failure = Failure(Kind.TIMEOUT, f"the provider did not send the {what} in time")
            self._failed(self._voice, failure, now)
        elif now >= self._hedges_at():
            assert self._voice is not None
            passage = self._utterance.passages[0]
            given, passage.next = passage.next, self._voice.first
            self._rival = self._begin(passage, passage.plan[1], now)
            passage.next = given
        if not self._over and now >= self._told_at + self._config.keepalive_s:
            self._tell(self._said.keepalive, now)

    # Ends

    def _tell(self, text: str, now: float, audio_s: float = 0.0) -> None:
        self._told_at = now
        self._out.append(SendToClient(text, audio_s))

    def _refuse(self, failure: Failure) -> None:
        """The client hears what went wrong. It drops its socket then, and so do we."""
        self.report.failure = failure
        self._out.append(SendToClient(self._said.error(failure)))
        if self._utterance is not None:
            self._note()
        self._end()
        self._out.append(Close(1008 if failure.status < 429 else 1011, failure.kind.value))

    def _end(self) -> None:
        self._over = True
        for speech in (self._voice, self._rival):
            if speech is not None:
                self._health.cancelled(speech.attempt)
                self._out.append(CancelSynthesis(speech.number))
        self._voice = self._rival = None
