"""A cascade: what the client and the parts say goes in, what they are told comes out. Pure.

Two clocks run through it. `_input_ms` is how much audio the client has sent: moments of the input
(speech, words, items) are told in it. `now` is the time of day's, by which the caller hears what
was sent: `Sound.heard_ms`. Numbers of answers grow, so that a late word is known as such.

Turns. With `turn_detection` the voice detector opens an utterance. It ends after a silence
(`server_vad`), or when the model of turns says so in a pause (`semantic_vad`). Without, the client
commits. A committed turn is an item at once, and has its words once the recogniser has told them;
then it is answered.

Interruptions. While a response is heard, somebody who begins to speak is not told to the client: at
`speech_started` clients stop to play. The model of interruptions looks at the overlap ten times a
second. Once it says that the caller means it, speech has started, the response is cancelled, and of
its item only what was heard stays. What is none ("mhm") leaves no trace.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pybase64

from gateway.audio import g711
from gateway.conversations.messages import bad_request
from gateway.conversations.realtime.cascade import protocol
from gateway.conversations.realtime.cascade.history import History, Item, item_of, messages
from gateway.conversations.realtime.cascade.parts import (
    AskInterruption,
    AskModel,
    AskTurn,
    Finalize,
    Finalized,
    Guessed,
    Hear,
    Heard,
    HearingFailed,
    Interrupts,
    Listen,
    ModelDone,
    ModelFailed,
    ModelSaid,
    Order,
    Part,
    SaidAll,
    Say,
    Speech,
    Spoke,
    SpokeWords,
    StopModel,
    StopSaying,
    Tell,
    Trouble,
    TurnEnds,
    VoiceDone,
    VoiceFailed,
)
from gateway.conversations.realtime.cascade.protocol import (
    PREFIX_MS,
    AppendAudio,
    CancelResponse,
    ClearAudio,
    ClearOutput,
    CommitAudio,
    CreateItem,
    CreateResponse,
    DeleteItem,
    RetrieveItem,
    ServerVad,
    Settings,
    TruncateItem,
    UpdateSession,
)
from gateway.conversations.realtime.cascade.reply import Reply
from gateway.conversations.realtime.cascade.turns import Change, Silences, SpeechGate
from gateway.upstreams.errors import Failure
from gateway.upstreams.events import DeadlinePassed, Text

COMMIT_MS_MIN: Final = 100.0
"""A client that commits less has committed nothing, as OpenAI has it."""

WORDS_S_MAX: Final = 8.0
"""A recogniser that has not told all words by then is not waited for: the turn has what it told."""

WINDOW_BEFORE_MS: Final = 1000.0
WINDOW_MS_MAX: Final = 3000.0
"""What the model of interruptions hears: so much before the overlap, and so much altogether."""

OVERLAP_END_MS: Final = 500.0
"""A silence of so long ends an overlap, however long one has to be that ends a turn."""

ANSWER_S_MAX: Final = 1.5
"""Who speaks, and is silent again, so shortly before the end of a response has answered it, whether
or not they meant to interrupt."""

UNJUDGED_MAX: Final = 2
"""Questions of one overlap that the model of interruptions leaves without an answer; then whoever
speaks interrupts."""

ASK_EVERY_MS: Final = 100.0
"""It is asked again after so much new audio."""

TURNS_MAX: Final = 32
"""Committed turns that wait for their words; with more, the oldest have what was told so far."""

WORDS_KEPT: Final = 256
"""Pieces of words that belong to no turn yet; with more, the oldest are forgotten."""

REACHES_MS: Final = 200.0
"""Words that end so shortly before the speech did reach to its end: a word more takes longer."""

EARLY_MS: Final = 250.0
"""A recogniser's times are so far off at most: words that end earlier belong to the turn before."""

HEARD_S: Final = 0.3
"""So much longer than the audio lasts a response may be heard: it takes its time on the way."""

NOTHING_SAID: Final = "A call has begun. Greet the caller."
"""Instructions for a response where there are none, and no item."""

Event = Text | Part | DeadlinePassed


@dataclass(slots=True)
class _Turn:
    """What the caller said from `start_ms` to `end_ms` of the input. `answers`: whether it is
    answered once its words are known, by `by` on the clock at the latest. `spoken_until_ms`: where
    the voice detector heard the last of it."""

    item: Item
    start_ms: float
    end_ms: float
    answers: bool
    by: float
    spoken_until_ms: float | None = None
    told: str = ""


@dataclass(slots=True)
class _Utterance:
    """What the caller is saying. `item_id` is that of the item it will be; `asked_silence` the
    pause in which the model of turns was asked."""

    item_id: str
    start_ms: float
    question: int = 0


@dataclass(slots=True)
class _Overlap:
    """Speech over a response of which nobody knows yet whether it is meant to interrupt."""

    start_ms: float
    asked_ms: float = 0.0
    question: int = 0
    waits: bool = False
    unjudged: int = 0
    ended_ms: float | None = None


class Cascade:
    """One session. `unique` is in the ids of all that is made here."""

    def __init__(self, unique: str, settings: Settings) -> None:
        self._unique = unique
        self._numbers = 0
        self._out: list[Order] = []
        self.session_id = self._new_id("sess")
        self._conversation_id = self._new_id("conv")
        self._settings = settings
        self._history = History()
        self._gate = SpeechGate()
        self._input_ms = 0.0
        self._begin_ms = 0.0  # of the input buffer
        self._utterance: _Utterance | None = None
        self._overlap: _Overlap | None = None
        self._turns: deque[_Turn] = deque()
        self._overdue = 0  # answers of the recogniser that nobody waits for any more
        self._unheard: _Turn | None = (
            None  # whose words did not come in time, and should be answered
        )
        self._words: deque[Heard] = deque(maxlen=WORDS_KEPT)
        self._guessed_ms = 0.0  # how far words reach that are not final
        self._reply: Reply | None = None
        self._spoken: Item | None = None  # the last item that the caller hears or has heard
        self._answer_wanted = False  # once the response of now is over
        self._blind = False  # no model of turns
        self._event_id: str | None = None  # of the client's event that is being handled
        self._listening: Listen | None = None

    @property
    def deadline(self) -> float | None:
        """When it wants `DeadlinePassed`; None: never."""
        return self._turns[0].by if self._turns else None

    def may_end(self, now: float) -> bool:
        """Whether nobody speaks, and nothing is waited for."""
        return not (self._turns or self._utterance or self._reply or self._is_heard(now))

    def begin(self) -> list[Order]:
        """The first thing that the client is told."""
        self._emit("session.created", session=self._session())
        self._emit(
            "conversation.created",
            conversation={"id": self._conversation_id, "object": "realtime.conversation"},
        )
        self._listen()
        return self._taken()

    def handle(self, event: Event, now: float) -> list[Order]:
        """What is to be done about an event, in order."""
        match event:
            case Speech():  # the commonest
                self._speech(event, now)
            case Text(text):
                self._client(text, now)
            case Spoke(number, audio):
                self._spoke(number, audio, now)
            case ModelSaid(number, chunk):
                if self._reply is not None and self._reply.number == number:
                    self._say(self._reply.take(chunk))
            case SpokeWords(number, words):
                if (reply := self._of(number)) is not None and reply.sound is not None:
                    reply.sound.place(words)
            case Heard():
                self._heard(event, now)
            case Guessed(until_ms):
                self._guessed_ms = until_ms
            case Finalized():
                if self._overdue:
                    self._overdue -= 1
                elif self._turns:
                    self._complete(now)
            case Interrupts(number, means_it):
                self._judged(number, means_it, now)
            case TurnEnds(number, over):
                self._turn_judged(number, over, now)
            case ModelDone(number):
                if (reply := self._of(number)) is not None:
                    self._model_done(reply, now)
            case VoiceDone(number):
                if (reply := self._of(number)) is not None:
                    reply.voice_done = True
                    self._maybe_over(now)
            case ModelFailed(number, trouble) | VoiceFailed(number, trouble):
                if self._of(number) is not None:
                    self._fail(trouble, now)
            case HearingFailed(trouble):
                self._hearing_failed(trouble, now)
            case DeadlinePassed():
                while self._turns and self._turns[0].by <= now:
                    self._overdue += 1
                    self._complete(now)
        return self._taken()

    # -- the client

    def _client(self, text: str, now: float) -> None:
        event = protocol.read_event(text)
        if isinstance(event, Failure):
            self._event_id = protocol.event_id(text)
            self._refuse(event.message, event.kind.value, event.param)
            return
        self._event_id = event.event_id
        match event:
            case AppendAudio(audio=audio):
                self._append(audio)
            case UpdateSession(session=session):
                self._update(self._settings.updated(session))
            case CommitAudio():
                self._commit_by_client(now)
            case ClearAudio():
                self._clear()
            case CreateItem():
                self._create_item(event)
            case DeleteItem(item_id=item_id):
                if not self._history.delete(item_id):
                    self._no_item(item_id)
                else:
                    self._emit("conversation.item.deleted", item_id=item_id)
            case RetrieveItem(item_id=item_id):
                if (item := self._history.get(item_id)) is None:
                    self._no_item(item_id)
                else:
                    self._emit("conversation.item.retrieved", item=item.told())
            case TruncateItem():
                self._truncate_by_client(event, now)
            case CreateResponse():
                self._create_response(event, now)
            case CancelResponse(response_id=response_id):
                self._cancel_by_client(response_id, now)
            case ClearOutput():
                if self._reply is not None:
                    self._cancel("client_cancelled", now)

    def _update(self, settings: Settings) -> None:
        before, self._settings = self._settings, settings
        if (before.turns is None) != (settings.turns is None):
            self._gate.reset()
            self._utterance = self._overlap = None
        self._listen()
        self._emit("session.updated", session=self._session())

    def _listen(self) -> None:
        settings = self._settings
        listening = Listen(
            speech=settings.turns is not None,
            language=settings.transcription.language if settings.transcription else None,
            voice_rate=protocol.rate_of(settings.output) if settings.modality == "audio" else None,
        )
        if listening != self._listening:
            self._listening = listening
            self._out.append(listening)

    @property
    def _silences(self) -> Silences:
        turns = self._settings.turns
        return Silences() if turns is None else turns.silences(blind=self._blind)

    def _append(self, audio: str) -> None:
        encoding = self._settings.input
        pcm = protocol.samples(audio, encoding)
        if isinstance(pcm, Failure):
            self._refuse(pcm.message, pcm.kind.value, pcm.param)
        elif pcm:
            rate = protocol.rate_of(encoding)
            self._input_ms += len(pcm) / 2 / rate * 1000
            self._out.append(Hear(pcm, rate))

    def _commit_by_client(self, now: float) -> None:
        length_ms = self._input_ms - self._begin_ms
        if length_ms < COMMIT_MS_MIN:
            self._refuse(
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{COMMIT_MS_MIN:.0f}ms of audio, but buffer only has {length_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
            return
        utterance = self._utterance
        self._gate.reset()
        self._utterance = self._overlap = None
        item_id = self._new_id("item") if utterance is None else utterance.item_id
        self._commit(item_id, self._begin_ms, self._input_ms, answers=False, now=now)

    def _clear(self) -> None:
        self._gate.reset()
        self._utterance = self._overlap = None
        # turns that were committed before keep their words
        kept = [one for one in self._words if self._turns and one.start_ms < self._begin_ms]
        self._begin_ms = self._input_ms
        self._words.clear()
        self._words.extend(kept)
        self._emit("input_audio_buffer.cleared")

    def _create_item(self, event: CreateItem) -> None:
        given = event.item
        if given.id is not None and given.id in self._history:
            self._refuse(
                f"Item with item_id already exists: {given.id}", "item_create_duplicate_item_id"
            )
            return
        after = event.previous_item_id
        if after is not None and after != "root" and after not in self._history:
            self._no_item(after, "previous_item_id")
            return
        item = item_of(given, given.id or self._new_id("item"))
        if isinstance(item, Failure):
            self._refuse(item.message, item.kind.value, item.param)
            return
        self._add(item, after)
        if item.id in self._history:  # a first one in a full conversation is deleted at once
            self._emit(
                "conversation.item.done",
                previous_item_id=self._history.before(item),
                item=item.told(),
            )

    def _truncate_by_client(self, event: TruncateItem, now: float) -> None:
        item = self._history.get(event.item_id)
        if item is None:
            self._no_item(event.item_id)
        elif item.sound is None:
            self._refuse("item_id: only an assistant's spoken message can be truncated", None)
        elif event.content_index != 0:
            self._refuse("content_index: expected 0", None, "content_index")
        elif event.audio_end_ms > item.sound.total_ms + 1:
            self._refuse(
                f"Audio content of {item.sound.total_ms:.0f}ms is already shorter than "
                f"{event.audio_end_ms}ms",
                None,
                "audio_end_ms",
            )
        else:
            self._truncate(item, event.audio_end_ms)

    def _create_response(self, event: CreateResponse, now: float) -> None:
        if self._reply is not None:
            self._refuse(
                f"Conversation already has an active response in progress: {self._reply.id}. "
                "Wait until the response is finished before creating a new one.",
                "conversation_already_has_active_response",
            )
            return
        options = event.response
        given: list[Item] | None = None
        for i, one in enumerate((options.input if options is not None else None) or ()):
            given = [] if given is None else given
            item = self._given(one, f"response.input.{i}")
            if isinstance(item, Failure):
                self._refuse(item.message, item.kind.value, item.param)
                return
            given.append(item)
        if options is not None and options.input == []:
            given = []
        self._respond(
            self._settings.for_response(options),
            now,
            in_history=options is None or options.conversation != "none",
            given=given,
            metadata=None if options is None else options.metadata,
        )

    def _given(self, value: Any, place: str) -> Item | Failure:
        """An item of a response's own input: whole, or a reference to one of the conversation."""
        if isinstance(value, dict) and value.get("type") == "item_reference":
            item = self._history.get(str(value.get("id")))
            if item is None:
                return bad_request(f"{place}.id: there is no such item", f"{place}.id")
            return item
        fields = protocol.read_item(value, place)
        if isinstance(fields, Failure):
            return fields
        return item_of(fields, fields.id or self._new_id("item"), place)

    def _cancel_by_client(self, response_id: str | None, now: float) -> None:
        reply = self._reply
        if reply is None or response_id not in (None, reply.id):
            self._refuse(
                "Cancellation failed: no active response found", "response_cancel_not_active"
            )
            return
        self._cancel("client_cancelled", now)

    # -- the caller's speech

    def _speech(self, heard: Speech, now: float) -> None:
        if self._settings.turns is None:
            return
        change = self._gate.hear(heard.until_ms, heard.probability, self._silences)
        if self._overlap is not None:
            self._go_on_overlapping(heard.until_ms, change, now)
        elif change is Change.BEGAN:
            self._speech_began(heard.until_ms, now)
        elif self._utterance is None:
            return
        elif change is Change.SILENT:
            self._speech_ended(self._gate.silent_since_ms or heard.until_ms, now)
        elif change is Change.PAUSED:
            self._numbers += 1
            self._utterance.question = self._numbers
            self._out.append(AskTurn(self._numbers, self._utterance.start_ms))
        elif self._gate.silent_since_ms is None:
            self._utterance.question = 0  # what was asked in a pause is no longer of interest

    def _is_heard(self, now: float) -> bool:
        """Whether the caller hears a response."""
        return self._heard_for(now) > 0

    def _heard_for(self, now: float) -> float:
        """How many seconds longer."""
        sound = None if self._spoken is None else self._spoken.sound
        return 0.0 if sound is None else max(0.0, sound.plays_until + HEARD_S - now)

    def _speech_began(self, until_ms: float, now: float) -> None:
        if self._settings.interrupts and self._is_heard(now):
            self._overlap = _Overlap(self._gate.began_ms)
            self._ask_interruption(self._overlap, until_ms)
            return
        self._speech_started(self._gate.began_ms, now)

    def _speech_started(self, began_ms: float, now: float) -> None:
        """Somebody has the floor: it is told, and what is being said ends."""
        turns = self._settings.turns
        padding = turns.prefix_padding_ms if isinstance(turns, ServerVad) else None
        start_ms = max(self._begin_ms, began_ms - (PREFIX_MS if padding is None else padding))
        self._utterance = _Utterance(self._new_id("item"), start_ms)
        self._emit(
            "input_audio_buffer.speech_started",
            audio_start_ms=int(start_ms),
            item_id=self._utterance.item_id,
        )
        if not self._settings.interrupts:
            return
        if self._reply is not None:
            self._cancel("turn_detected", now)
        elif self._is_heard(now):
            self._leave_what_was_heard(now)

    def _speech_ended(self, spoken_until_ms: float, now: float) -> None:
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        self._gate.reset()
        self._emit(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=int(self._input_ms),
            item_id=utterance.item_id,
        )
        self._commit(
            utterance.item_id,
            utterance.start_ms,
            self._input_ms,
            answers=self._settings.creates,
            now=now,
            spoken_until_ms=spoken_until_ms,
        )

    def _go_on_overlapping(self, until_ms: float, change: Change | None, now: float) -> None:
        overlap = self._overlap
        assert overlap is not None
        if not self._is_heard(now):
            # the response is over: what is said, or was said at its end, is a turn like any other
            self._take_floor(overlap, now)
            return
        if overlap.ended_ms is not None:
            if change is Change.BEGAN:
                overlap.ended_ms = None
            return
        silent_ms = until_ms - (self._gate.silent_since_ms or until_ms)
        if change is Change.SILENT or silent_ms >= OVERLAP_END_MS:
            if self._heard_for(now) <= ANSWER_S_MAX:
                overlap.ended_ms = self._gate.silent_since_ms or until_ms
            else:
                self._overlap = None
                self._begin_ms = until_ms
            self._gate.reset()
        elif not overlap.waits and until_ms - overlap.asked_ms >= ASK_EVERY_MS:
            self._ask_interruption(overlap, until_ms)

    def _ask_interruption(self, overlap: _Overlap, until_ms: float) -> None:
        self._numbers += 1
        overlap.question, overlap.asked_ms, overlap.waits = self._numbers, until_ms, True
        since_ms = max(overlap.start_ms - WINDOW_BEFORE_MS, until_ms - WINDOW_MS_MAX, 0.0)
        self._out.append(AskInterruption(self._numbers, since_ms))

    def _judged(self, number: int, means_it: bool | None, now: float) -> None:
        overlap = self._overlap
        if overlap is None or overlap.question != number:
            return
        overlap.waits = False
        overlap.unjudged = overlap.unjudged + 1 if means_it is None else 0
        if means_it or overlap.unjudged >= UNJUDGED_MAX:
            self._take_floor(overlap, now)

    def _take_floor(self, overlap: _Overlap, now: float) -> None:
        """What is said over a response is a turn, which may have ended by now."""
        self._overlap = None
        self._speech_started(overlap.start_ms, now)
        if overlap.ended_ms is not None:
            self._speech_ended(overlap.ended_ms, now)

    def _turn_judged(self, number: int, over: bool | None, now: float) -> None:
        self._blind = self._blind or over is None  # from now on silences alone end turns
        utterance = self._utterance
        if utterance is None or not number or utterance.question != number:
            return
        if over:
            self._speech_ended(self._gate.silent_since_ms or self._input_ms, now)

    # -- turns and their words

    def _commit(
        self,
        item_id: str,
        start_ms: float,
        end_ms: float,
        *,
        answers: bool,
        now: float,
        spoken_until_ms: float | None = None,
    ) -> None:
        previous = self._history.last_id
        item = Item(item_id, "message", "user", [{"type": "input_audio", "transcript": None}])
        self._begin_ms = end_ms
        self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        self._add(item)
        self._emit("conversation.item.done", previous_item_id=previous, item=item.told())
        turn = _Turn(item, start_ms, end_ms, answers, now + WORDS_S_MAX, spoken_until_ms)
        self._turns.append(turn)
        self._out.append(Finalize())
        for words in self._words:
            self._tell_words(words)
        while len(self._turns) > TURNS_MAX:
            self._overdue += 1
            self._complete(now)
        self._complete_early(now)

    def _heard(self, words: Heard, now: float) -> None:
        self._guessed_ms = 0.0
        self._words.append(words)
        unheard = self._unheard
        if (
            unheard is not None
            and not (self._turns or self._utterance)  # or they may be of what is said now
            and _belongs(words, unheard)
            and words.end_ms <= unheard.end_ms + EARLY_MS
        ):
            self._unheard = None  # late, but what was said is answered all the same
            self._turns.append(unheard)
            self._tell_words(words)
            self._complete(now)
            return
        self._tell_words(words)
        self._complete_early(now)

    def _complete_early(self, now: float) -> None:
        """Recognisers that have nothing left to tell may take a second to say so: words that reach
        to the end of the speech are all there are."""
        if not self._words or len(self._turns) != 1:
            return
        spoken_until_ms = self._turns[0].spoken_until_ms
        if spoken_until_ms is None or self._guessed_ms > self._words[-1].end_ms:
            return
        if self._words[-1].end_ms >= spoken_until_ms - REACHES_MS:
            self._overdue += 1
            self._complete(now)

    def _tell_words(self, words: Heard) -> None:
        """Words of the turn that waits for them are told as they come."""
        if self._settings.transcription is None or not self._turns:
            return
        turn = self._turns[0]
        if not _belongs(words, turn):
            return
        text = f" {words.text}" if turn.told else words.text
        turn.told += text
        self._emit(
            "conversation.item.input_audio_transcription.delta",
            item_id=turn.item.id,
            content_index=0,
            delta=text,
        )

    def _complete(self, now: float) -> None:
        """The oldest turn has all its words."""
        turn = self._turns.popleft()
        later = self._turns[0].start_ms if self._turns else None
        own, kept = [], []
        for words in self._words:
            if later is not None and words.start_ms >= later:
                kept.append(words)
            elif _belongs(words, turn):
                own.append(words)
        self._words.clear()
        self._words.extend(kept)
        text = " ".join(words.text for words in own)
        turn.item.parts[0]["transcript"] = text
        self._history.grown(turn.item)
        if self._settings.transcription is not None:
            self._emit(
                "conversation.item.input_audio_transcription.completed",
                item_id=turn.item.id,
                content_index=0,
                transcript=text,
                logprobs=None,
                usage={
                    "type": "duration",
                    "seconds": round((turn.end_ms - turn.start_ms) / 1000, 3),
                },
            )
        self._unheard = turn if turn.answers and not text else None
        if turn.answers and text:
            self._answer_wanted = True
        self._go_on(now)

    def _hearing_failed(self, trouble: Trouble, now: float) -> None:
        error = {"type": trouble.type, "code": trouble.code, "message": trouble.message}
        turns, self._turns = self._turns, deque()
        self._overdue = 0
        self._words.clear()
        for turn in turns:
            self._emit(
                "conversation.item.input_audio_transcription.failed",
                item_id=turn.item.id,
                content_index=0,
                error=error,
            )
        self._error(trouble.message, trouble.code, trouble.type)
        if self._reply is not None and self._reply.waits:
            self._end(now, "failed", why=trouble)
        self._go_on(now)

    # -- the response

    def _go_on(self, now: float) -> None:
        """What waited for words, or for the end of a response, may be possible now."""
        if self._turns:
            return
        reply = self._reply
        if reply is not None:
            if reply.waits:
                reply.waits = False
                self._ask(reply)
        elif self._answer_wanted and self._utterance is None:
            self._respond(self._settings, now)

    def _respond(
        self,
        settings: Settings,
        now: float,
        *,
        in_history: bool = True,
        given: list[Item] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self._answer_wanted = False
        self._numbers += 1
        self._reply = Reply(
            self._new_id("resp"),
            self._numbers,
            settings,
            self._conversation_id if in_history else None,
            metadata,
            self._emit,
            self._new_id,
            self._add,
            in_history,
            given,
        )
        self._reply.begin()
        if self._turns and given is None:
            self._reply.waits = True
        else:
            self._ask(self._reply)

    def _ask(self, reply: Reply) -> None:
        settings = reply.settings
        items = self._history if reply.input is None else reply.input
        body: dict[str, Any] = {
            "messages": messages(items, settings.instructions),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not body["messages"]:
            # nobody has said anything: a chat model wants something to go by all the same
            body["messages"] = [{"role": "system", "content": NOTHING_SAID}]
        if settings.tools:
            body["tools"] = [tool.for_chat for tool in settings.tools]
            choice = settings.tool_choice
            body["tool_choice"] = (
                choice
                if isinstance(choice, str)
                else {"type": "function", "function": {"name": choice.name}}
            )
            if settings.parallel_tool_calls is not None:
                body["parallel_tool_calls"] = settings.parallel_tool_calls
        for name, value in (
            ("max_completion_tokens", settings.max_tokens),
            ("temperature", settings.temperature),
            ("reasoning_effort", settings.effort),
        ):
            if value is not None:
                body[name] = value
        self._out.append(AskModel(reply.number, body))

    def _of(self, number: int) -> Reply | None:
        """The response of that number, if it is that of now."""
        reply = self._reply
        return reply if reply is not None and reply.number == number else None

    def _say(self, clauses: list[str]) -> None:
        reply = self._reply
        assert reply is not None
        for clause in clauses:
            reply.spoke = True
            settings = reply.settings
            rate = protocol.rate_of(settings.output)
            self._out.append(Say(reply.number, clause, rate, settings.own_voice))

    def _model_done(self, reply: Reply, now: float) -> None:
        rest = reply.end_of_text()
        if rest.strip():
            self._say([rest])
        if reply.spoke:
            self._out.append(SaidAll(reply.number))
        self._maybe_over(now)

    def _spoke(self, number: int, audio: str, now: float) -> None:
        reply = self._of(number)
        if reply is None or reply.sound is None:
            return
        encoding = reply.settings.output
        samples = (len(audio) * 3 // 4 - audio[-2:].count("=")) // 2
        if encoding != "audio/pcm":
            code = g711.to_ulaw if encoding == "audio/pcmu" else g711.to_alaw
            audio = pybase64.b64encode(code(pybase64.b64decode(audio))).decode()
        reply.sound.add(1000 * samples / protocol.rate_of(encoding), now)
        self._spoken = reply.message
        reply.heard(audio)

    def _maybe_over(self, now: float) -> None:
        if self._reply is not None and self._reply.over:
            self._end(now)

    def _end(self, now: float, *end: Any, **why: Any) -> None:
        reply, self._reply = self._reply, None
        assert reply is not None
        reply.end(*end, **why)
        if reply.in_history:
            for item in reply.output:
                self._history.grown(item)
        self._shrink()
        self._go_on(now)

    def _fail(self, trouble: Trouble, now: float) -> None:
        self._stop()
        self._error(trouble.message, trouble.code, trouble.type)
        self._end(now, "failed", why=trouble)

    def _stop(self) -> None:
        """The parts are to make no more of the response."""
        reply = self._reply
        assert reply is not None
        if not reply.model_done and not reply.waits:
            self._out.append(StopModel(reply.number))
        if reply.spoke and not reply.voice_done:
            self._out.append(StopSaying(reply.number))

    def _cancel(self, reason: str, now: float) -> None:
        self._stop()
        self._answer_wanted = False
        self._end(now, "cancelled", reason)
        self._leave_what_was_heard(now)

    def _leave_what_was_heard(self, now: float) -> None:
        item, sound = self._spoken, None if self._spoken is None else self._spoken.sound
        if item is None or sound is None:
            return
        heard_ms = sound.heard_ms(now)
        self._spoken = None
        if heard_ms < sound.total_ms or not sound.complete:
            self._truncate(item, heard_ms)

    def _truncate(self, item: Item, heard_ms: float) -> None:
        item.truncate(heard_ms)
        self._emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=0,
            audio_end_ms=int(heard_ms),
        )

    # -- what is told

    def _add(self, item: Item, after: str | None = None) -> None:
        self._history.add(item, after)
        self._emit(
            "conversation.item.added",
            previous_item_id=self._history.before(item),
            item=item.told(),
        )
        self._shrink()

    def _shrink(self) -> None:
        for item_id in self._history.shrink():
            self._emit("conversation.item.deleted", item_id=item_id)

    def _session(self) -> dict[str, Any]:
        return protocol.session_told(self._settings, self.session_id)

    def _no_item(self, item_id: str, param: str = "item_id") -> None:
        self._refuse(
            f"{param}: the conversation has no item {item_id[:64]!r}", "item_not_found", param
        )

    def _refuse(self, message: str, code: str | None, param: str | None = None) -> None:
        """Something is wrong with the client's event."""
        self._error(message, code or "invalid_value", "invalid_request_error", param)

    def _error(self, message: str, code: str, kind: str, param: str | None = None) -> None:
        event_id = self._event_id if kind == "invalid_request_error" else None
        self._emit(
            "error",
            error={
                "type": kind,
                "code": code,
                "message": message,
                "param": param,
                "event_id": event_id,
            },
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        told = {"type": kind, "event_id": self._new_id("event"), **fields}
        self._out.append(Tell(orjson.dumps(told).decode()))

    def _new_id(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}_{self._unique}{self._numbers:05d}"

    def _taken(self) -> list[Order]:
        out, self._out = self._out, []
        self._event_id = None
        return out


def _belongs(words: Heard, turn: _Turn) -> bool:
    return words.end_ms >= turn.start_ms - EARLY_MS or words.end_ms <= words.start_ms <= 0
