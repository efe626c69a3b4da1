"""POST /avatar/sessions and /avatar/sessions/terminate: avatars that join an agent's room."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from gateway.conversations.avatar.protocol import (
    KEY_CHARS_MAX,
    Create,
    is_owner,
    read_create,
    read_terminate,
    room_token,
    terminate_token,
)
from gateway.conversations.avatar.sessions import AvatarSessions, Running
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.routing.failover import Exhausted, Failover, RetryPolicy
from gateway.runtime.connector import Connector
from gateway.runtime.exchange import Answered, exchange
from gateway.server.admission import RequestContext, new_id, who_and_where
from gateway.server.asgi import header
from gateway.server.quota import Spent
from gateway.settings.avatar import AvatarConfig
from gateway.telemetry.outcome import Outcome, SpeechUsage, Try
from gateway.telemetry.prices import Prices, speech_cost
from gateway.upstreams.avatar import AvatarRequest, AvatarUpstream
from gateway.upstreams.bounds import Bound
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, FailureError, Kind
from gateway.upstreams.plan import Attempt, names_of
from gateway.upstreams.request_ids import named, told_id

_logger = logging.getLogger(__name__)

ANSWERS_KEPT: Final = 1024
"""Answers that are remembered by their `Idempotency-Key`, over all keys; the oldest goes first."""

ANSWER_KEPT_S: Final = 600.0
"""Clients repeat a request within a minute."""

BODY_BYTES_MAX: Final = 256 << 10
ANSWER_BYTES_MAX: Final = 1 << 20
CONNECT_S: Final = 5.0

POLICY: Final = RetryPolicy(rounds=1, rounds_alone=1)
"""Nobody is asked twice: an answer that was lost may have begun an avatar that is paid for."""

PATIENCE_S: Final = 5.0
"""How much longer than a provider may take an answer is waited for."""

_BEGUN, _TOLD, _ENDED = "begun", "told", "ended"
"""What workers say of an avatar: that it was asked for, what the answer is (None: a failure), and
that it was ended."""

_GONE: Final = frozenset({404, 409, 410})
"""What a provider says of a session that has ended already."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is needed to settle the account of an avatar when it leaves."""

    request: RequestContext
    attempt: Attempt
    outcome: Outcome
    called: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under an `Idempotency-Key`, and its answer."""

    digest: str
    answer: asyncio.Future[bytes | Failure]
    until: float


class AvatarRoute:
    """POST /avatar/sessions; holds what is the same for every request.

    A new configuration has a new one, which goes on with the avatars of the one `before` it.
    """

    name: Final = "avatar"
    anonymous: Final = ()
    body_bytes_max: Final = BODY_BYTES_MAX

    def __init__(
        self,
        config: AvatarConfig,
        catalogue: Catalogue,
        upstreams: Mapping[str, AvatarUpstream],
        breaker: Breaker,
        connector: Connector,
        prices: Prices,
        secrets: Mapping[str, str],
        before: AvatarRoute | None = None,
        tell: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        """`secrets` are those of the API keys. `tell` has the other workers of this server know
        what became of an avatar (see `hear`): a client may repeat its request, or end its avatar,
        at another one."""
        self._tell = tell
        self._config = config
        self._catalogue = catalogue
        self._upstreams = upstreams
        self._breaker = breaker
        self._connector = connector
        self._prices = prices
        self._secrets = secrets
        if before is None:
            self.sessions: AvatarSessions[Ticket] = AvatarSessions(
                config.sessions_per_key, config.session_s_max
            )
            self._asked: OrderedDict[tuple[str, str], _Asked] = OrderedDict()
            self._ending: set[asyncio.Task[None]] = set()
        else:
            self.sessions, self._asked = before.sessions, before._asked
            self._ending = before._ending
            self.sessions.per_key = config.sessions_per_key
            self.sessions.age_s = config.session_s_max

    # -- beginning

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        asked = read_create(body)
        if isinstance(asked, Failure):
            return asked
        name = header(request.scope, b"idempotency-key")
        if name is None:
            return await self._create(request, asked)
        if len(name) > KEY_CHARS_MAX:
            words = f"Idempotency-Key: expected at most {KEY_CHARS_MAX} characters"
            return Failure(Kind.BAD_REQUEST, words, param="Idempotency-Key")
        place, digest = (request.caller.key, name), hashlib.sha256(body).hexdigest()
        known = self._asked.get(place)
        own = False
        if known is None or time.monotonic() >= known.until:
            self._say(_BEGUN, *place, digest)
            known = self._keep(place, digest, asyncio.create_task(self._create(request, asked)))
            own = True
        elif known.digest != digest:
            words = "Idempotency-Key: expected a new one for another request"
            return Failure(Kind.BAD_REQUEST, words, param="Idempotency-Key")
        else:
            request.outcome = Outcome(model=asked.provider)
        told: bytes | Failure
        # a task of this process ends by itself, after all providers that it asks
        here = isinstance(known.answer, asyncio.Task)
        try:
            async with asyncio.timeout(None if here else self._config.timeout_s + PATIENCE_S):
                told = await asyncio.shield(known.answer)
        except TimeoutError:  # the worker that was asked first has gone
            told = Failure(Kind.TIMEOUT, "the first request of this Idempotency-Key has no answer")
        if isinstance(told, Failure) and self._asked.get(place) is known:
            del self._asked[place]  # a further try is to be one
        if own:
            self._say(_TOLD, *place, None if isinstance(told, Failure) else told.decode())
        return told

    def _keep(
        self, place: tuple[str, str], digest: str, answer: asyncio.Future[bytes | Failure]
    ) -> _Asked:
        kept = self._asked[place] = _Asked(digest, answer, time.monotonic() + ANSWER_KEPT_S)
        self._asked.move_to_end(place)
        if len(self._asked) > ANSWERS_KEPT:
            self._asked.popitem(last=False)
        return kept

    def _say(self, *what: Any) -> None:
        if self._tell is not None:
            self._tell(what)

    def hear(self, told: Sequence[Any]) -> None:
        """What another worker says of an avatar."""
        match told:
            case ["begun", key, name, digest]:
                if (key, name) not in self._asked:
                    self._keep((key, name), digest, asyncio.get_running_loop().create_future())
            case ["told", key, name, answer]:
                known = self._asked.get((key, name))
                if known is None or known.answer.done() or isinstance(known.answer, asyncio.Task):
                    return  # both were asked at once: each has its own answer
                if answer is None:
                    del self._asked[key, name]
                    answer = Failure(Kind.UPSTREAM_ERROR, "the avatar did not come")
                else:
                    answer = answer.encode()
                known.answer.set_result(answer)
            case ["ended", provider, session_id]:
                if (ended := self.sessions.end(provider, session_id)) is not None:
                    self._spawn(self._settle(ended))
            case _:
                pass

    async def _create(self, request: RequestContext, asked: Create) -> bytes | Failure:
        catalogue = self._catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        pinned = header(request.scope, b"x-livekit-inference-provider")
        plan = catalogue.plan(asked.model, pinned)
        if isinstance(plan, Failure):
            return plan
        wanted = self._wanted(request, asked)
        if isinstance(wanted, Failure):
            return wanted
        admitted = await request.purse.enter(asked.model, plan)
        if isinstance(admitted, Failure):
            return admitted
        key = request.caller.key
        if not self.sessions.take(key):
            words = f"this API key has {self.sessions.per_key} avatars already"
            return Failure(
                Kind.TOO_MANY_SESSIONS, words, retry_after_s=5, bound=Bound.AVATARS_PER_KEY
            )
        begun = False
        try:
            told = await self._begin(
                request, asked, wanted, Failover(admitted, POLICY, self._breaker, time.monotonic())
            )
            begun = not isinstance(told, Failure)
            return told
        finally:
            if not begun:
                self.sessions.give_back(key)

    def _wanted(self, request: RequestContext, asked: Create) -> AvatarRequest | Failure:
        config = self._config
        url = config.livekit_url or asked.livekit_url
        if not url:
            return Failure(Kind.BAD_REQUEST, "livekit_url: expected one", param="livekit_url")
        key, secret = request.caller.key, self._secrets[request.caller.key]
        if config.livekit_key is not None and config.livekit_secret is not None:
            key, secret = config.livekit_key, config.livekit_secret.get_secret_value()
        idle_s = asked.idle_timeout_s or config.idle_timeout_s
        return AvatarRequest(
            url,
            room_token(asked, key, secret, time.time(), config.session_s_max),
            asked.room_sid,
            asked.avatar_id,
            asked.image_url,
            asked.prompt,
            asked.idle_prompt,
            min(idle_s, config.idle_timeout_s_max),
            asked.extra_kwargs or {},
        )

    async def _begin(
        self, request: RequestContext, asked: Create, wanted: AvatarRequest, failover: Failover
    ) -> bytes | Failure:
        tries: list[Try] = []
        while True:
            began = time.monotonic()
            attempt = failover.next(began)
            if attempt is None:
                return Failure(Kind.UPSTREAM_ERROR, "no provider could be asked")
            self._breaker.began(attempt, began)
            upstream = self._upstreams[attempt.provider]
            tried = Try(attempt.provider, attempt.model, began)
            tries.append(tried)
            found = await self._ask(tried, upstream, wanted, attempt, request.id)
            tried.ended = now = time.monotonic()
            tried.failure = found if isinstance(found, Failure) else None
            request.outcome = Outcome(
                model=asked.model,
                label=self._catalogue.model_label(asked.model),
                provider=attempt.provider,
                deployment=attempt.model,
                tries=tuple(tries),
            )
            if not isinstance(found, Failure):
                self._breaker.worked(attempt)
                return await self._began(request, attempt, found, upstream.sample_rate)
            self._breaker.failed(attempt, found, now)
            outcome = failover.failed(attempt, found, now)
            if isinstance(outcome, Exhausted):
                return outcome.failure

    async def _ask(
        self,
        tried: Try,
        upstream: AvatarUpstream,
        wanted: AvatarRequest,
        attempt: Attempt,
        request_id: str,
    ) -> str | Failure:
        """The provider's id of the session that has begun; `tried` learns how it calls the
        request."""
        try:
            dial = upstream.begin(wanted, attempt)
        except FailureError as error:
            return error.failure
        told = await self._exchange(named(dial, request_id))
        if isinstance(told, Failure):
            return told
        tried.upstream_id = told_id(told.headers)
        if told.status not in (200, 201):
            return upstream.failure(told.status, told.headers, told.body)
        return upstream.began(told.body)

    async def _began(
        self, request: RequestContext, attempt: Attempt, session_id: str, sample_rate: int
    ) -> bytes:
        called = names_of(attempt) | {request.outcome.model or ""}
        await request.purse.settle((Spent(called, requests=1),))
        key, provider = request.caller.key, attempt.provider
        ticket = Ticket(request, attempt, request.outcome, called)
        self.sessions.begin(key, provider, session_id, time.monotonic(), ticket)
        return orjson.dumps(
            {
                "session_id": new_id("avatar"),
                "provider_session_id": session_id,
                "terminate_token": terminate_token(self._secrets[key], provider, session_id),
                "sample_rate": sample_rate,
            }
        )

    async def _exchange(self, dial: Dial) -> Answered | Failure:
        return await exchange(
            self._connector,
            dial,
            connect_timeout_s=CONNECT_S,
            answer_s=self._config.timeout_s,
            bytes_max=ANSWER_BYTES_MAX,
        )

    # -- ending

    async def terminate(self, request: RequestContext, body: bytes) -> bytes | Failure:
        """End an avatar that the caller's key began, here or at another server."""
        asked = read_terminate(body)
        if isinstance(asked, Failure):
            return asked
        secret = self._secrets[request.caller.key]
        provider = next((name for name in self._upstreams if is_owner(asked, secret, name)), None)
        if provider is None:
            words = "terminate_token: expected that of a session which this key began"
            return Failure(Kind.FORBIDDEN, words, param="terminate_token")
        request.outcome = Outcome(model=asked.provider, provider=provider)
        failure = await self._end(provider, asked.provider_session_id)
        if failure is not None:
            return failure
        if (ended := self.sessions.end(provider, asked.provider_session_id)) is not None:
            await self._settle(ended)
        else:
            self._say(_ENDED, provider, asked.provider_session_id)
        return b'{"terminated":true}'

    async def _end(self, provider: str, session_id: str) -> Failure | None:
        upstream = self._upstreams.get(provider)
        if upstream is None:  # it is configured no more
            return None
        told = await self._exchange(upstream.end(session_id))
        if isinstance(told, Failure):
            return told
        if told.status < 300 or told.status in _GONE:
            return None
        return upstream.failure(told.status, told.headers, told.body)

    async def _settle(self, ended: Running[Ticket]) -> None:
        """Count what an avatar has cost."""
        ticket = ended.ticket
        seconds = time.monotonic() - ended.began_at
        price = self._prices.of_attempt(ticket.attempt)
        cost = 0 if price is None else speech_cost(price, seconds, 0)
        await ticket.request.purse.settle((Spent(ticket.called, cost=cost),))
        outcome = replace(ticket.outcome, speech=SpeechUsage(seconds), cost=cost)
        ticket.request.record_part(outcome)

    def sweep(self, now: float) -> None:
        """Now and then: end those whose time has come."""
        for one in self.sessions.overdue(now):
            self._spawn(self._end_overdue(one))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """The process ends: what is being asked is waited for a moment. Avatars stay: calls go on
        elsewhere, where they can be ended, and a provider ends them where nothing happens."""
        asked = [one.answer for one in self._asked.values() if not one.answer.done()]
        waiting: list[asyncio.Future[Any]] = [*asked, *self._ending]
        if waiting:
            await asyncio.wait(waiting, timeout=PATIENCE_S)
        for one in waiting:
            one.cancel()

    async def _end_overdue(self, one: Running[Ticket]) -> None:
        failure = await self._end(one.provider, one.session_id)
        await self._settle(one)
        _logger.warning(
            "an avatar was not ended by its client",
            extra={
                "key": one.key,
                "provider": one.provider,
                "request_id": one.ticket.request.id,
                "error": None if failure is None else failure.message,
            },
        )


class AvatarEndRoute:
    """POST /avatar/sessions/terminate."""

    name: Final = "avatar"
    anonymous: Final = ()
    body_bytes_max: Final = BODY_BYTES_MAX

    def __init__(self, avatars: AvatarRoute) -> None:
        self.answer = avatars.terminate
