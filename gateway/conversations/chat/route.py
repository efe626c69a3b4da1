"""POST /chat/completions and GET /models: what the host does not do for them."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

import orjson

from gateway.conversations.chat.estimates import usage_of
from gateway.conversations.chat.protocol import SSE_TYPE, read_request
from gateway.conversations.chat.session import (
    Action,
    AwaitModel,
    Begin,
    BreakOff,
    ChatSession,
    Drop,
    Event,
    Finish,
    Granted,
    Leave,
    Loaded,
    Open,
    Refuse,
    Reply,
    Report,
    Shared,
    Start,
    Wait,
    Write,
)
from gateway.routing.breaker import Breaker
from gateway.routing.capacity import RANKS, ConcurrencyLimiter
from gateway.routing.catalogue import Catalogue
from gateway.runtime.companions import ManagedProcesses
from gateway.runtime.connector import Connector
from gateway.server.admission import RequestContext, new_id
from gateway.server.asgi import JSON_TYPE, Header, answer, header, refuse
from gateway.server.host import ReplyLink
from gateway.server.quota import Quota, Spent, Standing
from gateway.settings.chat import ChatConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import Outcome
from gateway.telemetry.prices import Prices, tokens_cost
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.chat import (
    ChatRequest,
    ChatUpstream,
    HasProcesses,
    ManagedProcess,
    Usage,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan

EVENTS_MAX: Final = 16
"""Upstream pieces that wait for the client to read; then the upstream waits."""

LARGE_BODY_BYTES: Final = 256 << 10
"""Bodies from this size on are parsed by a thread, one after the other. orjson holds Python's lock
while it reads (12 MB of images: 30 ms), so the event loop gets its turns in between, and six such
bodies at once do not add up to one long stop."""

WARM_EVERY_S: Final = 60.0
"""Connections are warmed no more often: idle ones are kept longer than that."""


class ChatRoute:
    """POST /chat/completions; holds what is the same for every request.

    A new configuration has a new one. It goes on with the places that requests hold, and with the
    processes, of the one `before` it.
    """

    name: Final = "chat"
    events_max: Final = EVENTS_MAX

    def __init__(
        self,
        config: ChatConfig,
        catalogue: Catalogue,
        adapters: Adapters,
        breaker: Breaker,
        connector: Connector,
        quota: Quota,
        prices: Prices,
        metrics: Metrics,
        body_bytes_max: int,
        before: ChatRoute | None = None,
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self.connector = connector
        self.quota = quota
        self.prices = prices
        self.metrics = metrics
        self.body_bytes_max = body_bytes_max
        self.breaker = breaker
        places = before._shared.slots if before is not None else None
        self._shared: Shared = Shared(config, breaker, ConcurrencyLimiter(catalogue.limits, places))
        self._parsing = asyncio.Lock()
        self._warm_until = 0.0
        self._warming: set[asyncio.Task[None]] = set()
        self.upstreams = adapters.chat
        self.companions: ManagedProcesses = (
            ManagedProcesses() if before is None else before.companions
        )
        for upstream in self.upstreams.values():
            if isinstance(upstream, HasProcesses):
                companions = upstream.companions.values()
                for companion in companions:
                    # an installation with nothing else will need it; others once somebody asks
                    companion.wanted = companion.wanted or len(self.upstreams) == 1
                self.companions.add(companions)

    async def end(self, upstream: ChatUpstream) -> None:
        """End the processes of an adapter that nobody will ask any more."""
        if isinstance(upstream, HasProcesses):
            await self.companions.end(upstream.companions.values())

    def warm(self) -> None:
        """Open a connection to every provider, if that has not been done lately. Clients ask for
        GET /models when they start, for just that."""
        now = time.monotonic()
        if now < self._warm_until:
            return
        self._warm_until = now + WARM_EVERY_S
        for upstream in self.upstreams.values():
            if (dial := upstream.warm()) is not None:
                task = asyncio.create_task(self.connector.warm(dial))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> ChatConversation | Failure:
        """A conversation about this body, or why not."""
        self.metrics.bytes.labels("chat", "in").inc(len(body))
        read = partial(read_request, body, f"chatcmpl-{new_id('req')}", int(time.time()))
        if len(body) < LARGE_BODY_BYTES:
            asked = read()
        else:
            async with self._parsing:
                asked = await asyncio.to_thread(read)
        if isinstance(asked, Failure):
            return asked
        priority = header(request.scope, b"x-livekit-inference-priority")
        if priority is not None and priority not in RANKS:
            return Failure(
                Kind.BAD_REQUEST,
                f"X-LiveKit-Inference-Priority: expected one of {', '.join(RANKS)}",
                param="X-LiveKit-Inference-Priority",
            )
        pinned = header(request.scope, b"x-livekit-inference-provider")
        fallbacks = ((one.model, one.extra) for one in asked.fallbacks)
        plan = self.catalogue.plan(asked.model, pinned, fallbacks)
        if isinstance(plan, Failure):
            return plan
        request.outcome = Outcome(model=asked.model)
        allowed = await self.allowed(request.caller.key, asked.model, plan)
        if isinstance(allowed, Failure):
            return allowed
        standing, plan = allowed
        session = ChatSession(
            asked,
            plan,
            self.upstreams,
            self.config,
            time.monotonic(),
            self._shared,
            RANKS[priority or "standard"],
        )
        return ChatConversation(self, session, asked, plan, standing, request.id, link)

    async def allowed(self, key: str, model: str, plan: Plan) -> tuple[Standing, Plan] | Failure:
        """What of a plan a key may still ask for; the request is counted. A fallback or alias does
        not lead round the limits of what it stands for."""
        others: frozenset[str] = frozenset()
        if not self.quota.limits_nothing:
            others = frozenset().union(*map(names_of, plan)) - {model}
        standing = await self.quota.enter(key, model, others)
        if isinstance(standing, Failure):
            return standing
        if refused := standing.refused:
            plan = tuple(one for one in plan if refused.keys().isdisjoint(names_of(one)))
            if not plan:
                return next(iter(refused.values()))
        return standing, plan


def names_of(attempt: Attempt) -> frozenset[str]:
    """All names of what an attempt asks for, but the one that the client used."""
    return attempt.names | {f"{attempt.provider}/{attempt.model}"}


_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", SSE_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class ChatConversation:
    """One request's I/O: performs what its session decides."""

    def __init__(
        self,
        route: ChatRoute,
        session: ChatSession,
        request: ChatRequest,
        plan: Plan,
        standing: Standing,
        request_id: str,
        link: ReplyLink[Event],
    ) -> None:
        self.session = session
        self._route = route
        self._request = request
        self._plan = plan
        self._standing = standing
        self._link = link
        self._began = time.monotonic()
        self._headers: list[Header] = [(b"x-request-id", request_id.encode())]
        self._headers += [(n.encode(), v.encode()) for n, v in (standing.headers or {}).items()]
        self._attempts: dict[int, asyncio.Task[None]] = {}
        link.inbox.post(Begin())

    async def perform(self, action: Action) -> bool:
        link = self._link
        match action:
            case Write(data):
                await link.send({"type": "http.response.body", "body": data, "more_body": True})
            case Open(attempt, dial):
                route = self._route
                self._attempts[attempt] = link.spawn(
                    route.connector.request(
                        dial, attempt, link.inbox, route.config.connect_timeout_s
                    )
                )
            case Drop(attempt):
                if (task := self._attempts.get(attempt)) is not None:
                    task.cancel()
            case Leave(attempt):
                if (task := self._attempts.pop(attempt, None)) is not None:
                    link.release(task)
                    self._route.connector.let_end(task)
            case Wait(attempt, place):
                place.on_grant = partial(link.inbox.post, Granted(attempt))
                if place.granted:  # while the action before this one was performed
                    place.on_grant()
            case AwaitModel(attempt, process):
                self._attempts[attempt] = link.spawn(self._await_model(attempt, process))
            case Start():
                headers = [*_STREAM_HEADERS, *self._headers]
                await link.send({"type": "http.response.start", "status": 200, "headers": headers})
            case Finish():
                await link.send({"type": "http.response.body", "body": b""})
                return False
            case Reply(body):
                await answer(link.send, 200, body, (JSON_TYPE, *self._headers))
                return False
            case Refuse(failure):
                await refuse({"type": "http"}, link.send, failure, self._headers)
                return False
            case BreakOff():
                # returning without a last body message makes the server close the connection
                return False
        return True

    async def _await_model(self, attempt: int, process: ManagedProcess) -> None:
        ready = await self._route.companions.ready(process)
        self._link.inbox.post(Loaded(attempt, ready))

    async def close(self) -> Outcome:
        report, asked = self.session.report, self.session.model
        spent, served, estimated = self._use(report)
        await self._route.quota.spend(self._standing, spent)
        last = report.served or (report.tries[-1] if report.tries else None)
        first = report.first_content_at
        catalogue = self._route.catalogue
        stand_in = catalogue.stand_in_name(asked, last.provider) if last is not None else None
        model = stand_in or asked
        return Outcome(
            failure=report.failure,
            left=report.left,
            model=model,
            asked=asked if stand_in else None,
            label=catalogue.model_label(model),
            provider=last.provider if last is not None else None,
            deployment=last.model if last is not None else None,
            tries=tuple(report.tries),
            first_s=None if first is None else first - self._began,
            usage=served,
            bytes_out=report.bytes_out,
            cost=round(sum(one.cost for one in spent), 9),
            estimated=estimated,
        )

    def _use(self, report: Report) -> tuple[list[Spent], Usage | None, bool]:
        """What each try used, what the one that served did, and whether some of it is estimated."""
        names = (
            {one.deployment: names_of(one) for one in self._plan} if self._standing.others else {}
        )
        spent: list[Spent] = []
        served: Usage | None = None
        estimated = False
        for one in report.tries:
            used, guessed = usage_of(one, report, self._request)
            estimated = estimated or guessed
            if one is report.served or (used is not None and report.served is None):
                served = used
            tokens, cost = 0, 0.0
            if used is not None:
                tokens = used.prompt + used.completion
                asked = self.session.model
                name = self._route.catalogue.stand_in_name(asked, one.provider) or asked
                price = self._route.prices.of(one.provider, one.model, name)
                if price is not None:
                    cost = tokens_cost(
                        price, used.prompt, used.completion, used.cached, used.cache_write
                    )
            if one.asked:
                spent.append(Spent(names.get((one.provider, one.model), ()), tokens, cost))
        return spent, served, estimated


class ModelsRoute:
    """GET /models: an OpenAI list of what can be served now."""

    name: Final = "models"
    anonymous: Final = ()
    body_bytes_max: Final = 1 << 16

    def __init__(self, chat: ChatRoute) -> None:
        self._warm = chat.warm
        data: list[dict[str, Any]] = [
            {"id": name, "object": "model", "created": 0, "owned_by": plan[0].provider}
            for name, plan in chat.catalogue.names().items()
        ]
        self._list = orjson.dumps({"object": "list", "data": data})

    async def answer(self, request: RequestContext, body: bytes) -> bytes:
        self._warm()
        return self._list


class ModelRoute:
    """GET /models/{id}: one model, also one that the list does not have but that is served."""

    name: Final = "models"
    anonymous: Final = ()
    body_bytes_max: Final = 1 << 16

    def __init__(self, chat: ChatRoute) -> None:
        self._catalogue = chat.catalogue

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        model = str(request.scope["path"]).removeprefix("/models/")
        plan = self._catalogue.plan(model)
        if isinstance(plan, Failure):
            return plan
        return orjson.dumps(
            {"id": model, "object": "model", "created": 0, "owned_by": plan[0].provider}
        )
