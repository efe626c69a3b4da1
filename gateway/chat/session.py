"""One chat request: whom to ask, what to pass on, when to turn to the next. Pure.

Nothing reaches the client of an upstream that fails before its first content, so the switch to
the next one leaves no trace; after the first content nothing is retried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.chat.messages import KEEPALIVE, error_event
from gateway.chat.settings import ChatConfig
from gateway.chat.upstream import ChatRequest, ChatUpstream, Heard, Reader, Usage
from gateway.dial import Dial
from gateway.errors import Failure, Kind
from gateway.events import Broke, End, Head, HttpEvent, Left, Piece, Woken
from gateway.plan import Plan, after

ERROR_BODY_BYTES_MAX: Final = 64 << 10
"""So much of an upstream's error body is read; the rest is not worth waiting for."""

HELD_BYTES_MAX: Final = 1 << 20
"""So much is held back before the first content (reasoning, role); then it is passed on."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The first event of a session."""


@dataclass(frozen=True, slots=True)
class Open:
    """Ask an upstream; what it says comes back with the number `attempt`."""

    attempt: int
    dial: Dial


@dataclass(frozen=True, slots=True)
class Drop:
    """Let go of the attempt with this number: close its connection."""

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


Action = Open | Drop | Start | Write | Reply | Refuse | Finish | BreakOff
Event = Begin | HttpEvent | Left


@dataclass(slots=True)
class Try:
    """What became of one attempt; `failure` is None while it runs and if it succeeded."""

    provider: str
    model: str
    began: float
    failure: Failure | None = None


@dataclass(slots=True)
class Report:
    """What happened, for logs and metrics. Times are of the session's clock."""

    tries: list[Try] = field(default_factory=list)
    first_content_at: float | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    left: bool = False
    bytes_out: int = 0


class ChatSession:
    """Events in, actions out."""

    def __init__(
        self,
        request: ChatRequest,
        plan: Plan,
        upstreams: Mapping[str, ChatUpstream],
        config: ChatConfig,
        now: float,
    ) -> None:
        self._request = request
        self._plan = plan
        self._upstreams = upstreams
        self._config = config
        self._total_deadline = now + config.total_timeout_s
        self._keepalive_at = now + config.keepalive_s if request.stream else float("inf")
        self._attempt = 0
        self._attempt_deadline = self._total_deadline
        self._reader: Reader | None = None
        self._error_head: Head | None = None
        self._error_body = bytearray()
        self._held = bytearray()
        self._started = False
        self._forwarded = False
        self._over = False
        self.report = Report()

    @property
    def deadline(self) -> float | None:
        if self._over:
            return None
        return min(self._attempt_deadline, self._total_deadline, self._keepalive_at)

    def handle(self, event: Event | Woken, now: float) -> list[Action]:
        if self._over:
            return []
        match event:
            case Piece(attempt=attempt) if attempt == self._attempt:
                return self._piece(event.data, now)
            case Head(attempt=attempt) if attempt == self._attempt:
                return self._head(event)
            case End(attempt=attempt) if attempt == self._attempt:
                return self._end(now)
            case Broke(attempt=attempt) if attempt == self._attempt:
                return self._fail(event.failure, now)
            case Begin():
                return self._open_next(now)
            case Woken():
                return self._woken(now)
            case Left():
                self._over = self.report.left = True
                return [Drop(self._attempt), BreakOff()]
            case _:  # a late word of an attempt that was let go
                return []

    def _open_next(self, now: float) -> list[Action]:
        attempt = self._plan[0]
        upstream = self._upstreams[attempt.provider]
        self._attempt += 1
        self._reader = upstream.reader(self._request)
        self._error_head = None
        self._error_body.clear()
        self._held.clear()
        if self._request.stream:
            self._attempt_deadline = now + self._config.first_token_timeout_s
        self.report.tries.append(Try(attempt.provider, attempt.model, now))
        return [Open(self._attempt, upstream.dial(self._request, attempt))]

    def _head(self, event: Head) -> list[Action]:
        if event.status != 200:
            self._error_head = event
        return []

    def _piece(self, data: bytes, now: float) -> list[Action]:
        if self._error_head is not None:
            self._error_body += data
            if len(self._error_body) > ERROR_BODY_BYTES_MAX:
                return self._end(now)
            return []
        assert self._reader is not None
        return self._heard(self._reader.feed(data), now)

    def _end(self, now: float) -> list[Action]:
        if self._error_head is not None:
            return self._fail(self._read_error(self._error_head), now)
        assert self._reader is not None
        return self._heard(self._reader.finish(), now, ended=True)

    def _read_error(self, head: Head) -> Failure:
        upstream = self._upstreams[self._plan[0].provider]
        if head.status < 400:
            return Failure(
                Kind.NONSENSE,
                f"the provider answered with status {head.status}",
                upstream_status=head.status,
            )
        return upstream.failure(head.status, head.headers, bytes(self._error_body))

    def _heard(self, heard: Heard, now: float, *, ended: bool = False) -> list[Action]:
        if heard.usage is not None:
            self.report.usage = heard.usage
        if heard.failure is None and not self._request.stream:
            return self._whole(heard) if heard.finished else []
        actions: list[Action] = []
        if self._forwarded:
            self._attempt_deadline = now + self._config.idle_timeout_s
            self._write(heard.forward, now, actions)
        else:
            self._held += heard.forward
            if heard.content or len(self._held) > HELD_BYTES_MAX:
                self._forwarded = True
                self.report.first_content_at = now
                self._attempt_deadline = now + self._config.idle_timeout_s
                self._write_held(now, actions)
        if heard.failure is not None:
            return actions + self._fail(heard.failure, now)
        if not (heard.finished or ended):
            return actions
        if not self._forwarded:
            if len(self._plan) > 1:
                return self._fail(Failure(Kind.NONSENSE, "the provider's answer was empty"), now)
            self._write_held(now, actions)
        self._over = True
        actions.append(Drop(self._attempt))
        actions.append(Finish())
        return actions

    def _whole(self, heard: Heard) -> list[Action]:
        self._over = True
        self.report.bytes_out += len(heard.forward)
        return [Drop(self._attempt), Reply(heard.forward)]

    def _write_held(self, now: float, actions: list[Action]) -> None:
        if not self._started:
            self._started = True
            actions.append(Start())
        self._write(bytes(self._held), now, actions)
        self._held.clear()

    def _write(self, data: bytes, now: float, actions: list[Action]) -> None:
        if data:
            actions.append(Write(data))
            self.report.bytes_out += len(data)
            self._keepalive_at = now + self._config.keepalive_s

    def _fail(self, failure: Failure, now: float) -> list[Action]:
        current = self.report.tries[-1]
        failure = replace(failure, provider=current.provider)
        current.failure = failure
        drop = Drop(self._attempt)
        if not self._forwarded:
            self._plan = after(failure, self._plan)
            if self._plan and now < self._total_deadline:
                return [drop, *self._open_next(now)]
        self._over = True
        self.report.failure = failure
        if self._started:
            return [drop, Write(error_event(failure)), BreakOff()]
        return [drop, Refuse(failure)]

    def _woken(self, now: float) -> list[Action]:
        if now >= self._total_deadline:
            self._plan = self._plan[:1]
            return self._fail(Failure(Kind.TIMEOUT, "the answer took too long"), now)
        if now >= self._attempt_deadline:
            what = "next part of its answer" if self._forwarded else "first token"
            return self._fail(
                Failure(Kind.TIMEOUT, f"the provider did not send the {what} in time"), now
            )
        self._keepalive_at = now + self._config.keepalive_s
        if self._started:
            return [Write(KEEPALIVE)]
        self._started = True
        return [Start(), Write(KEEPALIVE)]
