"""POST /chat/completions and GET /models: authenticate, build the session, drive it."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any, Final

import orjson

from gateway.config import Config
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
from gateway.runtime.loop import Inbox, drive
from gateway.server.admission import Admission, RequestContext
from gateway.server.asgi import (
    JSON_TYPE,
    LABEL_CHARS_MAX,
    BodyTooLargeError,
    ClientLeftError,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    header,
    read_body,
    refuse,
)
from gateway.server.quota import NOTHING_LIMITED, Quota, Standing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices, tokens_cost
from gateway.upstreams.chat import ChatUpstream, HasProcesses, Usage
from gateway.upstreams.errors import Blame, Failure, Kind
from gateway.upstreams.events import ClientLeft
from gateway.upstreams.provider import find

EVENTS_MAX: Final = 16
"""Upstream pieces that wait for the client to read; then the upstream waits."""

WARM_EVERY_S: Final = 60.0
"""Connections are warmed no more often: idle ones are kept longer than that."""

_logger = logging.getLogger(__name__)


class ChatEndpoint:
    """The route. One for each process; holds what is the same for every request."""

    def __init__(
        self,
        config: Config,
        door: Admission,
        connector: Connector,
        metrics: Metrics,
        quota: Quota | None = None,
    ) -> None:
        self._config = config
        self._quota = quota or Quota(config.quota)
        self._prices = Prices(config.prices)
        self._door = door
        self._connector = connector
        self._metrics = metrics
        self.catalogue = Catalogue(config.models, config.accounts(), "chat")
        self.shared = Shared(
            config.chat,
            Breaker(self.catalogue.deployments()),
            ConcurrencyLimiter(self.catalogue.limits),
        )
        self._warm_until = 0.0
        self._warming: set[asyncio.Task[None]] = set()
        self._upstreams: dict[str, ChatUpstream] = {}
        for name, account in config.accounts().items():
            offer = find(account.type).chat
            if offer is not None:
                self._upstreams[name] = offer.adapter(account)
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
                task = asyncio.create_task(self._connector.warm(dial))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.admit(scope, "chat")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            session = await self._session(scope, receive, visit)
            if session is None:
                visit.outcome = "left"
                return
            standing: Standing | Failure = NOTHING_LIMITED
            if not isinstance(session, Failure):
                standing = await self._quota.enter(visit.caller.key, session.model)
            for failure in (session, standing):
                if isinstance(failure, Failure):
                    visit.fail(failure)
                    await refuse(scope, send, failure)
                    return
            assert isinstance(session, ChatSession)
            assert isinstance(standing, Standing)
            exchange = _Exchange(session, self._connector, self._config, receive, send, visit)
            if standing.headers:
                exchange.headers += [(n.encode(), v.encode()) for n, v in standing.headers.items()]
            began = time.monotonic()
            try:
                await exchange.run()
            finally:
                tokens, cost = self._account(session.report, visit, began)
                await self._quota.spend(standing, tokens, cost)

    async def _session(
        self, scope: Scope, receive: Receive, visit: RequestContext
    ) -> ChatSession | Failure | None:
        """The session for this request; None if the client left while it was read."""
        try:
            body = await read_body(receive, self._config.limits.chat_body_bytes)
        except ClientLeftError:
            return None
        except BodyTooLargeError:
            return Failure(
                Kind.TOO_LARGE,
                f"the body is larger than {self._config.limits.chat_body_bytes} bytes",
            )
        self._metrics.bytes.labels("chat", "in").inc(len(body))
        request = read_request(body, f"chatcmpl-{visit.id}", int(time.time()))
        if isinstance(request, Failure):
            return request
        priority = header(scope, b"x-livekit-inference-priority")
        if priority is not None and priority not in RANKS:
            return Failure(
                Kind.BAD_REQUEST,
                f"X-LiveKit-Inference-Priority: expected one of {', '.join(RANKS)}",
                param="X-LiveKit-Inference-Priority",
            )
        pinned = header(scope, b"x-livekit-inference-provider")
        fallbacks = ((one.model, one.extra) for one in request.fallbacks)
        plan = self.catalogue.plan(request.model, pinned, fallbacks)
        if isinstance(plan, Failure):
            return plan
        visit.note(model=request.model)
        return ChatSession(
            request,
            plan,
            self._upstreams,
            self._config.chat,
            time.monotonic(),
            self.shared,
            RANKS[priority or "standard"],
        )

    def _account(self, report: Report, visit: RequestContext, began: float) -> tuple[int, float]:
        """Metrics and log fields of a finished session; the tokens used and what they cost."""
        metrics = self._metrics
        tokens, cost = self._cost(report, str(visit.notes.get("model")))
        if cost:
            visit.note(cost=cost)
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
            visit.note(
                provider=last.provider,
                deployment=last.model[:LABEL_CHARS_MAX],
                attempts=len(report.tries),
            )
            if hedges := sum(one.hedge for one in report.tries):
                visit.note(hedges=hedges)
            if report.first_content_at is not None:
                first_s = report.first_content_at - began
                metrics.first_byte.labels("chat", last.provider).observe(first_s)
                visit.note(first_token_s=round(first_s, 4))
            if (usage := report.usage) is not None:
                model = self.catalogue.model_label(str(visit.notes.get("model")))
                for kind, count in (
                    ("prompt", usage.prompt),
                    ("cached", usage.cached),
                    ("completion", usage.completion),
                    ("reasoning", usage.reasoning),
                ):
                    if count:
                        metrics.tokens.labels(last.provider, model, kind).inc(count)
                visit.note(
                    prompt_tokens=usage.prompt,
                    cached_tokens=usage.cached,
                    completion_tokens=usage.completion,
                    reasoning_tokens=usage.reasoning,
                )
            if (report.usage is None and report.served is not None) or any(
                one.lost and one.usage is None for one in report.tries
            ):
                visit.note(estimated=True)
        if report.failure is not None:
            visit.fail(report.failure)
        elif report.left:
            visit.outcome = "left"
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
            price = self._prices.of(one.provider, one.model, model)
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


_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", SSE_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class _Exchange:
    """One request's I/O: performs what its session decides."""

    def __init__(
        self,
        session: ChatSession,
        connector: Connector,
        config: Config,
        receive: Receive,
        send: Send,
        visit: RequestContext,
    ) -> None:
        self._session = session
        self._connector = connector
        self._connect_timeout_s = config.chat.connect_timeout_s
        self._receive = receive
        self._send = send
        self.headers: list[Header] = [(b"x-request-id", visit.id.encode())]
        self._inbox: Inbox[Event] = Inbox(EVENTS_MAX)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        watch = asyncio.create_task(self._watch())
        self._inbox.post(Begin())
        try:
            await drive(self._session, self._inbox, self._perform)
        finally:
            watch.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(watch, *self._tasks.values(), return_exceptions=True)

    async def _watch(self) -> None:
        """Wait for the client to leave."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._inbox.post(ClientLeft())

    async def _perform(self, action: Action) -> bool:
        match action:
            case Write(data):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
            case Open(attempt, dial):
                self._tasks[attempt] = asyncio.create_task(
                    self._connector.request(dial, attempt, self._inbox, self._connect_timeout_s)
                )
            case Drop(attempt):
                if (task := self._tasks.get(attempt)) is not None:
                    task.cancel()
            case Leave(attempt):
                if (task := self._tasks.pop(attempt, None)) is not None:
                    self._connector.let_end(task)
            case Wait(attempt, place):
                place.on_grant = partial(self._inbox.post, Granted(attempt))
                if place.granted:  # while the action before this one was performed
                    place.on_grant()
            case Start():
                await self._send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [*_STREAM_HEADERS, *self.headers],
                    }
                )
            case Finish():
                await self._send({"type": "http.response.body", "body": b""})
                return False
            case Reply(body):
                await answer(self._send, 200, body, (JSON_TYPE, *self.headers))
                return False
            case Refuse(failure):
                await refuse({"type": "http"}, self._send, failure)
                return False
            case BreakOff():
                # returning without a last body message makes the server close the connection
                return False
        return True


class ModelsEndpoint:
    """GET /models: an OpenAI list of what can be served now."""

    def __init__(self, door: Admission, chat: ChatEndpoint) -> None:
        self._door = door
        self._warm = chat.warm
        data: list[dict[str, Any]] = [
            {"id": name, "object": "model", "created": 0, "owned_by": plan[0].provider}
            for name, plan in chat.catalogue.names().items()
        ]
        self._body = orjson.dumps({"object": "list", "data": data})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._door.admit(scope, "models")
        if isinstance(visit, Failure):
            await refuse(scope, send, visit)
            return
        with visit:
            self._warm()
            await answer(send, 200, self._body)
