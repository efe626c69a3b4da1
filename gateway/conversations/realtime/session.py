"""One /realtime WebSocket: whom to ask, what to pass on, when to turn to the next. Pure.

The client's upgrade waits until a line is open and greets: what fails until then is told by an HTTP
status, since LiveKit's client tries a refused handshake four times, but connects again without end
where it was let in. Until the first response begins, a line that fails is replaced without a word,
and the next provider hears again what the client has said (`replay.py`). Later the failure is told
by an `error` event and a close: half an answer cannot go on elsewhere, and the clients connect
again with their history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from gateway.conversations.realtime import messages
from gateway.conversations.realtime.replay import Replay
from gateway.conversations.timers import Timers
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Exhausted, Failover, Retry, RetryPolicy
from gateway.settings.realtime import RealtimeConfig
from gateway.telemetry.outcome import Try
from gateway.upstreams.bounds import Bound
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    Binary,
    ClientLeft,
    ConnectionFailed,
    DeadlinePassed,
    SocketClosed,
    SocketEvent,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt, Deployment, Plan
from gateway.upstreams.realtime import (
    ClientEvent,
    Greeter,
    InProcess,
    Line,
    LineFailed,
    RealtimeUpstream,
    ServerEvent,
    TokensUsed,
)

BACKOFF_S: Final = 0.25
BACKOFF_S_MAX: Final = 2.0
"""Pauses between rounds through the plan, see `RetryPolicy`."""

METER_S: Final = 10.0
"""Seconds of the client's audio that are reserved at a time: so much at most may be used, of a
session, that no other process knows of. Tokens are counted with each response."""

USED_UP_S: Final = 60.0
"""Once its key has nothing left, a session ends when no response is open; after so long in any
case."""

CALM_S: Final = 2.0
"""After the end of speech: how long a response is expected to begin, and the session not ended."""

DOUBT_S: Final = 0.5
"""How long a response that does not begin, or go on, is listened for once more."""

ITEMS_MAX: Final = 2048
"""Items before the first response; a conversation with more stays where it is."""

RESPONSES_MAX: Final = 64
"""Responses that are open at a time; the protocol has one, and those outside of the
conversation."""

TRANSCRIBERS_MAX: Final = 8
"""Models that write down what the caller says, in one session."""

TRIES_MAX: Final = 200
"""Lines listed in a report; later ones are left out."""

GOING_AWAY: Final = 1001
"""Close code with which the vendor ends a session that has lasted too long."""

_ITEM_TOLD: Final = frozenset(
    {"conversation.item.added", "conversation.item.created", "conversation.item.done"}
)
_CONTENT: Final = frozenset(
    {
        "response.output_audio.delta",
        "response.audio.delta",
        "response.output_text.delta",
        "response.text.delta",
        "response.function_call_arguments.delta",
    }
)


# -- events of its own


class Begin:
    """The first event of a session."""


class Admitted(NamedTuple):
    """What of the plan may be used, or why nothing."""

    plan: Plan | Failure


class Metered(NamedTuple):
    """Why the session has to end soon, if something is used up."""

    failure: Failure | None


# -- actions


class Admit(NamedTuple):
    """Ask what of the plan may be used. Admitted answers."""

    plan: Plan


class Open(NamedTuple):
    """Open a line; events about it carry this number."""

    number: int
    attempt: Attempt
    target: Dial | InProcess
    timeout_s: float


class Send(NamedTuple):
    """Send frames on the line with this number."""

    number: int
    frames: list[str]


class Drop(NamedTuple):
    """Close the line with this number."""

    number: int


class Accept:
    """Complete the client's upgrade."""


class Refuse(NamedTuple):
    """Answer the client's handshake with an error status; the session is over."""

    failure: Failure


class SendToClient(NamedTuple):
    """Send a text message to the client."""

    text: str


class Meter:
    """Count what was used so far, and reserve what comes next. Metered answers."""


class Close(NamedTuple):
    """Close the client's WebSocket; the session is over."""

    code: int
    reason: str = ""


Action = Admit | Open | Send | Drop | Accept | Refuse | SendToClient | Meter | Close
Event = Begin | Admitted | Metered | SocketEvent | Text | Binary | ClientLeft


@dataclass(slots=True)
class Used:
    """What one deployment was asked in a session, over so many lines. `open_s`: how long they were
    open; `told_s`: what the provider says of that. `transcribed_s`: of the caller's speech, by the
    model that wrote it down."""

    attempt: Attempt
    tokens: TokensUsed = field(default_factory=TokensUsed)
    lines: int = 0
    open_s: float = 0.0
    told_s: float | None = None
    transcribed_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Filled while the session runs. `first_s`: from the end of the caller's first turn to the
    first content of the answer. `audio_s`: of the caller."""

    tries: list[Try] = field(default_factory=list)
    responses: int = 0
    cancelled: int = 0
    failovers: int = 0
    audio_s: float = 0.0
    bytes_out: int = 0
    first_s: float | None = None
    failure: Failure | None = None
    left: bool = False
    served: Try | None = None


@dataclass(slots=True, eq=False)
class Running:
    """A line under way."""

    number: int
    attempt: Attempt
    line: Line
    told: Try
    opened: bool = False
    ready_at: float | None = None


Act = Callable[[float], None]


Planner = Callable[[str], Plan | Failure]
"""A model's name -> the attempts, in order."""


class RealtimeSession:
    """Events in, actions out. `charged`: there are limits to what its key may use."""

    greets: ClassVar[bool] = True
    """Whether a line says something as soon as it is open, and is of use only then."""

    def __init__(
        self,
        plan: Plan,
        upstreams: Mapping[str, RealtimeUpstream],
        config: RealtimeConfig,
        breaker: Breaker,
        session_id: str,
        now: float,
        *,
        charged: bool = False,
    ) -> None:
        self.report = Report()
        self.plan = plan
        self.asked: str | None = None
        """The model that the client has named in the session, where the URL named none."""
        self._upstreams = upstreams
        self._config = config
        self._breaker = breaker
        self._id = session_id
        self._charged = charged
        self._failover: Failover | None = None
        self._running: Running | None = None
        self._number = 0
        self._events = 0
        self._out: list[Action] = []
        self._timers: Timers[Act] = Timers()
        self._accepted = False
        self._over = False
        self._used: dict[Deployment, Used] = {}
        # the client's side
        self._said_at = now
        self._bytes_per_s = messages.BYTES_PER_S["audio/pcm"]
        self._transcriber = ""
        self._meter_at = METER_S
        self._used_up: Failure | None = None
        # until the first response
        self._replay: Replay | None = Replay(config.replay_s, config.replay_bytes)
        self._named: set[str] = set()  # items that the client has named itself
        self._told: dict[str, set[str]] = {}  # what it was told: type -> items
        self._greeted = False  # by session.created
        self._updates = 0  # session.updated that it was told
        self._skipped = 0  # and that the next line says again
        # the provider's side
        self._responses: set[str] = set()
        self._asked = False  # a response.create without an answer
        self._speaks = False
        self._turn_at: float | None = None  # the end of a turn that has no answer so far
        self._heard_at = now
        self._timers.set("connect", now + config.connect_s, self._unconnected)

    @property
    def deadline(self) -> float | None:
        return self._timers.earliest

    def may_end(self, now: float) -> bool:
        """Whether nobody speaks, and no response is open or expected."""
        running = self._running
        if running is None or running.ready_at is None:
            return False
        if self._speaks or self._responses or self._asked:
            return False
        return self._turn_at is None or now >= self._turn_at + CALM_S

    def used(self, now: float) -> list[Used]:
        """What each deployment was asked so far."""
        found = {
            deployment: replace(one, transcribed_s=dict(one.transcribed_s))
            for deployment, one in self._used.items()
        }
        running = self._running
        if running is not None and running.ready_at is not None:
            found[running.attempt.deployment].open_s += now - running.ready_at
        return list(found.values())

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        """What is to be done about an event, in order."""
        if self._over:
            return []
        match event:
            case SocketFrame(number, data):
                self._frame(number, data, now)
            case Text(text):
                self._text(text, now)
            case SocketOpened(number):
                self._opened(number, now)
            case SocketClosed() as closed:
                if (running := self._of(closed.attempt)) is not None:
                    self._line_closed(running, closed, now)
            case ConnectionFailed(number, failure):
                if (running := self._of(number)) is not None:
                    self._failed(running, failure, now)
            case DeadlinePassed():
                for act in self._timers.due(now):
                    if not self._over:
                        act(now)
            case Begin():
                self._enter(now)
            case Admitted(plan):
                if isinstance(plan, Failure):
                    self._end(plan, now)
                else:
                    self._begin(plan, now)
            case Metered(failure):
                if failure is not None and self._used_up is None:
                    self._used_up = failure
                    self._timers.set("used up", now + USED_UP_S, self._end_used_up)
                    if not self._responses and not self._asked:
                        self._end(failure, now)
            case Binary():
                self._complain(
                    Failure(Kind.BAD_REQUEST, "a binary message: expected events as JSON text")
                )
            case ClientLeft(code):
                self.report.left = code not in (1000, 1001, 1005)
                self._let_go(now)
                self._out.append(Close(1000))
        actions = self._out.copy()
        self._out.clear()
        return actions

    # -- lines

    def _line_closed(self, running: Running, event: SocketClosed, now: float) -> None:
        self._failed(running, running.line.closed(event.code, event.reason), now)

    def _of(self, number: int) -> Running | None:
        running = self._running
        return running if running is not None and running.number == number else None

    def _enter(self, now: float) -> None:
        """It is known what is asked for."""
        if self._charged:
            self._out.append(Admit(self.plan))
        else:
            self._begin(self.plan, now)

    def _begin(self, plan: Plan, now: float) -> None:
        rounds = 1 + self._config.retries
        policy = RetryPolicy(
            rounds=rounds, rounds_alone=rounds, backoff_s=BACKOFF_S, backoff_max_s=BACKOFF_S_MAX
        )
        self._failover = Failover(plan, policy, self._breaker, now)
        self._open_next(now)

    def _open_next(self, now: float) -> None:
        assert self._failover is not None
        attempt = self._failover.next(now)
        assert attempt is not None  # it was said that there is one
        self._number += 1
        line = self._upstreams[attempt.provider].line(attempt)
        told = Try(attempt.provider, attempt.model, now, asked=True)
        if len(self.report.tries) < TRIES_MAX:
            self.report.tries.append(told)
        self._running = Running(self._number, attempt, line, told)
        self._breaker.began(attempt, now)
        timeout_s = self._config.open_timeout_s
        self._out.append(Open(self._number, attempt, line.dial(), timeout_s))
        self._timers.set("open", now + timeout_s, self._late)

    def _opened(self, number: int, now: float) -> None:
        if (running := self._of(number)) is not None:
            running.opened = True
            if opening := list(running.line.opening()):
                self._out.append(Send(number, opening))
            if isinstance(running.line, Greeter):
                self._take(running, running.line.greeting(), now)
            elif not self.greets and running.ready_at is None:
                self._ready(running, now)

    def _late(self, now: float) -> None:
        if (running := self._running) is not None:
            what = "greet" if running.opened else "open the connection"
            self._failed(
                running, Failure(Kind.TIMEOUT, f"the provider did not {what} in time"), now
            )

    def _ready(self, running: Running, now: float) -> None:
        """The line greets: it takes what the client says."""
        running.ready_at = now
        running.told.first_s = now - running.told.began
        self._timers.clear("open")
        self._breaker.worked(running.attempt)
        deployment = running.attempt.deployment
        self._used.setdefault(deployment, Used(running.attempt)).lines += 1
        self.report.served = running.told
        self._timers.clear("connect")
        if not self._accepted:
            self._let_in(now)
        assert self._replay is not None
        self._skipped = self._updates
        for event in self._replay:
            self._take(running, running.line.encode(event), now)
        if self._asked:
            self._expect_response(now)

    def _let_in(self, now: float) -> None:
        self._accepted = True
        self._said_at = now
        self._timers.follow("idle", lambda: self._said_at + self._config.idle_s, self._idle)
        self._out.append(Accept())

    def _failed(self, running: Running, failure: Failure, now: float) -> None:
        """A line has ended in `failure`: the next one, or the end."""
        failure = replace(failure, provider=running.attempt.provider)
        running.told.failure, running.told.ended = failure, now
        running.told.rests = self._breaker.failed(running.attempt, failure, now)
        self._drop(now)
        self._timers.clear("open", "response", "stall")
        assert self._failover is not None
        if self._replay is None or not self._replay.whole:
            self._end(failure, now)
            return
        match self._failover.failed(running.attempt, failure, now, opened=running.opened):
            case Retry(at):
                self._forget_told()
                if at <= now:
                    self._open_next(now)
                else:
                    self._timers.set("retry", at, self._open_next)
            case Exhausted(last):
                self._end(last, now)

    def _forget_told(self) -> None:
        """The next line makes items of its own of what the client has said: those of the lost one
        are gone. What the client has named keeps its name."""
        if not self._accepted:
            return
        self.report.failovers += 1
        own = {item for items in self._told.values() for item in items} - self._named
        for item in sorted(own):
            self._out.append(SendToClient(messages.item_deleted(item, self._event_id())))
        for items in self._told.values():
            items -= own
        self._speaks = False

    def _drop(self, now: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if running.ready_at is not None:
            self._used[running.attempt.deployment].open_s += now - running.ready_at
        self._out.append(Drop(running.number))

    # -- what the provider says

    def _frame(self, number: int, data: str | bytes, now: float) -> None:
        running = self._of(number)
        if running is None:
            return
        self._heard_at = now
        self._take(running, running.line.decode(data), now)

    def _take(
        self, running: Running, said: Sequence[ServerEvent | LineFailed | str], now: float
    ) -> None:
        """What a line says to both sides, in order."""
        for one in said:
            if self._running is not running:
                return  # it was of no use any more
            if isinstance(one, str):
                self._out.append(Send(running.number, [one]))
            elif isinstance(one, LineFailed):
                self._failed(running, one.failure, now)
            elif running.ready_at is None and one.type == "error":
                self._failed(running, _refusal(one), now)
            else:
                if running.ready_at is None:
                    self._ready(running, now)
                self._told_by_provider(one, running, now)

    def _told_by_provider(self, event: ServerEvent, running: Running, now: float) -> None:
        if self._replay is not None and self._was_told(event):
            return
        self._out.append(SendToClient(event.text))
        self.report.bytes_out += len(event.text)
        self._provider_said(event, running, now)

    def _provider_said(self, event: ServerEvent, running: Running, now: float) -> None:
        """What is to be known of an event that was passed on."""
        match event.type:
            case kind if kind in _CONTENT:
                if self._turn_at is not None:
                    if self.report.first_s is None:
                        self.report.first_s = now - self._turn_at
                    self._turn_at = None
            case "response.created":
                self._response_begun(event, now)
            case "response.done":
                self._response_done(event, running, now)
            case "input_audio_buffer.speech_started":
                self._speaks = True
            case "input_audio_buffer.speech_stopped" | "input_audio_buffer.committed":
                self._speaks = False
                self._turn_at = now
            case "conversation.item.input_audio_transcription.completed":
                self._transcribed(event, running)
            case "error":
                self._asked = False
                self._timers.clear("response")

    def _was_told(self, event: ServerEvent) -> bool:
        """Whether the client was told this by a line that was lost. Only before the first
        response."""
        if event.type == "session.created":
            was_greeted, self._greeted = self._greeted, True
            return was_greeted
        if event.type == "session.updated":
            if self._skipped:
                self._skipped -= 1
                return True
            self._updates += 1
        elif event.type in _ITEM_TOLD:
            item = messages.item_id_of(event.body)
            known = self._told.setdefault(event.type, set())
            if item in known:
                return True
            known.add(item)
            if len(known) > ITEMS_MAX:
                self._stay()
        return False

    def _stay(self) -> None:
        """From now on the session is not moved to another provider."""
        self._replay = None
        self._named.clear()
        self._told.clear()

    def _response_begun(self, event: ServerEvent, now: float) -> None:
        self._stay()
        self._asked = False
        self._timers.clear("response")
        if len(self._responses) < RESPONSES_MAX:
            self._responses.add(_response_id(event.body))
        self._watch_response()

    def _response_done(self, event: ServerEvent, running: Running, now: float) -> None:
        known = _response_id(event.body)
        if known in self._responses:
            self._responses.discard(known)
        else:
            self._responses.clear()
        if not self._responses:
            self._timers.clear("stall")
        self.report.responses += 1
        self.report.cancelled += _status(event.body) == "cancelled"
        if (tokens := messages.tokens_of(event.body)) is not None:
            one = self._used[running.attempt.deployment]
            one.tokens += tokens
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Something was used that costs."""
        if self._used_up is not None and not self._responses:
            self._end(self._used_up, now)
        elif self._charged:
            self._out.append(Meter())

    def _transcribed(self, event: ServerEvent, running: Running) -> None:
        seconds = self._used[running.attempt.deployment].transcribed_s
        if self._transcriber in seconds or len(seconds) < TRANSCRIBERS_MAX:
            before = seconds.get(self._transcriber, 0.0)
            seconds[self._transcriber] = before + messages.transcribed_s(event.body)

    # -- what the client says

    def _text(self, text: str, now: float) -> None:
        self._said_at = now
        event = messages.read_event(text)
        if isinstance(event, Failure):
            self._complain(event)
            return
        audio_s = self._client_said(event, now)
        if audio_s is None:
            return
        self.report.audio_s += audio_s
        if self._replay is not None:
            self._replay.add(event, audio_s)
        self._pass_on(event, now)
        if self._charged and self.report.audio_s >= self._meter_at:
            self._meter_at = self.report.audio_s + METER_S
            self._out.append(Meter())

    def _client_said(self, event: ClientEvent, now: float) -> float | None:
        """What is to be known of an event before it is passed on: the seconds of audio in it; None:
        it is not passed on."""
        match event.type:
            case "input_audio_buffer.append":
                return messages.audio_seconds(event, self._bytes_per_s)
            case "session.update":
                session = event.body.get("session")
                self._bytes_per_s = messages.input_bytes_per_s(session, self._bytes_per_s)
                self._transcriber = messages.transcriber(session, self._transcriber)
            case "response.create":
                self._asked, self._turn_at = True, now
                self._expect_response(now)
            case "conversation.item.create":
                if self._replay is not None and len(self._named) <= ITEMS_MAX:
                    self._named.add(messages.item_id_of(event.body))
        return 0.0

    def _pass_on(self, event: ClientEvent, now: float) -> None:
        running = self._running
        if running is not None and running.ready_at is not None:
            self._take(running, running.line.encode(event), now)

    def _complain(self, failure: Failure) -> None:
        """Tell the client of a mistake; the session goes on, as the vendor's does."""
        self._tell(self._error(failure))

    def _tell(self, text: str) -> None:
        self._out.append(SendToClient(text))

    def _error(self, failure: Failure, about: str | None = None) -> str:
        return messages.error_event(failure, self._event_id(), about)

    def _expect_response(self, now: float) -> None:
        if not self._responses:
            # where nobody else can be asked there is no hurry
            config = self._config
            wait_s = config.stall_s if self._replay is None else config.response_timeout_s
            self._timers.set("response", now + wait_s, self._doubt_begin)

    # -- time

    def _unconnected(self, now: float) -> None:
        """The client would give up. What failed before says more than that it took too long."""
        failures = [one.failure for one in self.report.tries if one.failure is not None]
        late = Failure(Kind.TIMEOUT, "no provider took the session in time")
        if (running := self._running) is not None:
            running.told.failure = late
            running.told.rests = self._breaker.failed(running.attempt, late, now)
        self._end(failures[-1] if failures else late, now)

    def _doubt_begin(self, now: float) -> None:
        """As `_doubt`."""
        self._timers.set("response", now + DOUBT_S, self._no_response)

    def _no_response(self, now: float) -> None:
        if (running := self._running) is not None:
            why = "the provider did not begin the response in time"
            self._failed(running, Failure(Kind.TIMEOUT, why), now)

    def _watch_response(self) -> None:
        self._timers.follow("stall", lambda: self._heard_at + self._config.stall_s, self._doubt)

    def _doubt(self, since: float) -> None:
        """Nothing was heard for long. What the provider has sent may wait behind a client that
        does not read: it is looked at first."""

        def judge(now: float) -> None:
            if self._heard_at >= since:
                self._watch_response()
            else:
                self._stalled(now)

        self._timers.set("stall", since + DOUBT_S, judge)

    def _stalled(self, now: float) -> None:
        if (running := self._running) is not None:
            why = f"nothing came of the response for {self._config.stall_s:g} s"
            self._failed(running, Failure(Kind.TIMEOUT, why), now)

    def _idle(self, now: float) -> None:
        why = f"nothing came from the client for {self._config.idle_s:g} s"
        self._end(Failure(Kind.IDLE, why, bound=Bound.SESSION_IDLE), now)

    def _end_used_up(self, now: float) -> None:
        if self._used_up is not None:
            self._end(self._used_up, now)

    # -- the end

    def _end(self, failure: Failure, now: float) -> None:
        """Tell the client, as far as it was let in, and be done."""
        self.report.failure = failure
        self._let_go(now)
        if not self._accepted:
            self._out.append(Refuse(failure))
            return
        self._out.append(SendToClient(self._error(failure)))
        if failure.kind is Kind.SESSION_LIMIT:
            code = GOING_AWAY
        else:
            code = 1008 if failure.status < 500 else 1011
        self._out.append(Close(code, failure.message))

    def _let_go(self, now: float) -> None:
        running = self._running
        if running is not None:
            running.told.ended = now
            running.told.left = self.report.left and running.told.failure is None
            self._breaker.cancelled(running.attempt)
        self._drop(now)
        self._timers.clear_all()
        self._over = True

    def _event_id(self) -> str:
        self._events += 1
        return f"event_{self._id}_{self._events}"


def _refusal(event: ServerEvent) -> Failure:
    """An error in place of a greeting."""
    error = event.body.get("error")
    words: Any = error.get("message") if isinstance(error, dict) else None
    said = words if isinstance(words, str) and words else "the provider gave no reason"
    return Failure(Kind.UPSTREAM_REFUSED, said)


def _response_id(body: Mapping[str, Any]) -> str:
    match body:
        case {"response": {"id": str(known)}}:
            return known
    return ""


def _status(body: Mapping[str, Any]) -> str:
    match body:
        case {"response": {"status": str(status)}}:
            return status
    return ""
