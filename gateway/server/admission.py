"""Who may come in: token, limits, shutting down. Every inference route goes through it."""

from __future__ import annotations

import itertools
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from types import TracebackType
from typing import Final
from urllib.parse import parse_qs

from gateway.engines.interruption.disputed import CallIds
from gateway.server.addresses import client_address, within
from gateway.server.asgi import LABEL_CHARS_MAX, Scope, header
from gateway.server.auth import Authenticator, Principal
from gateway.server.connections import AddressLimit, too_many
from gateway.server.drain import Drain
from gateway.server.quota import Quota
from gateway.settings.quota import QuotaConfig
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics, count, count_bounds, count_cost
from gateway.telemetry.outcome import (
    ClientIds,
    Ended,
    Outcome,
    cut_identity,
    log_fields,
    log_level,
)
from gateway.telemetry.traces import Tracer
from gateway.telemetry.usage.log import UsageLog
from gateway.telemetry.usage.record import Record, part_of, record_of, says_nothing
from gateway.telemetry.watch import Call, Watch
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind

_logger = logging.getLogger("gateway.request")

_IDS: Final = {
    b"x-livekit-room-id": "room_id",
    b"x-livekit-job-id": "job_id",
    b"x-livekit-agent-id": "agent_id",
    b"x-livekit-session-id": "client_session_id",
    b"user-agent": "user_agent",
}
"""Identification headers, all optional, and the fields of `ClientIds`. A job's connections carry
the same room and job id; `X-LiveKit-Session-ID` is new for each request or connection."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What has no place in a log line or a database."""


def _text(value: bytes) -> str:
    return value[:LABEL_CHARS_MAX].decode("utf-8", "replace")


_prefix = os.urandom(6).hex()
_numbers = itertools.count(1)


def new_id(kind: str) -> str:
    """An id unique to this process's life, e.g. "req_5f3a9c01d2e4_17"."""
    return f"{kind}_{_prefix}_{next(_numbers)}"


_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")
"""An id that a caller may give its request: visible characters, bounded for logs and records."""

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header."""

TRACEPARENT_CHARS_MAX: Final = 128
"""Of version 00 it has 55; what later versions add is cut."""


def request_id(scope: Scope) -> str:
    """The caller's own `X-Request-ID`, if it is one, else a new id. It is in the answer, the log
    and the usage record."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return new_id("req")


PART_OF_CHARS_MAX: Final = 100
"""Of a session's id, in the ids of its parts on other routes."""


def _traceparent(scope: Scope) -> str:
    """The caller's `traceparent`, if it is one."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            return str(value[:TRACEPARENT_CHARS_MAX], "ascii", "replace")
    return ""


def _trace_id(scope: Scope) -> str:
    return _traceparent(scope)[3:35]


def who_and_where(request: RequestContext) -> tuple[str, str | None]:
    """The API key of a request, and the region that it asks for, which both bound who may serve it
    (see routing/residency.py)."""
    return request.caller.key, header(request.scope, b"x-parley-region")


ANONYMOUS: Final = Principal("", "anonymous")
"""Everybody who needs no token; they share one key's places."""

ANONYMOUS_SHARE: Final = 4
"""And all of them together have a quarter of all places: who has no token cannot keep out those who
have one."""


class SessionLimiter:
    """Places for open sessions, over all and for each key; a place is held until it is returned."""

    def __init__(
        self,
        limits: LimitsConfig,
        held: Counter[str] | None = None,
        elsewhere: Callable[[str], int] | None = None,
        elsewhere_open: Callable[[], int] | None = None,
    ) -> None:
        """`held` takes the places that each key holds here. `elsewhere`: those that it holds at
        other processes, where several share their counts. `elsewhere_open`: those of all keys at
        the other workers of this server."""
        self.limits = limits
        self._held = Counter() if held is None else held
        self._elsewhere = elsewhere
        self._elsewhere_open = elsewhere_open
        self.open = 0

    def take(self, key: str) -> Failure | None:
        """Take a place for `key`, or say why there is none."""
        taken = self.open
        if self._elsewhere_open is not None:
            taken += self._elsewhere_open()
        if taken >= self.limits.sessions:
            return Failure(
                Kind.TOO_MANY_SESSIONS,
                f"this server serves {self.limits.sessions} sessions already",
                retry_after_s=1,
                bound=Bound.SESSIONS,
            )
        held = self._held[key]
        if self._elsewhere is not None:
            held += self._elsewhere(key)
        if key == ANONYMOUS.key and held >= max(1, self.limits.sessions // ANONYMOUS_SHARE):
            return Failure(
                Kind.TOO_MANY_SESSIONS,
                "callers without a token have all the places that they may have",
                retry_after_s=1,
                bound=Bound.SESSIONS_ANONYMOUS,
            )
        if held >= self.limits.sessions_per_key:
            return Failure(
                Kind.TOO_MANY_SESSIONS,
                f"this API key has {self.limits.sessions_per_key} sessions open already",
                retry_after_s=1,
                bound=Bound.SESSIONS_PER_KEY,
            )
        self._held[key] += 1
        self.open += 1
        return None

    def give_back(self, key: str) -> None:
        self.open -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]


class RequestContext:
    """One admitted request or session. As a context manager it returns its place, and has what
    became of it (`outcome`) logged, counted and recorded."""

    def __init__(
        self,
        admission: Admission,
        route: str,
        caller: Principal,
        scope: Scope,
        began: float,
        request_id: str,
        address: str = "",
        counted: bool = False,
    ) -> None:
        """`counted`: it has one of the places of `address`."""
        self._admission = admission
        self.address = address
        self.counted = counted
        self.scope = scope
        self.route = route
        self.caller = caller
        self.id = request_id
        self.began = began
        self.outcome = Outcome()
        self.status: int | None = None
        """HTTP status that was answered, 101 for an upgrade; None: nothing was."""
        self.purse = admission.quota.purse(caller.key, route)
        self._parts = 0
        self.recorded: Record | None = None
        """The sums of what the records of this session say so far, and the number of the last."""
        self.cost_counted = 0
        """So much of its cost the metrics have, in billionths."""
        self.carries = False
        """Its requests are counted and recorded one by one, and it is not: a connection."""
        self.connection: str | None = None
        """The id of the connection it came on as one of several: it has no place of its own."""

    @property
    def call(self) -> str:
        """The same for all connections of one job of this key, or of one room where they name no
        job; empty where they name neither."""
        for name in (b"x-livekit-job-id", b"x-livekit-room-id"):
            if value := header(self.scope, name):
                return f"{self.caller.key}\n{name.decode()}\n{value[:LABEL_CHARS_MAX]}"
        if self.connection is None:
            return ""
        # what belongs together is one call, whether or not its client names it
        return f"{self.caller.key}\nconnection\n{self.connection}"

    @property
    def call_ids(self) -> CallIds:
        """Which call it is of, and what its client calls the room and the job."""
        room, job = (
            (header(self.scope, name) or "")[:LABEL_CHARS_MAX]
            for name in (b"x-livekit-room-id", b"x-livekit-job-id")
        )
        return CallIds(self.call, self.caller.key, room, job)

    def fail(self, failure: Failure) -> None:
        """The request ends in `failure`."""
        self.outcome = replace(self.outcome, failure=failure)

    def leave(self) -> None:
        """The client went away before the end."""
        self.outcome = replace(self.outcome, left=True)

    def part(self, route: str | None = None, scope: Scope | None = None) -> RequestContext:
        """One of the requests that come on this connection, or that this server makes for it on
        another route: logged, counted and recorded for itself, in this one's place."""
        self._parts += 1
        made = RequestContext(
            self._admission,
            route or self.route,
            self.caller,
            self.scope if scope is None else scope,
            time.perf_counter(),
            new_id("req") if route is None else f"{self.id[:PART_OF_CHARS_MAX]}.{self._parts}",
            self.address,
        )
        made.connection = self.id
        self._admission.began(made)
        return made

    def record_part(self, outcome: Outcome) -> None:
        """The session goes on; what it used so far is kept."""
        self._admission.record(self, replace(outcome, running=True))

    def __enter__(self) -> RequestContext:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            failure = Failure(Kind.INTERNAL, "internal error")
            self.fail(failure)
            if self.status is None:
                self.status = failure.status
        elif exc is not None and self.outcome.failure is None:
            self.fail(Failure(Kind.SHUTTING_DOWN, "cut off by the end of the server"))
        self._admission.leave(self)


class Admission:
    """Admits callers.

    `drain` is set once the server is shutting down, `listens` is False from when on it takes no
    more connections. HTTP requests on those that are open are served to the end: clients keep one
    for all tries of a request, and have no other way to be answered. A WebSocket would be open
    for as long as a call, so its client is sent elsewhere.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        limiter: SessionLimiter,
        metrics: Metrics,
        usage: UsageLog | None = None,
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
        addresses: AddressLimit | None = None,
        quota: Quota | None = None,
        watch: Watch | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`addresses` bounds what each caller behind a trusted proxy has open. `watch` is told of
        every request, `tracer` of what became of it."""
        self.quota = quota or Quota(QuotaConfig())
        self._watch = watch
        self._tracer = tracer
        self._addresses = addresses
        self.trusted_proxies = trusted_proxies
        self.authenticator = authenticator
        self._usage = usage
        self._limiter = limiter
        self._metrics = metrics
        """Of the sessions that are admitted from now on."""
        self.drain: Drain | None = None
        self.listens = True

    @property
    def open_requests(self) -> int:
        return self._limiter.open

    def admit(
        self,
        scope: Scope,
        route: str,
        anonymous: Sequence[IPv4Network | IPv6Network] = (),
        request_id: str | None = None,
    ) -> RequestContext | Failure:
        """The context of an admitted request for `route` (one of metrics.ROUTES), or why not (401,
        403, 429, 503).

        Who comes from one of the networks `anonymous` needs no token; a wrong one is refused.
        """
        began = time.perf_counter()
        request_id = request_id or new_id("req")
        address = self.address(scope)
        counts = self._addresses if address != _peer(scope) else None
        caller: Principal | None = None
        if counts is not None and not counts.take(address):
            failure: Failure | None = too_many(counts.most)
        else:
            known = self._caller(scope, address, anonymous)
            caller = None if isinstance(known, Failure) else known
            failure = known if isinstance(known, Failure) else self._refusal(scope, known)
            if counts is not None and failure is not None:
                counts.give_back(address)
        if failure is not None:
            self._metrics.refusals.labels(route, failure.kind.value).inc()
            if failure.bound is not None:
                self._metrics.reached(failure.bound)
            _logger.log(
                log_level(failure),
                "refused",
                extra={
                    "route": route,
                    "status": failure.status,
                    "request_id": request_id,
                    "key": caller.key if caller is not None else None,
                    "identity": cut_identity(caller.identity) if caller is not None else None,
                    "kind": failure.kind.value,
                    "reason": failure.message,
                    "client": address,
                },
            )
            return failure
        assert caller is not None  # who is unknown is refused
        counted = counts is not None
        request = RequestContext(self, route, caller, scope, began, request_id, address, counted)
        self.began(request)
        return request

    def began(self, request: RequestContext) -> None:
        """An admitted request begins."""
        self._metrics.open_sessions.labels(request.route).inc()
        if self._watch is not None:
            self._watch.began(id(request), _call(request))

    def address(self, scope: Scope) -> str:
        """The caller's address: the peer's, or what a trusted proxy says."""
        peer = _peer(scope)
        if not self.trusted_proxies:
            return peer
        forwarded = [
            str(value, "latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
        ]
        return client_address(peer, forwarded, self.trusted_proxies)

    def _caller(
        self, scope: Scope, address: str, anonymous: Sequence[IPv4Network | IPv6Network]
    ) -> Principal | Failure:
        authorization = header(scope, b"authorization") or _from_subprotocol(scope)
        if anonymous and not authorization and within(address, anonymous):
            return ANONYMOUS
        return self.authenticator.authenticate(authorization)

    def _refusal(self, scope: Scope, caller: Principal) -> Failure | None:
        """Why a known caller is refused; None: it is admitted, and has its place."""
        for name, value in scope["headers"]:
            if name in _IDS and _CONTROL.search(_text(value)):
                field = name.decode()
                return Failure(
                    Kind.BAD_REQUEST, f"{field}: expected no control characters", param=field
                )
        if not self.listens and scope["type"] == "websocket":
            return Failure(Kind.SHUTTING_DOWN, "this server is shutting down", retry_after_s=1)
        return self._limiter.take(caller.key)

    def leave(self, request: RequestContext) -> None:
        """Return the request's place, count it, write its line and its usage record."""
        route = request.route
        ended = self._ended(request, request.outcome)
        if self._watch is not None:
            self._watch.ended(id(request), ended)
        if self._tracer is not None and route != "models" and not request.carries:
            self._tracer.ended(ended, _traceparent(request.scope), time.monotonic())
        if request.connection is None:
            self._limiter.give_back(ended.key)
        if request.counted and self._addresses is not None:
            self._addresses.give_back(request.address)
        self._metrics.open_sessions.labels(route).dec()
        count_bounds(self._metrics, request.outcome)
        if request.carries and request.outcome.failure is None:
            return
        count(self._metrics, ended)
        request.cost_counted = count_cost(self._metrics, ended, request.cost_counted)
        self._record(request, ended)
        level = log_level(ended.outcome.failure)
        if _logger.isEnabledFor(level):
            _logger.log(level, route, extra={**log_fields(ended), "client": request.address})

    def record(self, request: RequestContext, outcome: Outcome) -> None:
        """Write a usage record of a session that goes on, if there is anything new to say."""
        ended = self._ended(request, outcome)
        request.cost_counted = count_cost(self._metrics, ended, request.cost_counted)
        self._record(request, ended)

    def _record(self, request: RequestContext, ended: Ended) -> None:
        if self._usage is None or not self._usage.enabled or ended.route == "models":
            return
        whole = record_of(ended)
        part = part_of(whole, request.recorded, request.purse.take_charges())
        if ended.outcome.running and says_nothing(part):
            return
        self._usage.add(part)
        if ended.outcome.running:  # another part will follow
            request.recorded = replace(whole, part=part.part)

    def _ended(self, request: RequestContext, outcome: Outcome) -> Ended:
        caller = request.caller
        return Ended(
            time.time(),
            request.route,
            caller.key,
            request.id,
            time.perf_counter() - request.began,
            outcome,
            _client_ids(request.scope),
            caller.identity,
            request.purse.tenant,
            request.status,
        )


def _call(request: RequestContext) -> Call:
    """An open request, as the operator's page shows it."""
    ids = _client_ids(request.scope)
    query = parse_qs(request.scope["query_string"][:1024].decode("latin-1"))
    model = query.get("model", [""])[0][:LABEL_CHARS_MAX]
    return Call(
        request.route,
        request.caller.key,
        request.caller.identity,
        request.id,
        request.address,
        ids.room_id,
        ids.job_id,
        "" if model == "NOT_GIVEN" else model,
        time.time(),
    )


_KEY_OFFERED: Final = "openai-insecure-api-key."
"""How OpenAI's clients in a browser, which cannot set headers, offer their key as a subprotocol of
a WebSocket."""


def _from_subprotocol(scope: Scope) -> str | None:
    """What an Authorization header would say."""
    for name in scope.get("subprotocols", ()):
        if name.startswith(_KEY_OFFERED):
            return f"Bearer {name.removeprefix(_KEY_OFFERED)}"
    return None


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _client_ids(scope: Scope) -> ClientIds:
    return ClientIds(
        trace_id=_trace_id(scope),
        **{_IDS[name]: _text(value) for name, value in scope["headers"] if name in _IDS},
    )
