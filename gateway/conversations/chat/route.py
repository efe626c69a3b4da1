"""POST /chat/completions and GET /models: what the host does not do for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson

from gateway.conversations.chat.protocol import SSE_TYPE, read_request
from gateway.conversations.chat.session import (
    Action,
    Begin,
    BreakOff,
    ChatSession,
    Drop,
    Event,
    Finish,
    Granted,
    Leave,
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
from gateway.server.admission import RequestContext
from gateway.server.asgi import JSON_TYPE, LABEL_CHARS_MAX, Header, answer, header, refuse
from gateway.server.host import ReplyLink
from gateway.server.quota import Quota, Standing
from gateway.settings.chat import ChatConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices, tokens_cost
from gateway.upstreams.chat import ChatUpstream, HasProcesses, Usage
from gateway.upstreams.errors import Blame, Failure, Kind
from gateway.upstreams.provider import Account, find

EVENTS_MAX: Final = 16
"""Upstream pieces that wait for the client to read; then the upstream waits."""

WARM_EVERY_S: Final = 60.0
"""Connections are warmed no more often: idle ones are kept longer than that."""

_logger = logging.getLogger(__name__)


class ChatRoute:
    """POST /chat/completions. One for each process; holds what is the same for every request."""

    name: Final = "chat"
    events_max: Final = EVENTS_MAX

    def __init__(
        self,
        config: ChatConfig,
        catalogue: Catalogue,
        accounts: Mapping[str, Account],
        breaker: Breaker,
        connector: Connector,
        quota: Quota,
        prices: Prices,
        metrics: Metrics,
        body_bytes_max: int,
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self.connector = connector
        self.quota = quota
        self.prices = prices
        self.metrics = metrics
        self.body_bytes_max = body_bytes_max
        self._shared = Shared(config, breaker, ConcurrencyLimiter(catalogue.limits))
        self._warm_until = 0.0
        self._warming: set[asyncio.Task[None]] = set()
        self._upstreams: dict[str, ChatUpstream] = {}
        for name, account in accounts.items():
            make_chat = find(account.type).chat
            if make_chat is not None:
                self._upstreams[name] = make_chat(account)
        companions = [
            companion
            for upstream in self._upstreams.values()
            if isinstance(upstream, HasProcesses)
            for companion in upstream.companions.values()
        ]
        for companion in companions:
            # an installation with nothing else will need it; others when somebody asks for it
            companion.wanted = len(self._upstreams) == 1
        self.companions = ManagedProcesses(companions)

    def warm(self) -> None:
        """Open a connection to every provider, if that has not been done lately. Clients ask for
        GET /models when they start, for just that."""
        now = time.monotonic()
        if now < self._warm_until:
            return
        self._warm_until = now + WARM_EVERY_S
        for upstream in self._upstreams.values():
            if (dial := upstream.warm()) is not None:
                task = asyncio.create_task(self.connector.warm(dial))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> ChatConversation | Failure:
        """A conversation about this body, or why not."""
        self.metrics.bytes.labels("chat", "in").inc(len(body))
        asked = read_request(body, f"chatcmpl-{request.id}", int(time.time()))
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
        request.note(model=asked.model)
        standing = await self.quota.enter(request.caller.key, asked.model)
        if isinstance(standing, Failure):
            return standing
        session = ChatSession(
            asked,
            plan,
            self._upstreams,
            self.config,
            time.monotonic(),
            self._shared,
            RANKS[priority or "standard"],
        )
        return ChatConversation(self, session, standing, request, link)


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
        standing: Standing,
        request: RequestContext,
        link: ReplyLink[Event],
    ) -> None:
        self.session = session
        self._route = route
        self._standing = standing
        self._request = request
        self._link = link
        self._began = time.monotonic()
        self._headers: list[Header] = [(b"x-request-id", request.id.encode())]
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
                await refuse({"type": "http"}, link.send, failure)
                return False
            case BreakOff():
                # returning without a last body message makes the server close the connection
                return False
        return True

    async def close(self) -> None:
        tokens, cost = self._account(self.session.report, self._request, self._began)
        await self._route.quota.spend(self._standing, tokens, cost)

    def _account(self, report: Report, request: RequestContext, began: float) -> tuple[int, float]:
        """Metrics and log fields of a finished session; the tokens used and what they cost."""
        metrics = self._route.metrics
        tokens, cost = self._cost(report, str(request.notes.get("model")))
        if cost:
            request.note(cost=cost)
        for i, one in enumerate(report.tries):
            outcome = one.failure.kind.value if one.failure else "lost" if one.lost else ""
            outcome = outcome or ("left" if report.left else "ok")
            metrics.attempts.labels("chat", one.provider, outcome).inc()
            if one.hedge:
                metrics.hedges.labels(one.provider, "lost" if one.lost else "won").inc()
            if one.failure is not None:
                if i + 1 < len(report.tries):
                    metrics.fallbacks.labels("chat", one.provider).inc()
                self._tell_operator(one.failure, one.model, rests=one.rests)
        metrics.bytes.labels("chat", "out").inc(report.bytes_out)
        last = report.served or (report.tries[-1] if report.tries else None)
        if last is not None:
            request.note(
                provider=last.provider,
                deployment=last.model[:LABEL_CHARS_MAX],
                attempts=len(report.tries),
            )
            if hedges := sum(one.hedge for one in report.tries):
                request.note(hedges=hedges)
            if report.first_content_at is not None:
                first_s = report.first_content_at - began
                metrics.first_byte.labels("chat", last.provider).observe(first_s)
                request.note(first_token_s=round(first_s, 4))
            if (usage := report.usage) is not None:
                model = self._route.catalogue.model_label(str(request.notes.get("model")))
                for kind, count in (
                    ("prompt", usage.prompt),
                    ("cached", usage.cached),
                    ("completion", usage.completion),
                    ("reasoning", usage.reasoning),
                ):
                    if count:
                        metrics.tokens.labels(last.provider, model, kind).inc(count)
                request.note(
                    prompt_tokens=usage.prompt,
                    cached_tokens=usage.cached,
                    completion_tokens=usage.completion,
                    reasoning_tokens=usage.reasoning,
                )
            if (report.usage is None and report.served is not None) or any(
                one.lost and one.usage is None for one in report.tries
            ):
                request.note(estimated=True)
        if report.failure is not None:
            request.fail(report.failure)
        elif report.left:
            request.outcome = "left"
        return tokens, cost

    def _cost(self, report: Report, model: str) -> tuple[int, float]:
        """Tokens of all tries and what they cost. A try that was let go for a faster one is billed
        for its prompt at least, which is the same for both."""
        tokens, cost = 0, 0.0
        served = report.usage
        for one in report.tries:
            used = one.usage
            if used is None and one.lost and served is not None:
                used = Usage(served.prompt, 0, served.cached)
            if used is None:
                continue
            tokens += used.prompt + used.completion
            price = self._route.prices.of(one.provider, one.model, model)
            if price is not None:
                cost += tokens_cost(
                    price, used.prompt, used.completion, used.cached, used.cache_write
                )
        return tokens, round(cost, 9)

    def _tell_operator(self, failure: Failure, model: str, *, rests: bool) -> None:
        """A line in the log when a deployment begins to rest; an error if it will not mend."""
        if not rests:
            return
        level = logging.ERROR if failure.policy.blame is Blame.OPERATOR else logging.WARNING
        _logger.log(
            level,
            "a deployment rests",
            extra={
                "provider": failure.provider,
                "model": model[:LABEL_CHARS_MAX],
                "kind": failure.kind.value,
                "upstream_status": failure.upstream_status,
                "said": failure.upstream_text or failure.message,
            },
        )


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
