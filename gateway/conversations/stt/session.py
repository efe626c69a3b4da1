"""One /stt WebSocket: what its client says, and what is done about it. Pure.

`ClientState` is the client's side of it, `Recognition` that of the recognisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.actions import Action, Admit, Admitted, Meter, Metered
from gateway.conversations.stt.client_state import ClientState
from gateway.conversations.stt.connections import RecognizerConnections, Used
from gateway.conversations.stt.context import Act, Context
from gateway.conversations.stt.handover import Handover
from gateway.conversations.stt.planning import asked_name, updated
from gateway.conversations.stt.protocol import (
    TIMEOUT_S_MAX,
    Asked,
    CloseSession,
    Create,
    FinalizeSession,
    Update,
)
from gateway.conversations.stt.recognition import Recognition
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.conversations.stt.report import Report
from gateway.conversations.stt.stall_detector import StallDetector
from gateway.conversations.stt.standby import Places, WarmStandby
from gateway.conversations.stt.states import Connecting, Standby
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.conversations.timers import Timers
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Failover, RetryPolicy
from gateway.routing.hedging import HedgeBudget
from gateway.settings.stt import SttConfig
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, SocketEvent, Text
from gateway.upstreams.plan import Plan
from gateway.upstreams.stt import SttUpstream

Planner = Callable[[Asked], Plan | Failure]
"""What a client asks for -> the attempts, in order; see `planning`."""

Standbys = Callable[[Asked], Plan]
"""What a client asks for -> whom to keep connected beside the recogniser in use, if anybody."""


def _none(_: Asked) -> Plan:
    return ()


CREATE_S: Final = 30.0
"""Longest wait for session.create."""

BACKOFF_S: Final = 0.25
BACKOFF_S_MAX: Final = 2.0
"""Pauses between rounds through the plan, see `RetryPolicy`."""

METER_S: Final = 10.0
"""Seconds of audio that are reserved at a time: so much at most may be used, of a session, that no
other process knows of."""

USED_UP_S: Final = 50.0
"""Once its key has nothing left, a session ends when nobody speaks; after so much more audio in
any case. With METER_S: a caller that never pauses takes a minute too much."""

_NEVER: Final = float("inf")

CALM_EVERY_S: Final = 0.25
"""So often it is looked whether nobody speaks."""

Event = Text | Binary | ClientLeft | SocketEvent | Admitted | Metered


class SttSession:
    """Events in, actions out.

    `hedges`, `places`: the budget of hedges and of standbys that all sessions of the process
    share. `charged`: there are limits to what its key may use. `tells_words`: the words that are
    heard are told (`Heard`). `ends_itself`: the client sends no
    session.close, but waits after its last finalize for the server to end the session.
    """

    def __init__(
        self,
        config: SttConfig,
        planner: Planner,
        upstreams: Mapping[str, SttUpstream],
        breaker: Breaker,
        session_id: str,
        now: float,
        *,
        hedges: HedgeBudget | None = None,
        standbys: Standbys = _none,
        places: Places | None = None,
        ends_itself: bool = False,
        charged: bool = False,
        tells_words: bool = False,
    ) -> None:
        self.report = Report()
        self._standbys = standbys
        self._standby: WarmStandby[Connecting | Standby] = WarmStandby(places or Places(1), breaker)
        self._config = config
        self._planner = planner
        self._breaker = breaker
        self._hedges = hedges or HedgeBudget(config.hedge.share_max)
        self._asked: Asked | None = None
        self._rate = 16_000
        self._heard_at = now
        self._out: list[Action] = []
        self._timers: Timers[Act] = Timers()
        self._client = ClientState(session_id, self.report, self._out, now, ends_itself=ends_itself)
        self._connections = RecognizerConnections(upstreams, breaker, self.report)
        self._recognition: Recognition | None = None
        self._charged = charged
        self._tells_words = tells_words
        self._waits: Create | Update | None = None  # for Admitted
        self._meter_at = _NEVER  # a sample of the session
        self._used_up: Failure | None = None
        self._ends_by = 0.0  # seconds of the session's audio, once something is used up
        self._timers.set("create", now + CREATE_S, self._not_created)

    @property
    def deadline(self) -> float | None:
        """When the session wants `DeadlinePassed`; None: never."""
        return self._timers.earliest

    @property
    def heard_s(self) -> float:
        """Seconds of audio that the client has sent so far."""
        return 0.0 if self._recognition is None else self._recognition.heard_s

    def used(self) -> list[Used]:
        """What each deployment was sent so far."""
        return self._connections.used()

    def may_end(self, now: float) -> bool:
        """Whether nobody speaks, and the client has the final of what was said."""
        return self._recognition is None or self._recognition.is_calm(now)

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        """What is to be done about an event, in order."""
        if self._client.over:
            return []
        if isinstance(event, Text):
            self._heard_at = now
            message = protocol.read_message(event.text)
            if isinstance(message, bytes):
                return self._audio(message, now)
            self._message(message, now)
        elif isinstance(event, DeadlinePassed):
            for act in self._timers.due(now):
                if not self._client.over:
                    act(now)
        elif isinstance(event, ClientLeft):
            self.report.left = event.code not in (1000, 1001, 1005)
            self._client.end(1000)
        elif isinstance(event, Admitted):
            self._admitted(event.plan, now)
        elif isinstance(event, Metered):
            if event.failure is not None and self._recognition is not None:
                self._meter_at = _NEVER
                if self._used_up is None:  # it is told again with each record of a long session
                    self._used_up = event.failure
                    self._ends_by = self._recognition.heard_s + USED_UP_S
                self._end_used_up(now)
        elif isinstance(event, Binary):
            self._refuse("binary message: audio is sent as input_audio", None)
        elif self._recognition is not None:
            self._recognition.happened(event, now)
        return self._take_actions(now)

    def _take_actions(self, now: float) -> list[Action]:
        actions = self._out.copy()
        self._out.clear()
        if self._client.over:
            self._timers.clear_all()
            if self._recognition is not None:
                return [*self._recognition.let_go(now), *actions]
        return actions

    # -- the client

    def _audio(self, pcm: bytes, now: float) -> list[Action]:
        """20 times a second: see `Live.hear` for the usual way."""
        if self._recognition is None:
            self._refuse("audio before session.create", "type")
            return self._take_actions(now)
        if self._client.closing:
            return []  # after session.close: nobody asked for it
        wrong = protocol.check_audio(pcm, self._rate)
        if wrong is not None:
            self._client.refuse(wrong)
            return self._take_actions(now)
        if not pcm:
            return []
        client = self._client
        client.audio_at = now
        if client.first_audio_at is None:
            client.first_audio_at = now
        buffer = self._recognition.buffer
        buffer.add(pcm)
        if buffer.end < self._meter_at:
            return self._recognition.hear(now)
        self._meter_at = buffer.end + METER_S * self._rate
        return [*self._recognition.hear(now), Meter()]

    def _message(
        self, message: Create | Update | FinalizeSession | CloseSession | Failure, now: float
    ) -> None:
        if isinstance(message, Failure):
            self._client.refuse(message)
        elif isinstance(message, Create):
            self._create(message, now)
        elif isinstance(message, CloseSession):
            self._close(now)
        elif self._recognition is None or self._asked is None:
            self._refuse("type: expected session.create first", "type")
        elif isinstance(message, Update):
            self._update(message, self._asked, self._recognition, now)
        else:
            self._recognition.finalize(now)

    def _refuse(self, why: str, param: str | None) -> None:
        self._client.refuse(Failure(Kind.BAD_REQUEST, why, param))

    def _create(self, create: Create, now: float) -> None:
        if self._asked is not None:
            self._refuse("session.create was sent before", "type")
            return
        plan = self._planner(create.asked)
        if isinstance(plan, Failure):
            self._client.refuse(plan)
        elif self._charged:
            self._waits = create
            self._out.append(Admit(asked_name(create.asked, plan), plan, is_new=True))
        else:
            self._begin(create, plan, now)

    def _admitted(self, plan: Plan | Failure, now: float) -> None:
        """The quota has answered."""
        waits, self._waits = self._waits, None
        if isinstance(waits, Create):
            if isinstance(plan, Failure):
                self._client.refuse(plan)
            else:
                self._begin(waits, plan, now)
        elif isinstance(waits, Update) and self._recognition is not None and self._asked:
            changed = updated(self._asked, waits)
            self._change(changed, plan, self._recognition, now, moved=waits.model is not None)

    def _begin(self, create: Create, plan: Plan, now: float) -> None:
        self._asked = create.asked
        self._rate = create.sample_rate
        if self._charged:
            self._meter_at = METER_S * self._rate
        self.report.model = create.asked.model or "auto"
        self._client.say("session.created")
        self._recognition = self._new_recognition(create, plan, now)
        self._recognition.set_language(_known_language(create.asked.language))
        self._recognition.connect(now)
        self._timers.clear("create")
        self._timers.follow("idle", self._idle_at, self._idle)

    def _new_recognition(self, create: Create, plan: Plan, now: float) -> Recognition:
        config = self._config
        retries = config.retries if create.retries is None else create.retries
        policy = RetryPolicy(
            rounds=1 + retries,
            rounds_alone=1 + retries,
            backoff_s=BACKOFF_S,
            backoff_max_s=BACKOFF_S_MAX,
            ask_others_always=True,
        )
        buffer = ReplayBuffer(create.sample_rate, config.replay_s)
        transcripts = TranscriptAssembler(buffer, self._client.id)
        context = Context(
            config=config,
            client=self._client,
            failover=Failover(plan, policy, self._breaker, now),
            buffer=buffer,
            transcripts=transcripts,
            stalls=StallDetector(config, buffer, transcripts, self._breaker),
            timers=self._timers,
            out=self._out,
            timeout_s=min(config.open_timeout_s, create.timeout_s or TIMEOUT_S_MAX),
            tells_words=self._tells_words,
        )
        self._standby.go_by(self._standbys(create.asked))
        return Recognition(
            context, self._connections, Handover(self._breaker), self._hedges, self._standby
        )

    def _close(self, now: float) -> None:
        if self._client.closing:
            return
        self._client.close()
        if self._recognition is None:
            self._client.close_well()
        else:
            self._recognition.close(now)

    def _update(self, update: Update, asked: Asked, recognition: Recognition, now: float) -> None:
        changed = updated(asked, update)
        plan = self._planner(changed)
        if self._charged and not isinstance(plan, Failure):
            self._waits = update
            self._out.append(Admit(asked_name(changed, plan), plan, is_new=False))
            return
        self._change(changed, plan, recognition, now, moved=update.model is not None)

    def _change(
        self,
        changed: Asked,
        plan: Plan | Failure,
        recognition: Recognition,
        now: float,
        *,
        moved: bool,
    ) -> None:
        if isinstance(plan, Failure):
            self._client.refuse_update(plan)
            return
        self._asked = changed
        recognition.set_language(_known_language(changed.language))
        recognition.update(plan, self._standbys(changed), now, moved=moved)

    def _end_used_up(self, now: float) -> None:
        """Its key has nothing left: the session ends between two utterances."""
        recognition, failure = self._recognition, self._used_up
        if recognition is None or failure is None or self._client.closing:
            return  # it ends by itself
        if recognition.heard_s >= self._ends_by or recognition.is_calm(now):
            recognition.end_with(failure)
        else:
            self._timers.set("used up", now + CALM_EVERY_S, self._end_used_up)

    # -- time

    def _not_created(self, _: float) -> None:
        why = f"session.create did not come within {CREATE_S:g} s"
        self._client.refuse(Failure(Kind.IDLE, why, bound=Bound.CREATE_TIME))

    def _idle_at(self) -> float:
        return self._heard_at + self._config.idle_s

    def _idle(self, _: float) -> None:
        why = f"nothing came from the client for {self._config.idle_s:g} s"
        self._client.refuse(Failure(Kind.IDLE, why, bound=Bound.SESSION_IDLE))


def _known_language(language: str | None) -> str | None:
    """The language of transcripts whose provider names none."""
    return None if language == "multi" else language
