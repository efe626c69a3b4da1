"""The recognisers of one session: which connection is in use, and what follows a failure. Pure.

The audio since the last final is kept, so that the connection which follows a failed one hears it
again. While a handover is under way there may be two more connections, see `handover`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Final

from gateway.conversations.stt.actions import Action
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.connections import RecognizerConnections
from gateway.conversations.stt.context import Context
from gateway.conversations.stt.handover import Handover
from gateway.conversations.stt.hedges import STEP_S, Hedges
from gateway.conversations.stt.standby import WarmStandby
from gateway.conversations.stt.states import (
    OPEN_DOUBT_S,
    Asleep,
    Beside,
    CatchingUp,
    Closing,
    Connected,
    Connecting,
    Live,
    Replaced,
    Serving,
    Standby,
    State,
    Waiting,
)
from gateway.conversations.stt.transcripts import OVERLAP_S
from gateway.routing.failover import Exhausted, Retry
from gateway.routing.hedging import HedgeBudget
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    SocketClosed,
    SocketEvent,
    SocketFrame,
    SocketOpened,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import (
    EagerEndOfTurn,
    Failed,
    FinalTranscript,
    InterimTranscript,
    Ready,
    RecognizerEvent,
)

SERVED_S: Final = 10.0
"""A connection that lived this long has served, even without a final: its failure finds the whole
budget of retries."""

NEWS_S_MIN: Final = 0.05
"""A hedge has told more than the client knows if its words go on for this much longer."""

TOLD_S_MAX: Final = 1.0
"""Longest time that a provider which takes audio no faster than speech is replayed words that the
client knows. It hears them for their context; the caller waits for what follows."""

SLOW: Final = "the provider does not open the connection, and others can be asked"
SILENT: Final = "the provider takes audio and tells no words, and others can be asked"

REPLAY_S_MIN: Final = 0.5
"""Less audio than this is replayed with its silences: leaving them out would gain nothing."""


CLOSING_S_MAX: Final = 120.0
"""Longest wait for the last finals, over all providers that are asked for them. LiveKit's clients
leave by themselves after 30 s; others may wait for the words that a third provider tells."""


CLOSING_SILENT_S: Final = 10.0
"""A session whose connections all fail at its end is closed this long after it was asked for, or
after the latest words: callers see a pause, and what is known is all that will come."""


class Recognition:
    """Passes a user's audio to recognisers, one after the other; see `states.Owner` for what it
    decides."""

    def __init__(
        self,
        context: Context,
        connections: RecognizerConnections,
        handover: Handover[Connecting | Standby, Replaced],
        hedges: HedgeBudget,
        standby: WarmStandby[Connecting | Standby],
    ) -> None:
        self.context = context
        self._client = context.client
        self._failover = context.failover
        self.buffer = context.buffer
        self._connections = connections
        self._handover = handover
        self._budget = hedges
        self._hedges: Hedges[Connecting | Beside] = Hedges(hedges)
        self._warm = standby
        self._close_by = self._silent_by = 0.0
        self._ends = False  # once the old connection has no more to say
        self._state: State = Asleep(self)
        self.hear: Callable[[float], list[Action]] = self._state.hear
        """Audio was appended to `buffer`: what is done about it. Asked 20 times a second, so it is
        settled beforehand whose answer it is, see `_choose_hearer`."""

    # -- what the client does

    def _choose_hearer(self) -> None:
        self.hear = self._hear_beside if self._hedges else self._state.hear

    def _hear_beside(self, now: float) -> list[Action]:
        actions = self._state.hear(now)
        self._feed_hedges(now)
        return actions + self.context.take_actions()

    def _feed_hedges(self, now: float) -> None:
        for hedge in self._hedges:
            if isinstance(hedge, Beside):
                hedge.send_audio(now)

    def finalize(self, now: float) -> None:
        """The client wants finals for what it has said."""
        self._client.finalize(now)
        self._state.finalize(now)
        self.watch(now)

    def close(self, now: float) -> None:
        """The client wants the last finals and the end."""
        self._close_by = now + CLOSING_S_MAX
        self._silent_by = now + CLOSING_SILENT_S
        self.context.timers.follow("silent", lambda: self._silent_by, self._nobody_answers)
        self._limit_closing(now)
        self._state.close(now)
        if not self._client.over:
            self._feed_hedges(now)

    def set_language(self, language: str | None) -> None:
        """The language of transcripts whose provider names none."""
        self.context.transcripts.set_language(language)

    def update(self, plan: Plan, standby: Plan, now: float, *, moved: bool) -> None:
        """The client wants other settings; `moved`: another model. `standby`: whom to keep
        connected beside."""
        self._drop_hedges()
        if self._warm.go_by(standby):
            self._drop_warm(now)
        self._state.update(plan, now, moved=moved)
        self._keep_warm(now)

    @property
    def heard_s(self) -> float:
        """Seconds of audio that the client has sent."""
        return self.buffer.end_s

    def end_with(self, failure: Failure) -> None:
        """The session ends for a reason that is not the recognisers'; what was said is told."""
        self.context.settle()
        self._client.refuse(failure)

    def is_calm(self, now: float) -> bool:
        """Whether nobody speaks, and the client has the final of what was said."""
        connection = self._state.connection
        if connection is None:
            return self.context.nothing_said
        return self._is_calm(connection, now)

    def let_go(self, now: float) -> list[Action]:
        """The session is over: what is to be done for its connections."""
        self._drop_warm(now)
        report = self._client.report
        report.audio_s = self.buffer.end_s
        report.finals = self.context.transcripts.finals
        report.standby_s = self._warm.seconds
        return [*self.context.take_actions(), *self._connections.drop_all()]

    # -- what comes on connections

    def happened(self, event: SocketEvent, now: float) -> None:
        """Something on one of the connections; on one that was dropped it means nothing."""
        state = self._state_of(event.attempt)
        if state is None:
            return
        match event:
            case SocketFrame(number, data):
                self._frame(number, state.connection.heard(data, now), now)
            case SocketOpened():
                state.opened(now)
            case SocketClosed(_, code, reason):
                state.closed(code, reason, now)
            case ConnectionFailed(_, failure):
                state.fail(failure, now)

    def _state_of(self, number: int) -> Connected | None:
        in_use = self._state
        if isinstance(in_use, Connected) and in_use.connection.number == number:
            return in_use
        others = (self._handover.next, self._handover.old, self._warm.state)
        for state in (*others, *self._hedges):
            if isinstance(state, Connected) and state.connection.number == number:
                return state
        return None

    def _frame(self, number: int, events: Sequence[RecognizerEvent], now: float) -> None:
        for event in events:
            state = self._state_of(number)
            if state is None or self._client.over:
                return
            waits = state is self._state and self._handover.old is not None
            if waits and not isinstance(event, Ready | Failed):
                self._handover.hold(number, event)
            else:
                state.heard(event, now)
                if self._client.closing and _has_words(event):
                    self._silent_by = now + CLOSING_SILENT_S
                if isinstance(event, FinalTranscript) and event.transcript.text:
                    self._budget.earn()  # an utterance has its final
                if self._hedges.about and state is self._state and _has_words(event):
                    self._drop_hedges()
        state = self._state_of(number)
        if state is not None and not self._client.over:
            state.watch(now)

    # -- for the states: what follows

    @property
    def is_draining(self) -> bool:
        return self._handover.old is not None

    def enter(self, state: State, now: float) -> None:
        """Go to another state."""
        self._state.leave()
        self._state = state
        self._choose_hearer()
        state.enter(now)

    def connect(self, now: float) -> None:
        """Open a connection to the next attempt."""
        attempt = self._failover.next(now)
        if attempt is None:
            self._give_up(Failure(Kind.NO_ROUTE, "no provider is left to be asked"), now)
            return
        self._drop_old()
        self.enter(self._open(attempt, now), now)
        self.context.slow_down(self._state.connection)
        self._closing_goes_on(now)

    def connect_instead(self, plan: Plan, now: float) -> None:
        """Go by `plan`: the connection that is being opened, or has missed words, is not wanted
        any more."""
        assert self._state.connection is not None
        self.context.out.extend(self._connections.drop(self._state.connection))
        self._handover.withdraw()
        self._failover.replan(plan, now)
        self.connect(now)

    def ready(self, state: Connecting, now: float) -> None:
        """The connection takes audio."""
        connection = state.connection
        self._connections.ready(connection, now)
        if state in self._hedges:
            state.leave()
            self._hedges.remove(state)
            self._race(connection, now)
            self._keep_warm(now)  # it may be the session's first that takes audio
            return
        if state is self._warm.state:
            state.leave()
            self._warm_ready(connection, now)
            return
        if state is not self._state:
            state.leave()
            standby = Standby(self, connection)
            self._handover.prepare(standby)
            standby.enter(now)
            self.watch(now)
            return
        if self._hedges.about is connection:  # it was only slow to open
            self._drop_hedges()
        self._replay(connection, now)
        self._keep_warm(now)

    def _replay(self, connection: RecognizerConnection, now: float) -> None:
        """The connection hears all audio that is kept, then the user's."""
        if self._is_long_told(connection):
            self._client.tell(self.context.transcripts.settle_told())
        ahead = self._client.runs_ahead(self.buffer.end_s, now)
        if self.buffer.seconds > REPLAY_S_MIN and not ahead:
            connection.skip_silence()
        self._connections.replays(connection, self.buffer.seconds)
        self._serve(connection, now)

    def _is_long_told(self, connection: RecognizerConnection) -> bool:
        """Whether most of a replay would be words that the client knows."""
        until = self.context.transcripts.told_until
        return until is not None and self._told_s(connection, until) > TOLD_S_MAX

    def _told_s(self, connection: RecognizerConnection, until: float) -> float:
        return connection.replay_s(self.buffer, until)

    def _serve(self, connection: RecognizerConnection, now: float) -> None:
        """The user's audio goes to this connection from now on."""
        self._wish_before_age(connection, now)
        closing = self._client.closing
        self.enter(Closing(self, connection) if closing else CatchingUp(self, connection), now)

    def _wish_before_age(self, connection: RecognizerConnection, now: float) -> None:
        if connection.traits.session_s is not None and connection.ready_at is not None:
            self._handover.wish_before_age(connection.traits.session_s, connection.ready_at, now)

    def failed(self, state: Connected, failure: Failure, now: float) -> None:
        """The connection is of no more use."""
        connection = state.connection
        failure = replace(failure, provider=connection.attempt.provider)
        hedge = state in self._hedges
        self.context.out.extend(self._connections.failed(connection, failure, now, lost=hedge))
        if state is self._warm.state:
            self._warm.take(now).leave()
            self._warm_again(now)
            return
        if state is self._state:
            self._client.report.failovers += 1
            self._fall_back(connection, failure, now)
        elif isinstance(state, Connecting | Beside) and hedge:
            state.leave()
            self._hedges.failed(state)
            if isinstance(self._state, Connecting):
                self._failover.failed(connection.attempt, failure, now, opened=False)
            self._open_hedge(now)
        elif state is self._handover.old:
            self.drained(now)
        elif state is self._handover.next:
            state.leave()
            self._open_next(self._handover.next_failed(connection.attempt, failure, now), now)

    def _fall_back(self, connection: RecognizerConnection, failure: Failure, now: float) -> None:
        """The connection in use has failed."""
        self._drop_old()
        self._client.flush_failed()
        if self._hedges and not self._handover.plan:
            hedge = self._hedges.best()
            if not hedge.is_ready:  # it may fail as well: it is one of this round
                self._failover.failed(connection.attempt, failure, now, opened=False)
            self._take_over(hedge, now)
            return
        self._drop_hedges()
        if self._warm.is_ready:
            self._fall_back_to_warm(connection, failure, now)
            return
        if self._handover.next is not None:
            self._take_next(now)
            return
        if self._client.closing and now >= self._silent_by:
            self.context.close_well()
            return
        ready_at = connection.ready_at
        if ready_at is not None and now - ready_at >= SERVED_S:
            self._failover.serving(connection.attempt)
        outcome = self._failover.failed(
            connection.attempt, failure, now, opened=ready_at is not None
        )
        settings_wait = self._handover.plan
        self._handover.withdraw()
        if settings_wait:  # the client's update need not wait for a calm moment any more
            self._failover.replan(settings_wait, now)
        if isinstance(outcome, Exhausted) and not settings_wait:
            self._give_up(outcome.failure, now)
        elif self._may_sleep(now):
            self.enter(Asleep(self), now)
        elif isinstance(outcome, Retry) and outcome.at > now and not settings_wait:
            self.enter(Waiting(self, outcome.at), now)
        else:
            self.connect(now)

    def _take_next(self, now: float) -> None:
        """The one in use has failed while its successor was being opened: that one takes over."""
        state = self._handover.take_next()
        self._failover.serving(state.connection.attempt)
        if state.is_ready:
            state.leave()
            self._replay(state.connection, now)
        else:
            self._state.leave()
            self._state = state
            self._choose_hearer()
        self._closing_goes_on(now)

    # -- hedges: further connections beside a doubted one

    def doubted(self, state: Connected, now: float) -> None:
        """The connection in use does not open, or tells no words although there was speech: ask
        others too."""
        if state is not self._state:
            return
        connection, handover = state.connection, self._handover
        busy = bool(self._hedges) or handover.next is not None or handover.old is not None
        hears = not state.is_ready or self.context.stalls.hears_voice(connection)
        if not busy and hears:
            if state.is_ready:  # a fresh connection to the same may tell words too
                others = self._failover.others(connection.attempt, now)
                self._hedges.begin(connection, cycle((*others, connection.attempt)))
            else:
                self._hedges.begin(connection, cycle(self._rest_of_round(now)))
            self._open_hedge(now)
        self.context.stalls.not_doubted(connection, now)

    def _rest_of_round(self, now: float) -> Iterator[Attempt]:
        """Those that would be asked if a connection failed to open."""
        while self._failover.left and (attempt := self._failover.next(now)) is not None:
            yield attempt

    def _open_hedge(self, now: float) -> None:
        """Ask the next one beside the connection in use, within the budget. Beyond it, one that was
        quicker before, or does not open, is left when it is doubted again: no two are asked at a
        time."""
        doubted = self._state.connection
        if doubted is None:
            return
        if self._warm.is_ready:
            self._race(self._take_warm(now, hedge=True), now)
        elif (attempt := self._hedges.next()) is not None:
            connection, opening = self._connections.open(
                attempt, self.buffer.rate, self.context.timeout_s, now, hedge=True
            )
            self.context.out.append(opening)
            hedge = Connecting(self, connection)
            self._hedges.add(hedge)
            self._choose_hearer()
            hedge.enter(now)
            self._step_at(now + STEP_S)
        elif not self._hedges:
            self._nobody_beside(doubted, now)

    def _nobody_beside(self, doubted: RecognizerConnection, now: float) -> None:
        """All that were asked beside it were silent too, or there is no budget."""
        self.context.timers.clear("hedge")
        opens = isinstance(self._state, Connecting)
        quick = doubted.activity.longest_gap_s is not None or self._client.closing or opens
        more = self._hedges.has_more
        if more and quick and doubted.unhedged and isinstance(self._state, Connected):
            self.failed(self._state, Failure(Kind.TIMEOUT, SLOW if opens else SILENT), now)
            return
        doubted.unhedged = more
        if not more and not opens:
            self.context.stalls.doubted_in_vain()
        self.context.stalls.not_doubted(doubted, now)

    def _step_at(self, at: float) -> None:
        more = self._hedges.has_more
        self.context.timers.set("hedge", at if more else None, self._open_hedge)

    def _race(self, connection: RecognizerConnection, now: float) -> None:
        """A hedge takes audio: it has a step to tell words before the next is asked."""
        if isinstance(self._state, Connecting):  # the one in use does not even open
            self._win(connection, SLOW, now)
            self._replay(connection, now)
            self._closing_goes_on(now)
            return
        connection.skip_silence()
        self._connections.replays(connection, self.buffer.seconds)
        told_until = self.context.transcripts.told_until
        late = self._is_long_told(connection)
        step_s = self.context.stalls.step_s(connection)
        if told_until is not None:
            if late:
                connection.start_at(self.buffer.quiet_place(told_until - OVERLAP_S))
            step_s += min(TOLD_S_MAX, self._told_s(connection, told_until))
        beside = Beside(self, connection, begins_late=late)
        self._hedges.add(beside)
        self._choose_hearer()
        self._step_at(now + step_s)
        beside.enter(now)

    def spoke(self, state: Beside, event: RecognizerEvent, now: float) -> None:
        """A hedge tells words: it serves from now on, if they are news."""
        connection = state.connection
        if self._tells_no_news(connection, event) or self._state.connection is None:
            return
        state.leave()
        self._hedges.remove(state)
        self._win(connection, SILENT, now)
        self._serve_beside(state, now)
        self._closing_goes_on(now)
        if (serving := self._state_of(connection.number)) is not None and not self._client.over:
            serving.heard(event, now)

    def _win(self, connection: RecognizerConnection, why: str, now: float) -> None:
        """A hedge was quicker than the connection in use, which is given up with all others."""
        self._hedges.needed()
        doubted = self._state.connection
        assert doubted is not None
        self._client.report.failovers += 1
        self._client.flush_failed()
        if doubted.ready_at is None and now - doubted.began_at < OPEN_DOUBT_S:
            self.context.out.extend(self._connections.lost(doubted))  # it had no time to open
        else:
            failure = Failure(Kind.TIMEOUT, why, provider=doubted.attempt.provider)
            self.context.out.extend(self._connections.failed(doubted, failure, now))
        self._drop_hedges()
        self._take_place(connection)

    def _tells_no_news(self, connection: RecognizerConnection, event: RecognizerEvent) -> bool:
        """Whether a hedge repeats the beginning of what the client knows already."""
        told = self.context.transcripts.interim
        if told is None or not isinstance(event, InterimTranscript | EagerEndOfTurn):
            return False
        words = event.transcript.words
        if not words:
            return len(event.transcript.text) <= len(told.text)
        return connection.timeline.session_s(words[-1].end) <= told.end + NEWS_S_MIN

    def unproven(self, state: Beside, now: float) -> None:
        """A hedge tells no words either: there may be none, or it has failed too."""
        state.leave()
        self._hedges.remove(state)
        self.context.out.extend(self._connections.lost(state.connection))
        if not self._hedges:
            self._open_hedge(now)

    def _take_over(self, state: Connecting | Beside, now: float) -> None:
        """The connection in use is gone: a hedge takes its place. The race goes on until words are
        told."""
        if isinstance(state, Beside):
            self._take_place(state.connection)
            state.leave()
            self._serve_beside(state, now)
        else:
            self._handover.withdraw()
            self._state.leave()
            self._state = state
            self._choose_hearer()
        self._closing_goes_on(now)

    def _serve_beside(self, state: Beside, now: float) -> None:
        if state.begins_late:
            self._client.tell(self.context.transcripts.settle_told())
        self._serve(state.connection, now)

    def _take_place(self, connection: RecognizerConnection) -> None:
        self._handover.withdraw()
        self._failover.serving(connection.attempt)

    def _closing_goes_on(self, now: float) -> None:
        """Another connection may tell the last words."""
        if self._client.closing:
            self._limit_closing(now)

    def _drop_hedges(self) -> None:
        """The connection in use is not doubted any more, or others are asked in its place."""
        opens = isinstance(self._state, Connecting)
        running, unasked = self._hedges.clear()
        self._choose_hearer()
        for hedge in running:
            hedge.leave()
            self.context.out.extend(self._connections.lost(hedge.connection))
        if opens:  # they are still to be asked in this round
            for attempt in (*(hedge.connection.attempt for hedge in running), *unasked):
                if attempt not in self._failover.left:
                    self._failover.later(attempt)
        self.context.timers.clear("hedge")

    # -- a standby: connected and silent

    def _keep_warm(self, now: float) -> None:
        """Open a standby, if the session wants one and has none."""
        in_use = self._state.connection
        if self._warm.state is not None or in_use is None or self._client.closing:
            return
        if (attempt := self._warm.wanted(in_use.attempt, now)) is None:
            self._warm_again(now)
            return
        connection, opening = self._connections.open(
            attempt, self.buffer.rate, self.context.timeout_s, now, standby=True
        )
        self.context.out.append(opening)
        state = Connecting(self, connection)
        self._warm.became(state, now)
        state.enter(now)

    def _warm_again(self, now: float) -> None:
        self.context.timers.set("standby", self._warm.again_at(now), self._keep_warm)

    def _warm_ready(self, connection: RecognizerConnection, now: float) -> None:
        standby = Standby(self, connection)
        self._warm.became(standby, now)
        standby.enter(now)
        self.context.timers.set("standby", self._warm.ages_at(), self._renew_warm)
        if isinstance(self._state, Waiting):
            self._replay(self._take_warm(now), now)

    def _renew_warm(self, now: float) -> None:
        self._drop_warm(now)
        self._keep_warm(now)

    def _take_warm(self, now: float, *, hedge: bool = False) -> RecognizerConnection:
        """It serves, or is asked beside the one in use; another is opened after a while."""
        state = self._warm.take(now)
        state.leave()
        self._connections.put_to_use(state.connection, hedge=hedge)
        state.connection.activity.became_ready(now)
        self._warm_again(now)
        return state.connection

    def _fall_back_to_warm(
        self, connection: RecognizerConnection, failure: Failure, now: float
    ) -> None:
        """The connection in use has failed, and the standby serves at once."""
        self._failover.failed(connection.attempt, failure, now, opened=False)
        if self._handover.plan:  # the client's update need not wait for a calm moment any more
            self._failover.replan(self._handover.plan, now)
        self._drop_next()
        self._handover.withdraw()
        self._replay(self._take_warm(now), now)
        self._closing_goes_on(now)

    def _drop_warm(self, now: float) -> None:
        if self._warm.state is not None:
            state = self._warm.take(now)
            state.leave()
            self.context.out.extend(self._connections.lost(state.connection))
        self.context.timers.clear("standby")

    def _may_sleep(self, now: float) -> bool:
        """Whether no connection is needed before the user is heard again."""
        client = self._client
        wanted = client.closing or client.wants_answers
        return not wanted and self.context.nothing_said and client.is_muted(now)

    def _give_up(self, failure: Failure, now: float) -> None:
        if self._client.closing and (self.context.nothing_said or self.context.stalls.asked_again):
            self.context.close_well()
            return
        self.context.settle()
        self._client.refuse(failure)

    def _open(self, attempt: Attempt, now: float) -> Connecting:
        connection, opening = self._connections.open(
            attempt, self.buffer.rate, self.context.timeout_s, now
        )
        self.context.out.append(opening)
        return Connecting(self, connection)

    # -- the end

    def end(self, now: float) -> None:
        """The last connection is through, or its time is: ask another one if words are owed. The
        one before it may still tell some."""
        state = self._state
        if self._handover.old is not None and now < self._close_by:
            self._ends = True
            return
        if (
            not isinstance(state, Connected)
            or now >= self._close_by
            or not self.context.stalls.owes_last_final(state.connection)
        ):
            self.context.close_well()
            return
        self.context.stalls.asks_again(state.connection)
        self.failed(state, Failure(Kind.TIMEOUT, "the last transcripts did not come"), now)

    def _nobody_answers(self, now: float) -> None:
        """The session's end is waited for, and nobody has told words for long. One that takes audio
        and tells none before its finals still may."""
        connection = self._state.connection
        if connection is None or connection.ready_at is None or connection.doubt_s < float("inf"):
            self.context.close_well()

    def _limit_closing(self, now: float) -> None:
        """Bound the wait for the last finals."""
        by = now + self.context.closing_s(self._state.connection)
        self.context.timers.set("close", min(by, self._close_by), self.end)

    # -- the change of connections

    def wanted(
        self, plan: Plan, attempt: Attempt, now: float, *, moved: bool
    ) -> tuple[Plan, Attempt | None]:
        """Go by `plan` from now on, while `attempt` is in use. The plan for its successor, and what
        the same deployment is to be asked for, if it may stay in use."""
        self._failover.replan(plan, now)
        self._failover.serving(attempt)
        same = next((one for one in plan if one.deployment == attempt.deployment), None)
        if same is None or (moved and plan[0] is not same):
            return plan, None
        return (same, *(one for one in plan if one is not same)), same

    def replace(self, by: float, now: float, plan: Plan = ()) -> None:
        """Hand over in a calm moment, at the latest at `by`; to the session's plan if to none."""
        if plan:
            self._drop_next()
        self._handover.wish(now, by, plan)
        self._hand_over(now)

    def _drop_next(self) -> None:
        if (dropped := self._handover.drop_next()) is not None:
            dropped.leave()
            self.context.out.extend(self._connections.drop(dropped.connection))

    def watch(self, now: float) -> None:
        """Set the timers that are the session's: the next step of a handover, and the end of a
        client that sends no session.close."""
        if self._client.ends_itself:
            self.context.timers.follow("end", self._ends_at, self.context.close_well)
        self.context.timers.set("handover", self._hand_over_at(now), self._hand_over)

    def _ends_at(self) -> float | None:
        return self._client.ends_at(utterance_open=self.context.transcripts.is_open)

    def _hand_over_at(self, now: float) -> float | None:
        state = self._state
        if self._handover.at is None or not isinstance(state, Serving) or self._hedges:
            return None
        busy = self._is_busy(state.connection)
        return self._handover.moment(state.connection.activity, busy=busy, now=now)

    def _is_busy(self, connection: RecognizerConnection) -> bool:
        return self.context.transcripts.is_open or connection.is_behind(self.buffer)

    def _hand_over(self, now: float) -> None:
        """Take the next step of a handover, if its time has come."""
        at, connection = self._hand_over_at(now), self._state.connection
        if at is None or now < at or connection is None:
            self.watch(now)
        elif self._handover.next is not None:
            self._switch(connection, now)
        elif self._client.is_muted(now) and self._is_calm(connection, now):
            plan = self._handover.plan or self._plan_from(connection, now)
            self._failover.replan(plan, now)
            self._handover.withdraw()
            self._retire(connection, Asleep(self), now)
        else:
            plan = self._plan_from(connection, now)
            self._open_next(self._handover.first(plan, now), now)

    def _is_calm(self, connection: RecognizerConnection, now: float) -> bool:
        calm = now >= self._handover.calm_at(connection.activity)
        return calm and not self._is_busy(connection)

    def _plan_from(self, connection: RecognizerConnection, now: float) -> Plan:
        """The session's plan, with the attempt in use first."""
        return (connection.attempt, *self._failover.others(connection.attempt, now))

    def _plan_after(
        self, missed: RecognizerConnection, in_use: RecognizerConnection, now: float
    ) -> Plan:
        """Where to go on after a connection that missed words: the deployment that did comes
        last."""
        if self._handover.plan:
            return self._handover.plan
        first, *others = self._plan_from(in_use, now)
        same = missed.attempt.deployment == first.deployment
        return (*others, first) if same else (first, *others)

    def _open_next(self, attempt: Attempt | None, now: float) -> None:
        """Open a connection beside the one in use; without an attempt that one serves on."""
        if attempt is not None:
            opening = self._open(attempt, now)
            self._handover.prepare(opening)
            opening.enter(now)
        elif self._state.connection is not None:
            self._wish_before_age(self._state.connection, now)
        self.watch(now)

    def _drop_old(self) -> None:
        """Another connection hears everything since the last final, what the old one was sent too:
        both would tell the same words."""
        if (old := self._handover.old) is not None:
            old.leave()
            self.context.out.extend(self._connections.drop(old.connection))
            self._handover.forget_held()
            self._handover.drained()
            self._client.flush_failed()
            self._ends = False

    def _switch(self, connection: RecognizerConnection, now: float) -> None:
        """The user's audio goes to the next connection from here on."""
        standby = self._handover.take_next()
        standby.leave()
        successor = standby.connection
        successor.start_at(self.buffer.end)
        self._failover.serving(successor.attempt)
        self._wish_before_age(successor, now)
        self._retire(connection, Live(self, successor), now)
        self.context.slow_down(self._state.connection)

    def _retire(self, connection: RecognizerConnection, following: State, now: float) -> None:
        """`connection` gets no audio from here on, and is asked for its last finals."""
        connection.stop_at(self.buffer.end)
        self._client.flushing()
        old = Replaced(self, connection, following.connection)
        self._handover.drain(old)
        self.enter(following, now)
        old.enter(now)

    def drained(self, now: float) -> None:
        """The old connection has no more to say: what the new one said meanwhile comes now. If it
        has not told all that it was sent, another one hears everything since then."""
        old = self._handover.old
        assert old is not None
        old.leave()
        in_use = self._state.connection
        missed = in_use is old.successor and self.context.stalls.missed_words(old.connection)
        said = self.context.transcripts.interim
        if not missed or (said is not None and said.words):
            self.context.settle()  # without times nobody knows how far it came: it is heard again
        self.context.out.extend(self._connections.drop(old.connection))
        held = self._handover.drained()
        ends, self._ends = self._ends, False
        if missed:
            self._client.flush_failed()
            if in_use is None:
                self.connect(now)
            else:
                self.connect_instead(self._plan_after(old.connection, in_use, now), now)
            return
        if not self.context.stalls.has_untold_speech(old.connection):
            self.context.transcripts.flushed(old.connection.sent_until)
        self._client.acknowledge()
        for number, event in held:
            state = self._state_of(number)
            if state is not None and state is self._state and not self._client.over:
                state.heard(event, now)
        if ends and not self._client.over:
            self.end(now)
        if isinstance(self._state, Connected) and not self._client.over:
            self._state.watch(now)


def _has_words(event: RecognizerEvent) -> bool:
    told = InterimTranscript | FinalTranscript | EagerEndOfTurn
    return isinstance(event, told) and bool(event.transcript.text)
