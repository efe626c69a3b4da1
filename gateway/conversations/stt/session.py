"""One /stt WebSocket: what its client says, and what comes of it. Pure.

`caller` is the client's side of it, `service` that of the recognisers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.conversations.stt import protocol
from gateway.conversations.stt.actions import Action, Linger
from gateway.conversations.stt.client_state import ClientState
from gateway.conversations.stt.connections import RecognizerConnections
from gateway.conversations.stt.course import Course
from gateway.conversations.stt.planning import updated
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
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.routing.breaker import Breaker
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, SocketEvent, Text
from gateway.upstreams.plan import Plan
from gateway.upstreams.stt import (
    SttUpstream,
)

Planner = Callable[[Asked], Plan | Failure]
"""Who is to be asked for what a client wants; see `planning`."""

CREATE_S: Final = 30.0
"""A client that has not sent session.create after so long is let go."""

LINGER_S: Final = 0.25
"""After session.close nothing is said for so long: @livekit/agents 1.9 sends its close right
behind it, and its process dies of any message that comes then."""

_EPSILON: Final = 0.02

Event = Text | Binary | ClientLeft | SocketEvent


class SttSession:
    """Events in, actions out.

    `ends_itself` is for clients that finalize at the end and then wait for the server to close.
    """

    def __init__(
        self,
        config: SttConfig,
        planner: Planner,
        upstreams: Mapping[str, SttUpstream],
        health: Breaker,
        session_id: str,
        now: float,
        *,
        ends_itself: bool = False,
    ) -> None:
        self._config = config
        self._planner = planner
        self._health = health
        self._began_at = now
        self._asked: Asked | None = None
        self._rate = 16_000
        self.report = Report()
        self._caller = ClientState(session_id, self.report, now, ends_itself=ends_itself)
        self._lines = RecognizerConnections(upstreams, health, self.report)
        self._telling: TranscriptAssembler | None = None
        self._service: Recognition | None = None
        self.deadline: float | None = now + CREATE_S

    # -- the way in

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        caller = self._caller
        if caller.over:
            return []
        caller.out = []
        if isinstance(event, Text):
            caller.heard_at = now
            message = protocol.read_message(event.text)
            if isinstance(message, bytes):
                if self._audio(message, now):
                    return caller.out  # a live frame: nothing can be due earlier than before
            else:
                self._message(message, now)
        elif isinstance(event, ClientLeft):
            self.report.left = event.code not in (1000, 1001, 1005)
            caller.end(1000)
        elif isinstance(event, Binary):
            caller.refuse(Failure(Kind.BAD_REQUEST, "binary message: audio is sent as input_audio"))
        elif isinstance(event, DeadlinePassed):
            self._tick(now)
        elif self._service is not None:
            self._service.happened(event, now)
        if self._caller.over and self._service is not None:
            caller.out[:0] = self._service.let_go()
        self._schedule(now)
        return caller.out

    # -- the client

    def _message(
        self, message: Create | Update | FinalizeSession | CloseSession | Failure, now: float
    ) -> None:
        if isinstance(message, Failure):
            self._caller.refuse(message)
        elif isinstance(message, Create):
            self._create(message, now)
        elif isinstance(message, CloseSession):
            self._close(now)
        elif self._asked is None:
            self._caller.refuse(
                Failure(Kind.BAD_REQUEST, "type: expected session.create first", "type")
            )
        elif isinstance(message, Update):
            self._update(message, self._asked, now)
        elif self._service is not None:
            self._service.finalize(now)

    def _create(self, create: Create, now: float) -> None:
        if self._asked is not None:
            self._caller.refuse(Failure(Kind.BAD_REQUEST, "session.create was sent before", "type"))
            return
        plan = self._planner(create.asked)
        if isinstance(plan, Failure):
            self._caller.refuse(plan)
            return
        self._asked = create.asked
        self._rate = create.sample_rate
        kept = ReplayBuffer(create.sample_rate, self._config.replay_s)
        self._telling = TranscriptAssembler(kept, self._caller.id)
        self._telling.language = _told_language(create.asked.language)
        timeout_s = min(self._config.open_timeout_s, create.timeout_s or TIMEOUT_S_MAX)
        retries = self._config.retries if create.retries is None else create.retries
        course = Course(self._health, retries)
        course.begin(plan, now)
        self.report.model = create.asked.model or "auto"
        self._caller.say("session.created")
        self._service = Recognition(
            self._config, self._caller, self._lines, course, kept, self._telling, timeout_s
        )
        self._service.open_line(now)

    def _audio(self, pcm: bytes, now: float) -> bool:
        """Keep the audio and pass it on; whether it was a frame like all others."""
        caller = self._caller
        if self._service is None:
            caller.refuse(Failure(Kind.BAD_REQUEST, "audio before session.create", "type"))
            return False
        if caller.closing_by is not None:
            return True  # after session.close: not asked for
        wrong = protocol.check_audio(pcm, self._rate)
        if wrong is not None:
            caller.refuse(wrong)
            return False
        if not pcm:
            return True
        if caller.first_audio_at is None:
            caller.first_audio_at = now
        caller.audio_at = now
        return self._service.hear(pcm, now)

    def _close(self, now: float) -> None:
        if self._caller.closing_by is not None:
            return
        self._caller.out.append(Linger(LINGER_S))
        if self._service is None:
            self._caller.close_well()
        else:
            self._service.close(now)

    def _update(self, update: Update, asked: Asked, now: float) -> None:
        assert self._service is not None
        assert self._telling is not None
        changed = updated(asked, update)
        plan = self._planner(changed)
        if isinstance(plan, Failure):
            self._caller.refuse(plan)
            return
        self._asked = changed
        self._telling.language = _told_language(changed.language)
        self._service.change(plan, moved=update.model is not None, now=now)

    # -- time

    def _tick(self, now: float) -> None:
        idle_s = self._config.idle_s
        if self._service is None:
            why = f"session.create did not come within {CREATE_S:g} s"
            self._caller.refuse(Failure(Kind.IDLE, why))
        elif now >= self._caller.heard_at + idle_s:
            why = f"nothing came from the client for {idle_s:g} s"
            self._caller.refuse(Failure(Kind.IDLE, why))
        else:
            self._service.tick(now)

    def _schedule(self, now: float) -> None:
        """Say when to be woken."""
        if self._caller.over:
            self.deadline = None
        elif self._service is None:
            self.deadline = self._began_at + CREATE_S
        else:
            due = [self._caller.heard_at + self._config.idle_s]
            due += [at for at in self._service.dues(now) if at is not None]
            # what is due was just done; a rule that does not let go may not spin
            self.deadline = max(min(due), now + _EPSILON)


def _told_language(language: str | None) -> str | None:
    """The language that transcripts carry when the provider names none."""
    return None if language == "multi" else language
