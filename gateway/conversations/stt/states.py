"""The states of the recogniser that serves a session, and what each makes of what happens. Pure.

    Asleep ----> Connecting ---> CatchingUp <--> Live ---> Closing
       ^           |   ^             |            |           |
       |           v   |             |            |           |
       +-------- Waiting <-----------+------------+-----------+   a failure

`Asleep`: no connection, since the user is muted. `Waiting`: no connection, a pause between rounds
through the plan. `CatchingUp`: audio waits to be sent. `Live`: each frame goes out as it comes.
`Closing`: the client wants the end, the last finals are awaited. Beside these a handover may have
its next connection (`Connecting`, then `Standby`) and the old one (`Replaced`, which drains as
`Closing` does). Hedges have their own (`Connecting`, then `Beside`) while the one in use is
doubted.

States send, and set the timers of their connection. Which state follows a failure, and when
connections change, is up to their `Owner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from gateway.conversations.stt.actions import Action, Send, SendToClient
from gateway.conversations.stt.connection import WITHIN_WORDS_S, RecognizerConnection
from gateway.conversations.stt.context import Act, Context
from gateway.conversations.stt.report import Latency
from gateway.conversations.stt.stall_detector import FILL_AFTER_S
from gateway.conversations.timers import Moment
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import (
    EagerEndOfTurn,
    Ended,
    Expiring,
    Failed,
    FinalTranscript,
    Flushed,
    InterimTranscript,
    NotUpdated,
    Ready,
    RecognizerEvent,
    SpeechStarted,
    TurnResumed,
)

OPEN_GRACE_S: Final = 1.0
"""Added to the time-out for opening a connection. The I/O side keeps that time-out; this one is in
case it says nothing."""

UPDATE_WAIT_S: Final = 6.0
"""Longest time that a change of settings waits for a calm moment."""

EXPIRY_LEAD_S: Final = 2.0
"""A connection that the provider will end is replaced at least this long before."""

ENDED_S: Final = 1.0
"""A connection that says it has ended, although there was speech behind the words that it told, may
tell more for so long."""

DRAIN_S: Final = 3.0
"""Longest time that the last finals of a replaced connection are awaited; what the new one says
waits meanwhile."""

NORMAL_CLOSURE: Final = frozenset({1000, 1001, 1005})
"""WebSocket close codes of a provider that ends as it was asked to."""

OPEN_DOUBT_S: Final = 1.5
"""A connection that takes no audio after this time is doubted. Usual ones take 0.1 to 0.6 s."""

_TIMERS: Final = (
    "open",
    "send",
    "keepalive",
    "fill",
    "flushed",
    "overdue",
    "stall",
    "drain",
    "ended",
    "doubt",
    "verdict",
)
"""Those of a connection, named with its number."""


class Owner(Protocol):
    """Whose states these are: decides what follows."""

    context: Context

    @property
    def is_draining(self) -> bool:
        """Whether an old connection has not said its last words."""

    def enter(self, state: State, now: float) -> None:
        """Go to another state."""

    def connect(self, now: float) -> None:
        """Open a connection to the next attempt."""

    def connect_instead(self, plan: Plan, now: float) -> None:
        """Drop the connection in use or being opened, and go by `plan`."""

    def ready(self, state: Connecting, now: float) -> None:
        """The connection takes audio."""

    def failed(self, state: Connected, failure: Failure, now: float) -> None:
        """The connection is of no more use."""

    def wanted(
        self, plan: Plan, attempt: Attempt, now: float, *, moved: bool
    ) -> tuple[Plan, Attempt | None]:
        """Go by `plan` from now on, while `attempt` is in use. Returns the plan for its successor,
        and what the same deployment is to be asked for, if it may stay in use."""

    def replace(self, by: float, now: float, plan: Plan = ()) -> None:
        """Hand over in a calm moment, at the latest at `by`; by the session's plan if by none."""

    def watch(self, now: float) -> None:
        """Something has changed that a handover or the session's end may wait for."""

    def doubted(self, state: Connected, now: float) -> None:
        """A connection does not open, or that in use tells no words although there was speech."""

    def spoke(self, state: Beside, event: RecognizerEvent, now: float) -> None:
        """A hedge tells words."""

    def unproven(self, state: Beside, now: float) -> None:
        """A hedge tells no words either."""

    def drained(self, now: float) -> None:
        """The old connection has no more to say."""

    def end(self, now: float) -> None:
        """The session's last connection has no more to say."""


class State:
    """A state in which the session is served, and what it makes of each event.

    All states accept what the client does: `hear`, `finalize`, `close`, `update`.
    """

    connection: RecognizerConnection | None = None

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.context = owner.context

    def enter(self, now: float) -> None:
        """It has become the state."""

    def leave(self) -> None:
        """Another one follows."""

    def hear(self, now: float) -> list[Action]:
        """Audio of the user's was appended to the buffer."""
        self.context.slow_down(self.connection)
        return self.context.take_actions()

    def finalize(self, now: float) -> None:
        """The client wants finals; its wish is counted."""

    def close(self, now: float) -> None:
        """The client wants the last finals and the end."""
        if self.context.nothing_said:
            self.context.close_well()

    def update(self, plan: Plan, now: float, *, moved: bool) -> None:
        """The client wants other settings; `moved`: another model."""
        self.context.failover.replan(plan, now)


class Asleep(State):
    """No connection: the user is muted, and nothing that was said waits for a final."""

    def enter(self, now: float) -> None:
        self.context.client.slow_down(0.0)

    def hear(self, now: float) -> list[Action]:
        self.owner.connect(now)
        return self.context.take_actions()

    def finalize(self, now: float) -> None:
        if self.context.buffer.speech() is not None:
            self.owner.connect(now)
        else:
            self.context.client.flushing()
            self.context.client.acknowledge()

    def close(self, now: float) -> None:
        if self.context.nothing_said:
            self.context.close_well()
        else:
            self.owner.connect(now)


class Waiting(State):
    """No connection: every provider failed, and is asked once more at `at`."""

    def __init__(self, owner: Owner, at: float) -> None:
        super().__init__(owner)
        self._at = at

    def enter(self, now: float) -> None:
        context = self.context
        context.timers.clear("close")  # set again with the next connection
        context.slow_down(None)
        if context.client.closing and not context.stalls.may_ask_for_last_words():
            context.close_well()
        else:
            context.timers.set("retry", self._at, self.owner.connect)

    def leave(self) -> None:
        self.context.timers.clear("retry")


class Connected(State):
    """There is a connection. What comes on it: `opened`, `heard`, `closed`."""

    connection: RecognizerConnection

    def __init__(self, owner: Owner, connection: RecognizerConnection) -> None:
        super().__init__(owner)
        self.connection = connection

    def leave(self) -> None:
        number = self.connection.number
        self.context.timers.clear(*((number, name) for name in _TIMERS))

    @property
    def is_ready(self) -> bool:
        """Whether audio may be sent."""
        return self.connection.ready_at is not None

    def opened(self, now: float) -> None:
        """The socket is open."""

    def heard(self, event: RecognizerEvent, now: float) -> None:
        """A message means this."""
        match event:
            case Failed(failure):
                self.fail(failure, now)
            case Ended():
                self.fail(Failure(Kind.CONNECTION_LOST, "the provider ended the session"), now)

    def closed(self, code: int, reason: str, now: float) -> None:
        """The provider hung up."""
        self.fail(self.connection.closed(code, reason), now)

    def watch(self, now: float) -> None:
        """Something was heard: set what depends on it."""

    # -- helpers

    def fail(self, failure: Failure, now: float) -> None:
        """The connection is of no more use."""
        self.owner.failed(self, failure, now)

    def set_timer(self, name: str, at: float | None, act: Act) -> None:
        self.context.timers.set((self.connection.number, name), at, act)

    def follow(self, name: str, moment: Moment, act: Act) -> None:
        self.context.timers.follow((self.connection.number, name), moment, act)

    def send(self, frames: Sequence[Any]) -> None:
        """Send messages to the provider."""
        if frames:
            self.context.out.append(Send(self.connection.number, list(frames)))

    def transcribe(self, event: RecognizerEvent, now: float, *, in_use: bool) -> None:
        """Tell the client what the recogniser heard. `in_use`: the user's audio goes to it."""
        context, connection = self.context, self.connection
        transcripts = context.transcripts
        match event:
            case InterimTranscript(transcript):
                self._has_text(transcript.text, now)
                told = transcripts.hypothesis(connection, transcript)
                self._owes(transcript.text)
            case FinalTranscript(transcript):
                quiet_s = now - connection.activity.last_loud_at
                if transcript.text and in_use and quiet_s >= WITHIN_WORDS_S:
                    self._took("final", quiet_s)
                self._has_text(transcript.text, now)
                told = transcripts.final(connection, transcript)
                self._owes(transcript.text)
                if transcript.text and transcript.end is None and not transcript.words:
                    connection.flush_has_words = True
                context.stalls.heard_final()
                if transcript.text and in_use:
                    context.failover.serving(connection.attempt)
            case SpeechStarted(at):
                told = transcripts.speech_started(connection, at)
            case EagerEndOfTurn(transcript):
                self._has_text(transcript.text, now)
                told = transcripts.eager(connection, transcript)
            case TurnResumed():
                told = transcripts.resumed()
            case _:
                return
        context.out.extend(map(SendToClient, told))
        if told and isinstance(event, InterimTranscript | FinalTranscript | EagerEndOfTurn):
            context.tell_words()

    def _has_text(self, text: str, now: float) -> None:
        if text:
            context, connection = self.context, self.connection
            took_s = context.stalls.measure(connection)
            if took_s is not None and not context.transcripts.is_open:
                self._took("first_word", took_s)
            connection.activity.heard_text(now)
            context.stalls.watch_doubt(connection)
            context.stalls.heard_text()

    def _owes(self, text: str) -> None:
        if text:
            self.context.stalls.heard_words(self.connection)

    def _took(self, kind: str, seconds: float) -> None:
        attempt = self.connection.attempt
        latency = Latency(kind, attempt.provider, attempt.model, seconds)
        self.context.client.report.latencies.append(latency)

    def forget_flushed(self) -> None:
        """All that the last flush brings has come: what was sent before it need not be replayed."""
        context, connection = self.context, self.connection
        told = connection.flush_has_words or not context.stalls.has_untold_speech(connection)
        if told and not context.transcripts.is_open:
            context.transcripts.flushed(connection.flush_until)

    def keep_alive(self) -> None:
        """Send keepalives from now on."""
        if self.connection.traits.keepalive_s is not None:
            stalls, connection = self.context.stalls, self.connection
            self.follow("keepalive", lambda: stalls.keepalive_at(connection), self._keep_alive)

    def _keep_alive(self, now: float) -> None:
        self.send(self.connection.keep_alive(now))
        self.keep_alive()


class Connecting(Connected):
    """Accepts `opened`, then Ready where the provider says so. For the session or a handover."""

    def enter(self, now: float) -> None:
        self.set_timer("open", now + self.context.timeout_s + OPEN_GRACE_S, self._not_open)
        if self.context.config.hedge.enabled:
            self.set_timer("doubt", now + OPEN_DOUBT_S, self._doubted)

    def opened(self, now: float) -> None:
        self.send(self.connection.opened(now))
        if self.connection.traits.sends_ready:
            self.set_timer("open", now + self.connection.traits.ready_s, self._not_ready)
        else:
            self._ready(now)

    def heard(self, event: RecognizerEvent, now: float) -> None:
        if isinstance(event, Ready):
            self._ready(now)
        else:
            super().heard(event, now)

    def update(self, plan: Plan, now: float, *, moved: bool) -> None:
        wanted, same = self.owner.wanted(plan, self.connection.attempt, now, moved=moved)
        if same != self.connection.attempt:
            self.owner.connect_instead(wanted, now)

    def _ready(self, now: float) -> None:
        self.connection.became_ready(now)
        self.owner.ready(self, now)

    def _doubted(self, now: float) -> None:
        self.owner.doubted(self, now)
        self.set_timer("doubt", now + OPEN_DOUBT_S, self._doubted)  # it may be in use only then

    def _not_open(self, now: float) -> None:
        self.fail(Failure(Kind.TIMEOUT, "the provider did not open the connection in time"), now)

    def _not_ready(self, now: float) -> None:
        self.fail(Failure(Kind.TIMEOUT, "the provider did not accept the settings in time"), now)


class Standby(Connected):
    """A handover's next connection, which is ready and waits for its turn without audio."""

    def enter(self, now: float) -> None:
        self.keep_alive()


class Beside(Connected):
    """A hedge: gets the open utterance once more and what follows, beside the connection in use,
    until one of them tells words. `begins_late`: it was not sent the words that are known."""

    def __init__(
        self, owner: Owner, connection: RecognizerConnection, *, begins_late: bool = False
    ) -> None:
        super().__init__(owner, connection)
        self.begins_late = begins_late
        self._began_at: float | None = None  # until it tells words

    def enter(self, now: float) -> None:
        self.keep_alive()
        self._began_at = now
        verdict_s = self.context.stalls.verdict_s(self.connection)
        self.set_timer("verdict", now + verdict_s, self._verdict)
        self.send_audio(now)

    def heard(self, event: RecognizerEvent, now: float) -> None:
        match event:
            case Failed() | Ended():
                super().heard(event, now)
            case InterimTranscript(told) | FinalTranscript(told) | EagerEndOfTurn(told):
                if told.text:
                    if self._began_at is not None:
                        self.context.stalls.heard_replay(self.connection, now - self._began_at)
                        self._began_at = None
                    self.owner.spoke(self, event, now)

    def send_audio(self, now: float) -> None:
        """There may be more to send."""
        connection, buffer = self.connection, self.context.buffer
        self.send(connection.send_audio(buffer, now))
        if connection.is_behind(buffer):
            self.set_timer("send", connection.next_send_at, self.send_audio)
        elif self.context.client.closing and not connection.finishing:
            self.send(connection.finish(now))

    def _verdict(self, now: float) -> None:
        self.owner.unproven(self, now)


class Serving(Connected):
    """The user's audio goes to this connection. Accepts all that a recogniser says."""

    def enter(self, now: float) -> None:
        self.keep_alive()
        self.context.stalls.watch_doubt(self.connection)
        self.watch(now)

    def heard(self, event: RecognizerEvent, now: float) -> None:
        match event:
            case Flushed():
                if self.connection.flush_sent_at is not None:
                    self.forget_flushed()
                    self._flushed(now)
            case Expiring(in_s):
                self.owner.replace(now + max(0.0, in_s - EXPIRY_LEAD_S), now)
            case NotUpdated():
                self.owner.replace(now + UPDATE_WAIT_S, now)
            case Failed() | Ended():
                super().heard(event, now)
            case _:
                self.transcribe(event, now, in_use=True)

    def close(self, now: float) -> None:
        self.owner.enter(Closing(self.owner, self.connection), now)

    def update(self, plan: Plan, now: float, *, moved: bool) -> None:
        wanted, same = self.owner.wanted(plan, self.connection.attempt, now, moved=moved)
        if same is not None:
            if same == self.connection.attempt:
                return
            if (frames := self.connection.update(same)) is not None:
                self.send(frames)
                return
        self.owner.replace(now + UPDATE_WAIT_S, now, wanted)

    def watch(self, now: float) -> None:
        stalls, connection = self.context.stalls, self.connection
        self.watch_stall()
        if connection.activity.doubtful_s >= connection.watch_s:
            self.watch_doubt()
        self.follow("flushed", lambda: stalls.flush_answered_at(connection), self._flushed)
        self.owner.watch(now)

    def watch_stall(self) -> None:
        """Set the moment at which the connection counts as stalled."""
        stalls, connection = self.context.stalls, self.connection
        self.follow("stall", lambda: stalls.stall_at(connection), self._stalled)

    def watch_doubt(self) -> None:
        """Set the moment at which the connection is doubted."""
        stalls, connection = self.context.stalls, self.connection
        self.follow("doubt", lambda: stalls.doubt_at(connection), self._doubted)
        enough = connection.activity.doubtful_s >= connection.doubt_s
        connection.watch_s = float("inf") if enough else connection.doubt_s  # set until then

    def _doubted(self, now: float) -> None:
        self.owner.doubted(self, now)

    def flush(self, now: float) -> None:
        """Ask for finals; a second time only when the first flush is answered."""
        if self.connection.flush_sent_at is None:
            self.context.client.flushing()
            self.send(self.connection.flush(now))
            self.watch(now)

    def _flushed(self, now: float) -> None:
        context = self.context
        self.connection.flush_answered()
        if context.transcripts.is_open:
            context.transcripts.discard()
        context.client.acknowledge()
        if context.client.wants_flush:
            self.flush(now)
        else:
            self.watch(now)

    def _stalled(self, now: float) -> None:
        self.context.stalls.stalled(self.connection)
        self.fail(Failure(Kind.TIMEOUT, "the provider takes audio and says nothing"), now)


class CatchingUp(Serving):
    """Audio waits to be sent, as fast as the provider takes it."""

    def enter(self, now: float) -> None:
        super().enter(now)
        self._send_audio(now)

    def hear(self, now: float) -> list[Action]:
        self._send_audio(now)
        return self.context.take_actions()

    def _send_audio(self, now: float) -> None:
        context, connection = self.context, self.connection
        self.send(connection.send_audio(context.buffer, now))
        context.slow_down(connection)
        if connection.is_behind(context.buffer):
            self.set_timer("send", connection.next_send_at, self._send_audio)
            self.watch_stall()
            if connection.activity.doubtful_s >= connection.watch_s:
                self.watch_doubt()
            return
        live = Live(self.owner, connection)
        self.owner.enter(live, now)
        if context.client.wants_flush:
            live.flush(now)


class Live(Serving):
    """All audio has been sent: each frame goes out as it comes."""

    def __init__(self, owner: Owner, connection: RecognizerConnection) -> None:
        super().__init__(owner, connection)
        # less audio than this without a message does not make a stall
        self._unheard_s_max = min(self.context.config.stall_s, connection.traits.deaf_after_s)

    def hear(self, now: float) -> list[Action]:
        # the hot path: timers that a frame moves later are not set anew, see `Timers.follow`
        connection, buffer = self.connection, self.context.buffer
        frames = connection.send_audio(buffer, now)
        if connection.activity.audio_since_message_s >= self._unheard_s_max:
            self.watch_stall()
        if connection.activity.doubtful_s >= connection.watch_s:
            self.watch_doubt()
        actions: list[Action] = [Send(connection.number, frames)] if frames else []
        if connection.cursor < buffer.end:  # the client runs ahead of the provider's pace
            self.owner.enter(CatchingUp(self.owner, connection), now)
            actions += self.context.take_actions()
        return actions

    def finalize(self, now: float) -> None:
        self.flush(now)

    def watch(self, now: float) -> None:
        super().watch(now)
        if self.connection.traits.needs_audio_to_end_turn:
            self.follow("fill", self._fill_at, self._fill)
        self.follow("overdue", self._overdue_at, self._overdue)

    # while an old connection drains, the open utterance is its own

    def _overdue_at(self) -> float | None:
        draining = self.owner.is_draining
        return None if draining else self.context.stalls.overdue_at(self.connection)

    def _fill_at(self) -> float | None:
        draining = self.owner.is_draining
        return None if draining else self.context.stalls.fill_at(self.connection)

    def _overdue(self, now: float) -> None:
        context, connection = self.context, self.connection
        if connection.flush_sent_at is None:
            self.flush(now)
        elif context.stalls.final_overdue(connection):
            if self._interim_is_all():
                context.settle()
                context.stalls.heard_final()
                context.client.acknowledge()
            self.fail(Failure(Kind.TIMEOUT, "a final transcript was overdue"), now)
        else:
            connection.flush_answered()
            context.settle()
            context.client.acknowledge()
            self.watch(now)

    def _interim_is_all(self) -> bool:
        """Whether there is no other one to ask for the final, and the interim has all that was
        said: it is worth more to the caller than the same one's second try, some 7 s later."""
        context = self.context
        if not context.transcripts.is_open or context.stalls.speech_goes_past_interim():
            return False
        return not context.failover.has_others(self.connection.attempt)

    def _fill(self, now: float) -> None:
        self.send(self.connection.fill(FILL_AFTER_S, now))
        self.watch(now)


class Draining(Connected):
    """Gets the rest of its audio, then Finish, and says its last words. `in_use`: no other
    connection has taken over."""

    in_use = True

    def enter(self, now: float) -> None:
        self._send_audio(now)

    def heard(self, event: RecognizerEvent, now: float) -> None:
        match event:
            case Ended():
                self.ended(now)
            case Failed():
                super().heard(event, now)
            case _:
                self.transcribe(event, now, in_use=self.in_use)

    def ended(self, now: float) -> None:
        """It has said that this was all."""

    def _send_audio(self, now: float) -> None:
        connection, buffer = self.connection, self.context.buffer
        self.send(connection.send_audio(buffer, now))
        if connection.is_behind(buffer):
            self.set_timer("send", connection.next_send_at, self._send_audio)
        elif not connection.finishing:
            self.send(connection.finish(now))
        self.sent(now)

    def sent(self, now: float) -> None:
        """It has been sent audio, or was asked for its last words."""


class Closing(Draining):
    """The client has sent session.close: no audio follows, and the last finals end the session."""

    _ended = False  # it has said that this was all, although there was more speech

    def hear(self, now: float) -> list[Action]:
        return []

    def close(self, now: float) -> None:
        pass  # it is being done

    def update(self, plan: Plan, now: float, *, moved: bool) -> None:
        pass  # too late to matter

    def heard(self, event: RecognizerEvent, now: float) -> None:
        if isinstance(event, Flushed):
            self.forget_flushed()
            self.connection.flush_answered()
            self.context.client.acknowledge()
            return
        super().heard(event, now)
        last = isinstance(event, FinalTranscript) and self._ended
        if last and not self.context.stalls.owes_last_words(self.connection):
            self._over(now)

    def ended(self, now: float) -> None:
        """Where a vendor has no message for the end, the final of an utterance that was on its way
        when the last finals were asked for looks like it: then another one follows."""
        if self.context.stalls.owes_last_words(self.connection):
            self._ended = True
            self.set_timer("ended", now + ENDED_S, self._over)
        else:
            self.context.close_well()

    def _over(self, now: float) -> None:
        """Its time to tell more is up; words that it began to tell are owed their final."""
        if self.context.transcripts.is_open:
            self.owner.end(now)
        else:
            self.context.close_well()

    def enter(self, now: float) -> None:
        self.context.stalls.watch_doubt(self.connection)
        super().enter(now)

    def sent(self, now: float) -> None:
        stalls, connection = self.context.stalls, self.connection
        if connection.finishing:
            self.follow("doubt", lambda: stalls.end_doubt_at(connection), self._doubted)
        elif connection.activity.doubtful_s >= connection.doubt_s:
            self.follow("doubt", lambda: stalls.doubt_at(connection), self._doubted)

    def watch(self, now: float) -> None:
        self.sent(now)

    def _doubted(self, now: float) -> None:
        self.owner.doubted(self, now)
        if self.connection.doubt_s != float("inf"):
            self.sent(now)

    def closed(self, code: int, reason: str, now: float) -> None:
        if self._ended and not self.context.transcripts.is_open:
            self.context.close_well()
        elif self.connection.finishing and code in NORMAL_CLOSURE:
            self.owner.end(now)
        else:
            super().closed(code, reason, now)


class Replaced(Draining):
    """A handover's old connection. `successor` gets the audio from where it stops; None: nobody,
    until the user is heard again."""

    in_use = False

    def __init__(
        self,
        owner: Owner,
        connection: RecognizerConnection,
        successor: RecognizerConnection | None = None,
    ) -> None:
        super().__init__(owner, connection)
        self.successor = successor

    def enter(self, now: float) -> None:
        self.set_timer("drain", now + DRAIN_S, self.ended)
        super().enter(now)

    def ended(self, now: float) -> None:
        self.owner.drained(now)

    def closed(self, code: int, reason: str, now: float) -> None:
        self.ended(now)
