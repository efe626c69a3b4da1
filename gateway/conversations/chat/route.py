"""POST /chat/completions and GET /models: what the host does not do for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

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
    error_told,
)
from gateway.routing.breaker import Breaker
from gateway.routing.capacity import RANKS, ConcurrencyLimiter
from gateway.routing.catalogue import Catalogue
from gateway.runtime.companions import ManagedProcesses
from gateway.runtime.connector import Connector
from gateway.server.admission import RequestContext, new_id, who_and_where
from gateway.server.asgi import JSON_TYPE, Header, answer, header, refuse
from gateway.server.host import ReplyLink
from gateway.server.quota import Purse, Spent, forbidden
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
    Reader,
    Usage,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Plan, names_of
from gateway.upstreams.request_ids import named

EVENTS_MAX: Final = 16
"""Upstream pieces that wait for the client to read; then the upstream waits."""

LARGE_BODY_BYTES: Final = 256 << 10
"""Bodies from this size on are parsed by a thread, one after the other. orjson holds Python's lock
while it reads (12 MB of images: 30 ms), so the event loop gets its turns in between, and six such
bodies at once do not add up to one long stop."""

CASCADE: Final = "cascade"
"""Who owns a model that is parts of this gateway."""

WARM_EVERY_S: Final = 60.0
"""Connections are warmed no more often: idle ones are kept longer than that."""


class Form(Protocol):
    """Another form of the same requests: providers may be asked in it, and clients get it."""

    def able(self, plan: Plan, upstreams: Mapping[str, ChatUpstream]) -> Plan | Failure:
        """Those attempts of a plan that can serve the request."""

    def upstreams(
        self, plan: Plan, upstreams: Mapping[str, ChatUpstream]
    ) -> Mapping[str, ChatUpstream]:
        """The adapters of these attempts, in this form."""

    def told(self, failure: Failure, reader: Reader | None) -> bytes:
        """What a client gets whose answer breaks off."""


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
        prices: Prices,
        metrics: Metrics,
        body_bytes_max: int,
        before: ChatRoute | None = None,
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self.connector = connector
        self.prices = prices
        self.metrics = metrics
        self.body_bytes_max = body_bytes_max
        self.breaker = breaker
        places = before._shared.slots if before is not None else None
        self._shared: Shared = Shared(config, breaker, ConcurrencyLimiter(catalogue.limits, places))
        self._shared.slots.grant_all(time.monotonic())
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
        return await self.begin(request, asked, link)

    async def begin(
        self,
        request: RequestContext,
        asked: ChatRequest,
        link: ReplyLink[Event],
        form: Form | None = None,
    ) -> ChatConversation | Failure:
        """A conversation about a request that was read, or why not. `form`: in which other form
        providers are asked, and the client answered."""
        priority = header(request.scope, b"x-livekit-inference-priority")
        if priority is not None and priority not in RANKS:
            return Failure(
                Kind.BAD_REQUEST,
                f"X-LiveKit-Inference-Priority: expected one of {', '.join(RANKS)}",
                param="X-LiveKit-Inference-Priority",
            )
        pinned = header(request.scope, b"x-livekit-inference-provider")
        fallbacks = ((one.model, one.extra) for one in asked.fallbacks)
        catalogue = self.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        plan = catalogue.plan(asked.model, pinned, fallbacks)
        if not isinstance(plan, Failure) and form is not None:
            plan = form.able(plan, self.upstreams)
        if isinstance(plan, Failure):
            return plan
        request.outcome = Outcome(model=asked.model)
        plan = await request.purse.enter(asked.model, plan)
        if isinstance(plan, Failure):
            return plan
        session = ChatSession(
            asked,
            plan,
            self.upstreams if form is None else form.upstreams(plan, self.upstreams),
            self.config,
            time.monotonic(),
            self._shared,
            RANKS[priority or "standard"],
            error_told if form is None else form.told,
        )
        return ChatConversation(self, session, asked, plan, request.purse, request.id, link)


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
        purse: Purse,
        request_id: str,
        link: ReplyLink[Event],
    ) -> None:
        self.session = session
        self._route = route
        self._request = request
        self._plan = plan
        self._purse = purse
        self._link = link
        self._began = time.monotonic()
        self._id = request_id
        self._headers: list[Header] = [(b"x-request-id", request_id.encode())]
        self._headers += [(n.encode(), v.encode()) for n, v in purse.headers.items()]
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
                        named(dial, self._id), attempt, link.inbox, route.config.connect_timeout_s
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
        await self._purse.settle(spent)
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
            cost=sum(one.cost for one in spent),
            estimated=estimated,
        )

    def _use(self, report: Report) -> tuple[list[Spent], Usage | None, bool]:
        """What each try used, what the one that served did, and whether some of it is estimated."""
        asked = self.session.model
        plan = {one.deployment: one for one in reversed(self._plan)}
        spent: list[Spent] = []
        served: Usage | None = None
        estimated = False
        for one in report.tries:
            used, guessed = usage_of(one, report, self._request)
            estimated = estimated or guessed
            if one is report.served or (used is not None and report.served is None):
                served = used
            attempt = plan[one.provider, one.model]
            tokens = cost = 0
            if used is not None:
                tokens = used.prompt + used.completion
                price = self._route.prices.of_attempt(attempt)
                if price is not None:
                    cost = tokens_cost(
                        price, used.prompt, used.completion, used.cached, used.cache_write
                    )
            if one.asked:
                called = names_of(attempt) | {asked}
                spent.append(Spent(called, requests=1, tokens=tokens, cost=cost))
        return spent, served, estimated


class ModelsRoute:
    """GET /models: an OpenAI list of what can be served now, for chat and, as OpenAI's own list has
    them, by `others` (/realtime)."""

    name: Final = "models"
    anonymous: Final = ()
    body_bytes_max: Final = 1 << 16

    def __init__(
        self, chat: ChatRoute, others: Sequence[Catalogue] = (), cascades: Collection[str] = ()
    ) -> None:
        """`cascades`: names that /realtime serves with parts of this gateway."""
        self._warm = chat.warm
        self._catalogues = (chat.catalogue, *others)
        self._cascades = cascades
        self._list = _list(self._catalogues, cascades)

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        who, where = who_and_where(request)
        inside: list[Catalogue] = []
        for catalogue in self._catalogues:
            found = catalogue.for_request(who, where)
            if isinstance(found, Failure):
                return found
            inside.append(found)
        self._warm()
        if request.purse.chooses:
            return _list(inside, self._cascades, request.purse)
        same = all(a is b for a, b in zip(inside, self._catalogues, strict=True))
        return self._list if same else _list(inside, self._cascades)


def _list(
    catalogues: Iterable[Catalogue], cascades: Collection[str], purse: Purse | None = None
) -> bytes:
    """What is served; with `purse`, what its key may ask for."""
    plans = {name: plan for one in catalogues for name, plan in one.names().items()}
    if purse is not None:
        plans = {
            name: plan
            for name, plan in plans.items()
            if purse.may_ask(name) and purse.permitted(plan)
        }
        cascades = [name for name in cascades if purse.may_ask(name)]
    data: list[dict[str, Any]] = [
        _model(name, plan[0].provider) for name, plan in sorted(plans.items())
    ]
    data += [_model(name, CASCADE) for name in cascades]
    return orjson.dumps({"object": "list", "data": data})


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


class ModelRoute:
    """GET /models/{id}: one model, also one that the list does not have but that is served."""

    name: Final = "models"
    anonymous: Final = ()
    body_bytes_max: Final = 1 << 16

    def __init__(
        self, chat: ChatRoute, others: Sequence[Catalogue] = (), cascades: Collection[str] = ()
    ) -> None:
        self._catalogue = chat.catalogue
        self._others = others
        self._cascades = cascades

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        model = str(request.scope["path"]).removeprefix("/models/")
        if not request.purse.may_ask(model):
            return forbidden(model)
        if model in self._cascades:
            return orjson.dumps(_model(model, CASCADE))
        plan = self._plan(model, self._catalogue, request)
        if isinstance(plan, Failure):
            for other in self._others:
                elsewhere = self._plan(model, other, request)
                if not isinstance(elsewhere, Failure):
                    plan = elsewhere
                    break
        if isinstance(plan, Failure):
            return plan
        return orjson.dumps(_model(model, plan[0].provider))

    @staticmethod
    def _plan(model: str, catalogue: Catalogue, request: RequestContext) -> Plan | Failure:
        inside = catalogue.for_request(*who_and_where(request))
        return inside if isinstance(inside, Failure) else inside.plan(model)
