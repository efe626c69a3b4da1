"""One chat request: whom to ask, what to pass on, when to turn to the next. Pure.

Nothing reaches the client of an upstream that fails before its first content, so the switch to
the next one leaves no trace; after the first content nothing is retried. Several upstreams are
asked at a time only where hedging is on: the first to speak wins, the others are let go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from gateway.conversations.chat.protocol import KEEPALIVE, LOADING, error_event
from gateway.routing.abilities import Abilities, needs_of
from gateway.routing.breaker import OWN_FAULT, Breaker
from gateway.routing.capacity import RANKS, ConcurrencyLimiter, Permit
from gateway.routing.failover import Exhausted, Failover, RetryPolicy
from gateway.routing.hedging import HedgeBudget
from gateway.settings.chat import ChatConfig
from gateway.telemetry.outcome import Try
from gateway.upstreams.chat import (
    ChatRequest,
    ChatUpstream,
    HasProcesses,
    ManagedProcess,
    Reader,
    ReaderUpdate,
    Usage,
)
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, FailureError, Kind
from gateway.upstreams.events import (
    BodyChunk,
    BodyEnd,
    ClientLeft,
    ConnectionFailed,
    DeadlinePassed,
    HttpEvent,
    ResponseHead,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.request_ids import told_id

ERROR_BODY_BYTES_MAX: Final = 64 << 10
"""So much of an upstream's error body is read; the rest is not worth waiting for."""

HELD_BYTES_MAX: Final = 1 << 20
"""So much is held back before the first content (reasoning, role); then it is passed on."""

DROPS_MAX: Final = 3
"""So many parameters that providers refuse are left out, for one request."""

KEPT_PARAMS: Final = frozenset({"model", "messages", "stream", "tools", "response_format"})
"""Never left out: the answer would be to another question."""

BACKOFF_S: Final = 0.25
BACKOFF_S_MAX: Final = 2.0
"""Pauses between rounds, see `RetryPolicy`."""

ENDING_S: Final = 1.0
"""After the finish reason: how long usage and the end of the stream are waited for."""

_EVENT_END: Final = b"\n\n"
LOADING_S_MAX: Final = 120.0
"""How long a request waits for a local model that is being loaded: a file of several gigabytes from
a slow disk takes about so long."""

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Begin:
    """The first event of a session."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The place that an attempt waited for is its own."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Open:
    """Ask an upstream; what it says comes back with the number `attempt`."""

    attempt: int
    dial: Dial


@dataclass(frozen=True, slots=True)
class Wait:
    """Say Granted once the place is granted."""

    attempt: int
    place: Permit


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model that an attempt waited for is ready, or could not be started."""

    attempt: int
    ready: bool


@dataclass(frozen=True, slots=True)
class AwaitModel:
    """Have a local model started, and say Loaded once that has been done."""

    attempt: int
    process: ManagedProcess


@dataclass(frozen=True, slots=True)
class Drop:
    """Let go of the attempt with this number: close its connection."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The attempt's answer is whole: its connection may be kept for the next request."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Start:
    """Send the headers of a stream."""


@dataclass(frozen=True, slots=True)
class Write:
    """Send bytes of a stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer with a whole JSON body, and be done."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error status, and be done."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Finish:
    """End the stream cleanly, and be done."""


@dataclass(frozen=True, slots=True)
class BreakOff:
    """End without ending the body: the client must not take it for a whole answer."""


Action = (
    Open | Wait | AwaitModel | Drop | Leave | Start | Write | Reply | Refuse | Finish | BreakOff
)
Event = Begin | HttpEvent | ClientLeft | Granted | Loaded


@dataclass(slots=True)
class Report:
    """What happened, for logs, metrics and records. Times are of the session's clock. `events_out`
    counts SSE events."""

    tries: list[Try] = field(default_factory=list)
    first_content_at: float | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    left: bool = False
    bytes_out: int = 0
    events_out: int = 0
    served: Try | None = None


class Shared:
    """What the sessions of a process have in common."""

    def __init__(
        self,
        config: ChatConfig,
        breaker: Breaker | None = None,
        slots: ConcurrencyLimiter | None = None,
    ) -> None:
        self.breaker = breaker or Breaker()
        self.slots = slots or ConcurrencyLimiter()
        self.abilities = Abilities()
        self.hedges = HedgeBudget(config.hedge.share_max)


@dataclass(slots=True, eq=False)
class _Running:
    """An attempt under way."""

    number: int
    attempt: Attempt
    told: Try
    reader: Reader
    deadline: float
    place: Permit | None = None
    error_head: ResponseHead | None = None
    error_body: bytearray = field(default_factory=bytearray)
    held: bytearray = field(default_factory=bytearray)
    at_work: bool = False
    loading: bool = False
    ends_by: float | None = None
    """Set once the model has finished: then only the end of the stream is waited for."""

    @property
    def waits(self) -> bool:
        """For a place, or for a model that is being loaded: nothing has been asked yet."""
        return self.loading or (self.place is not None and not self.place.granted)


def error_told(failure: Failure, reader: Reader | None) -> bytes:
    """What a client of /chat/completions gets."""
    return error_event(failure)


class ChatSession:
    """Events in, actions out."""

    def __init__(
        self,
        request: ChatRequest,
        plan: Plan,
        upstreams: Mapping[str, ChatUpstream],
        config: ChatConfig,
        now: float,
        shared: Shared | None = None,
        rank: int = RANKS["standard"],
        told: Callable[[Failure, Reader | None], bytes] = error_told,
    ) -> None:
        """`told` is what a client gets whose answer breaks off; it knows the reader of the attempt
        that was heard, if there is one."""
        self._request = request
        self._told = told
        self._plan = plan
        self._upstreams = upstreams
        self._config = config
        self._shared = shared or Shared(config)
        self._rank = rank
        self._total_deadline = now + config.total_timeout_s
        self._keepalive_at = now + config.keepalive_s if request.stream else _NEVER
        self._running: dict[int, _Running] = {}
        self._speaking: _Running | None = None
        self._failover: Failover | None = None
        self._needs = needs_of(
            request.body, request.size_bytes, images="image_url" in request.marks
        )
        self._next_at = _NEVER
        self._hedge_at = _NEVER
        self._hedges = 0
        self._drops = 0
        self._started = False
        self._over = False
        self.report = Report()

    @property
    def model(self) -> str:
        """The client's name of the model."""
        return self._request.model

    @property
    def deadline(self) -> float | None:
        if self._over:
            return None
        if (speaking := self._speaking) is not None:
            return min(speaking.deadline, self._total_deadline, self._keepalive_at)
        moments = [
            self._total_deadline,
            self._keepalive_at,
            self._hedge_at,
            self._next_at,
        ]
        moments += [running.deadline for running in self._running.values()]
        return min(moments)

    def handle(self, event: Event | DeadlinePassed, now: float) -> list[Action]:
        if self._over:
            return []
        speaking = self._speaking
        if (
            speaking is not None
            and isinstance(event, BodyChunk)
            and event.attempt == speaking.number
        ):
            return self._relay(speaking, event.data, now)
        match event:
            case BodyChunk():
                running = self._running.get(event.attempt)
                return [] if running is None else self._piece(running, event.data, now)
            case ResponseHead():
                running = self._running.get(event.attempt)
                return [] if running is None else self._head(running, event, now)
            case BodyEnd():
                running = self._running.get(event.attempt)
                return [] if running is None else self._end(running, now)
            case ConnectionFailed():
                running = self._running.get(event.attempt)
                return [] if running is None else self._broke(running, event.failure, now)
            case Granted():
                running = self._running.get(event.attempt)
                return [] if running is None else self._open(running, now)
            case Loaded():
                running = self._running.get(event.attempt)
                return [] if running is None else self._loaded(running, event, now)
            case Begin():
                return self._begin_first(now)
            case DeadlinePassed():
                return self._woken(now)
            case ClientLeft():
                self.report.left = True
                return [*self._stop(now), BreakOff()]

    # -- beginning attempts

    def _begin_first(self, now: float) -> list[Action]:
        plan = self._shared.abilities.order(self._plan, self._needs, now)
        if isinstance(plan, Failure):
            return self._give_up(plan, now)
        self._shared.hedges.earn()
        self._failover = Failover(plan, self._policy(), self._shared.breaker, now)
        return self._begin_next(now)

    def _policy(self) -> RetryPolicy:
        return RetryPolicy(
            rounds=self._config.rounds,
            rounds_alone=2,
            backoff_s=BACKOFF_S,
            backoff_max_s=BACKOFF_S_MAX,
            retry_same=False,
            retry_content_policy=self._config.retry_content_policy,
        )

    @property
    def _others_left(self) -> bool:
        return self._failover is not None and bool(self._failover.left)

    def _begin_next(self, now: float, *, hedge: bool = False) -> list[Action]:
        """Ask the next deployment: one that need not wait, if there is one."""
        assert self._failover is not None
        slots = self._shared.slots

        def is_free(attempt: Attempt) -> bool:
            return slots.free(attempt, self._rank, now) and self._unready(attempt) is None

        attempt = self._failover.next(now, free=is_free)
        return [] if attempt is None else self._begin(attempt, now, hedge=hedge)

    def _begin(self, attempt: Attempt, now: float, *, hedge: bool = False) -> list[Action]:
        number = len(self.report.tries) + 1
        told = Try(attempt.provider, attempt.model, now, hedge=hedge)
        self.report.tries.append(told)
        reader = self._upstreams[attempt.provider].reader(self._request, attempt)
        running = _Running(number, attempt, told, reader, self._total_deadline)
        self._running[number] = running
        running.place = place = self._shared.slots.ask(attempt, self._rank, now)
        if place is None or place.granted:
            return self._open(running, now)
        if place.gone:
            return self._fail(running, self._no_place(), now)
        self._wait(running, now)
        return [Wait(number, place)]

    def _unready(self, attempt: Attempt) -> ManagedProcess | None:
        """The process of a local model, if it is not ready."""
        upstream = self._upstreams[attempt.provider]
        if not isinstance(upstream, HasProcesses):
            return None
        process = upstream.companions.get(attempt.model)
        return process if process is not None and process.address is None else None

    def _loaded(self, running: _Running, event: Loaded, now: float) -> list[Action]:
        if not event.ready:
            return self._fail(running, self._no_model(), now)
        running.loading = False
        return self._open(running, now)

    def _open(self, running: _Running, now: float) -> list[Action]:
        running.told.began = now
        running.told.asked = True
        running.deadline = self._total_deadline
        if (process := self._unready(running.attempt)) is not None:
            running.loading = True
            running.deadline = min(now + LOADING_S_MAX, self._total_deadline)
            return [AwaitModel(running.number, process)]
        if self._request.stream or running.reader.streamed:
            running.deadline = now + self._config.first_token_timeout_s
        self._shared.breaker.began(running.attempt, now)
        self._hedge_at = self._next_hedge(running, now)
        upstream = self._upstreams[running.attempt.provider]
        try:
            dial = upstream.dial(self._request, running.attempt)
        except FailureError as error:
            return self._fail(running, error.failure, now)
        except Exception as error:  # what a caller may send is without end
            return self._fail(running, _untranslatable(error), now)
        return [Open(running.number, dial)]

    def _wait(self, running: _Running, now: float) -> None:
        """Set when to look again: a place may open by the clock alone."""
        assert running.place is not None
        ends = running.told.began + self._config.queue_timeout_s
        opens = self._shared.slots.opens_at(running.place, now)
        running.deadline = ends if opens is None or opens <= now else min(opens, ends)

    def _next_hedge(self, running: _Running, now: float) -> float:
        hedge = self._config.hedge
        if not hedge.enabled or not self._others_left or self._hedges >= hedge.extra_max:
            return _NEVER
        if not (self._request.stream or running.reader.streamed):
            return _NEVER  # silence says nothing about an answer that comes in one piece
        wait_s = hedge.after_s or self._shared.breaker.ttft_p95_s(running.attempt)
        return _NEVER if wait_s is None else now + max(wait_s, hedge.at_least_s)

    # -- listening to them

    def _head(self, running: _Running, event: ResponseHead, now: float) -> list[Action]:
        running.told.upstream_id = told_id(event.headers)
        if event.status != 200:
            running.error_head = event
            return []
        upstream = self._upstreams[running.attempt.provider]
        if (for_s := upstream.exhausted_for_s(event.headers)) is not None:
            self._shared.breaker.rate_limited_until(running.attempt, now + for_s, now)
        return []

    def _piece(self, running: _Running, data: bytes, now: float) -> list[Action]:
        if running.error_head is not None:
            running.error_body += data
            if len(running.error_body) > ERROR_BODY_BYTES_MAX:
                return self._end(running, now)
            return []
        try:
            heard = running.reader.feed(data)
        except Exception as error:  # what a provider may send is without end
            heard = ReaderUpdate(failure=_unreadable(error))
        return self._heard(running, heard, now)

    def _end(self, running: _Running, now: float) -> list[Action]:
        if running.error_head is not None:
            return self._fail(running, self._read_error(running, running.error_head), now)
        return self._heard(running, self._finished(running), now, ended=True)

    @staticmethod
    def _finished(running: _Running) -> ReaderUpdate:
        try:
            return running.reader.finish()
        except Exception as error:
            return ReaderUpdate(failure=_unreadable(error))

    def _broke(self, running: _Running, failure: Failure, now: float) -> list[Action]:
        if failure.kind is Kind.UNREACHABLE:
            # refused, or a kept connection that had gone stale: a new one may do
            failure = replace(failure, retry_same_after_s=0.0)
        return self._fail(running, failure, now)

    def _read_error(self, running: _Running, head: ResponseHead) -> Failure:
        if head.status < 400:
            return Failure(
                Kind.PROTOCOL_ERROR,
                f"the provider answered with status {head.status}",
                upstream_status=head.status,
            )
        upstream = self._upstreams[running.attempt.provider]
        try:
            return upstream.failure(head.status, head.headers, bytes(running.error_body))
        except Exception as error:
            return replace(_unreadable(error), upstream_status=head.status)

    def _relay(self, speaking: _Running, data: bytes, now: float) -> list[Action]:
        """A piece of the answer that is being passed on: nearly all events are this one."""
        try:
            heard = speaking.reader.feed(data)
        except Exception as error:
            heard = ReaderUpdate(failure=_unreadable(error))
        if heard.failure is not None or heard.finished or heard.ending or heard.usage is not None:
            return self._heard(speaking, heard, now)
        if heard.progress:  # comments and pings keep the client waiting, not us
            speaking.deadline = now + self._config.idle_timeout_s
        forward = heard.forward
        if not forward:
            return []
        self._keepalive_at = now + self._config.keepalive_s
        self.report.bytes_out += len(forward)
        self.report.events_out += forward.count(_EVENT_END)
        return [Write(forward)]

    def _heard(
        self, running: _Running, heard: ReaderUpdate, now: float, *, ended: bool = False
    ) -> list[Action]:
        if heard.usage is not None:
            running.told.usage = heard.usage
        actions: list[Action] = []
        if not self._request.stream:
            if heard.content or heard.progress:
                self._hear_work(running, now)
            if heard.failure is None and heard.finished:
                return self._whole(running, heard, now)
        elif self._speaking is not None:
            if heard.progress:
                running.deadline = now + self._config.idle_timeout_s
            self._write(heard.forward, now, actions)
        else:
            running.held += heard.forward
            if heard.content or len(running.held) > HELD_BYTES_MAX:
                actions += self._win(running, now)
            elif heard.progress:
                self._hear_work(running, now)
        if heard.failure is not None:
            return actions + self._fail(running, heard.failure, now)
        if heard.ending or running.ends_by is not None:
            running.ends_by = running.ends_by or now + ENDING_S
            running.deadline = running.ends_by
        if not (heard.finished or ended):
            return actions
        if self._speaking is None:
            if self._others_left or len(self._running) > 1:
                empty = Failure(Kind.PROTOCOL_ERROR, "the provider's answer was empty")
                return self._fail(running, empty, now)
            actions += self._win(running, now)
        return [*actions, *self._succeed(running, now), Finish()]

    def _hear_work(self, running: _Running, now: float) -> None:
        """The model is at work: silence is measured from here, and nobody else is asked."""
        if not running.at_work:
            running.at_work = True
            running.told.first_s = now - running.told.began
            self._shared.breaker.record_ttft(running.attempt, now - running.told.began)
        self._hedge_at = _NEVER
        if running.reader.streamed:
            running.deadline = now + self._config.idle_timeout_s

    def _win(self, running: _Running, now: float) -> list[Action]:
        """The first content: what was held back goes out, the others are let go."""
        self._hear_work(running, now)
        self._speaking = running
        self.report.served = running.told
        self.report.first_content_at = now
        running.deadline = now + self._config.idle_timeout_s
        actions: list[Action] = []
        for other in tuple(self._running.values()):
            if other is not running:
                actions.append(self._let_go(other, now))
        if not self._started:
            self._started = True
            actions.append(Start())
        self._write(bytes(running.held), now, actions)
        running.held.clear()
        return actions

    def _whole(self, running: _Running, heard: ReaderUpdate, now: float) -> list[Action]:
        self.report.served = running.told
        self.report.first_content_at = now
        self.report.bytes_out += len(heard.forward)
        return [*self._succeed(running, now), Reply(heard.forward)]

    def _write(self, data: bytes, now: float, actions: list[Action]) -> None:
        if data:
            actions.append(Write(data))
            self.report.bytes_out += len(data)
            self.report.events_out += data.count(_EVENT_END)
            self._keepalive_at = now + self._config.keepalive_s

    # -- ending them

    def _succeed(self, running: _Running, now: float) -> list[Action]:
        del self._running[running.number]
        running.told.ended = now
        self._shared.breaker.worked(running.attempt)
        self._return_place(running, now)
        self.report.usage = running.told.usage
        return [Leave(running.number), *self._stop(now)]

    def _let_go(self, running: _Running, now: float) -> Drop:
        """Another attempt was faster, or nobody waits for the answer any more."""
        del self._running[running.number]
        running.told.ended = now
        running.told.lost, running.told.left = not self.report.left, self.report.left
        if not running.waits:
            self._shared.breaker.cancelled(running.attempt)
        self._return_place(running, now)
        return Drop(running.number)

    def _stop(self, now: float) -> list[Action]:
        self._over = True
        return [self._let_go(running, now) for running in tuple(self._running.values())]

    def _return_place(self, running: _Running, now: float) -> None:
        if running.place is not None:
            self._shared.slots.give_back(running.place, now)

    def _fail(self, running: _Running, failure: Failure, now: float) -> list[Action]:
        if failure.provider is None:
            failure = replace(failure, provider=running.attempt.provider)
        running.told.failure, running.told.ended = failure, now
        if not running.waits:  # a queue of ours says nothing about the provider
            cause = _cause(self._request) if failure.upstream_status in OWN_FAULT else None
            running.told.rests = self._shared.breaker.failed(running.attempt, failure, now, cause)
        del self._running[running.number]
        self._return_place(running, now)
        dropped: list[Action] = [Drop(running.number)]
        if self._speaking is not None or now >= self._total_deadline:
            return dropped + self._give_up(failure, now)
        assert self._failover is not None
        if (other := self._without_refused(running, failure)) is not None:
            self._failover.instead(other)
            return dropped + self._begin_next(now)
        self._shared.abilities.learn(running.attempt, failure, self._needs, now)
        outcome = self._failover.failed(running.attempt, failure, now)
        if isinstance(outcome, Exhausted):
            if self._running:
                return dropped
            return dropped + self._give_up(outcome.failure, now)
        if outcome.at > now:
            self._next_at = outcome.at
            return dropped
        if any(other.at_work for other in self._running.values()):
            return dropped
        return dropped + self._begin_next(now, hedge=bool(self._running))

    def _retry(self, now: float) -> list[Action]:
        """A pause is over: those that failed for a passing reason are asked once more."""
        self._next_at = _NEVER
        if any(other.at_work for other in self._running.values()):
            return []
        if len(self._running) > self._config.hedge.extra_max:
            return []
        return self._begin_next(now, hedge=bool(self._running))

    def _without_refused(self, running: _Running, failure: Failure) -> Attempt | None:
        """The same attempt without the parameter that the provider refuses, if it can be left
        out."""
        if failure.kind is not Kind.UNSUPPORTED:
            return None
        name = (failure.param or "").partition(".")[0].partition("[")[0]
        options = running.attempt.options
        asked = options.get(name, self._request.body.get(name)) is not None
        if not asked or name in KEPT_PARAMS or self._drops >= DROPS_MAX:
            return None
        self._drops += 1
        return replace(running.attempt, options={**options, name: None})

    def _give_up(self, failure: Failure, now: float) -> list[Action]:
        actions = self._stop(now)
        self.report.failure = failure
        if self._started:
            reader = None if self._speaking is None else self._speaking.reader
            return [*actions, Write(self._told(failure, reader)), BreakOff()]
        return [*actions, Refuse(failure)]

    def _no_place(self) -> Failure:
        return Failure(
            Kind.RATE_LIMITED,
            "every place at this model's deployments is taken",
            retry_after_s=1.0,
        )

    def _no_model(self) -> Failure:
        return Failure(
            Kind.OVERLOADED, "the local model could not be loaded in time", retry_after_s=5.0
        )

    # -- the clock

    def _woken(self, now: float) -> list[Action]:
        if now >= self._total_deadline:
            failure = Failure(Kind.TIMEOUT, "the answer took too long")
            for running in self._running.values():
                running.told.failure = replace(failure, provider=running.attempt.provider)
            return self._give_up(failure, now)
        for running in tuple(self._running.values()):
            if now >= running.deadline:
                return self._late(running, now)
        if now >= self._next_at:
            return self._retry(now)
        if now >= self._hedge_at:
            return self._hedge(now)
        self._keepalive_at = now + self._config.keepalive_s
        loading = any(running.loading for running in self._running.values())
        comment = Write(LOADING if loading else KEEPALIVE)
        if self._started:
            return [comment]
        self._started = True
        return [Start(), comment]

    def _late(self, running: _Running, now: float) -> list[Action]:
        if running.loading:
            return self._fail(running, self._no_model(), now)
        if running.waits:
            if now >= running.told.began + self._config.queue_timeout_s:
                return self._fail(running, self._no_place(), now)
            assert running.place is not None
            self._shared.slots.grant(running.place.key, now)
            self._wait(running, now)  # if it was granted, Granted is on its way
            return []
        if running.at_work or running.ends_by is not None:
            heard = self._finished(running)
            if heard.finished and heard.failure is None:  # only the end itself is missing
                return self._heard(running, heard, now, ended=True)
            if heard.failure is not None and running.ends_by is not None:
                return self._fail(running, heard.failure, now)
        what = "next part of its answer" if running.at_work else "first token"
        return self._fail(
            running, Failure(Kind.TIMEOUT, f"the provider did not send the {what} in time"), now
        )

    def _hedge(self, now: float) -> list[Action]:
        self._hedge_at = _NEVER
        if not self._others_left or not self._shared.hedges.spend():
            return []
        self._hedges += 1
        return self._begin_next(now, hedge=True)


def _unreadable(error: Exception) -> Failure:
    """An answer that makes its reader raise is the provider's nonsense, not our fault."""
    return Failure(
        Kind.PROTOCOL_ERROR,
        "the provider's answer could not be understood",
        upstream_text=f"{type(error).__name__}: {error}"[:200],
    )


def _untranslatable(error: Exception) -> Failure:
    """A request that cannot be put into a provider's form; another may take it as it is."""
    return Failure(
        Kind.REQUEST_REFUSED,
        "the request cannot be translated for this provider: a field has an unexpected form",
        upstream_text=f"{type(error).__name__}: {error}"[:200],
    )


def _cause(request: ChatRequest) -> int:
    """The same for every try of what a caller says, also for its own retries."""
    return hash(orjson.dumps(request.body.get("messages")))
