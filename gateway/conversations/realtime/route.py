"""WebSocket /realtime and /live/sessions: what the host does not do for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import ClassVar, Final, NamedTuple

from gateway.conversations.realtime.cascade.line import PROVIDER, Cascades, attempt_of
from gateway.conversations.realtime.duplex import DuplexSession
from gateway.conversations.realtime.session import (
    METER_S,
    Accept,
    Action,
    Admit,
    Admitted,
    Begin,
    Close,
    Drop,
    Event,
    Meter,
    Metered,
    Open,
    RealtimeSession,
    Refuse,
    Send,
    SendToClient,
    Used,
)
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.runtime.connector import Connector
from gateway.runtime.lines import BLOCKED_S as UPSTREAM_BLOCKED_S
from gateway.runtime.lines import Lines
from gateway.runtime.loop import Performed
from gateway.server.admission import RequestContext, new_id, who_and_where
from gateway.server.asgi import header, query
from gateway.server.host import BLOCKED_S, SocketLink
from gateway.server.quota import Spent
from gateway.settings.realtime import RealtimeConfig
from gateway.telemetry.outcome import Outcome, RealtimeCounts, SpeechUsage
from gateway.telemetry.prices import Prices, realtime_cost, speech_cost
from gateway.upstreams.chat import Usage
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Deployment, Plan, names_of
from gateway.upstreams.realtime import Connection, InProcess, RealtimeUpstream, TokensUsed
from gateway.upstreams.request_ids import named

EVENTS_MAX: Final = 64
"""Messages of client and provider that wait for the session; then their sockets are read no
further."""

UPSTREAM_MESSAGE_BYTES_MAX: Final = 16 << 20
"""Longest message of a provider: an item that is retrieved with its audio is one message."""

Opener = Callable[[RequestContext, Attempt], Connection | Failure]
"""Opens a line that is served in this process (`upstreams.realtime.InProcess`), at once."""


class RealtimeRoute:
    """The route; holds what is the same for every session. A new configuration has a new one."""

    name: ClassVar[str] = "realtime"
    events_max: Final = EVENTS_MAX
    blocked_s: Final = BLOCKED_S
    subprotocol: Final = "realtime"

    def __init__(
        self,
        config: RealtimeConfig,
        catalogue: Catalogue,
        upstreams: Mapping[str, RealtimeUpstream],
        breaker: Breaker,
        connector: Connector,
        prices: Prices,
        openers: Mapping[str, Opener] | None = None,
        cascades: Collection[str] = (),
    ) -> None:
        """`openers`: who serves the lines of this process, by `InProcess.kind`. `cascades`: models
        that are served by parts of this gateway, which are counted for themselves."""
        self.catalogue = catalogue
        self.connector = connector
        self.prices = prices
        self.openers = dict(openers or {})
        self._config = config
        self._breaker = breaker
        self._upstreams = upstreams
        self._cascades = cascades

    async def look(self, request: RequestContext) -> Failure | None:
        """Whether the caller's key has anything left, for the model in the URL."""
        return await request.purse.look(query(request.scope).get("model") or None)

    def open(
        self, request: RequestContext, link: SocketLink[Event]
    ) -> RealtimeConversation | Failure:
        model = query(request.scope).get("model")
        if not model:
            words = "model: expected the name of a model in the URL, ?model=provider/name"
            return Failure(Kind.BAD_REQUEST, words, param="model")
        catalogue = self.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        upstreams: Mapping[str, RealtimeUpstream] = self._upstreams
        plan: Plan | Failure
        if own := model in self._cascades:
            plan, upstreams = (attempt_of(model),), {PROVIDER: Cascades()}
        else:
            plan = catalogue.plan(model, header(request.scope, b"x-livekit-inference-provider"))
        if isinstance(plan, Failure):
            return plan
        session_id = new_id("realtime")
        session = RealtimeSession(
            plan,
            upstreams,
            self._config,
            self._breaker,
            session_id,
            time.monotonic(),
            charged=request.purse.limited,
        )
        return RealtimeConversation(self, session, session_id, model, request, link, own=own)


class DuplexRoute(RealtimeRoute):
    """WebSocket /live/sessions. The model is named in the URL or in `session.start`."""

    name: ClassVar[str] = "duplex"

    def open(
        self, request: RequestContext, link: SocketLink[Event]
    ) -> RealtimeConversation | Failure:
        model = query(request.scope).get("model") or None
        catalogue = self.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        pinned = header(request.scope, b"x-livekit-inference-provider")
        plan = None if model is None else catalogue.plan(model, pinned)
        if isinstance(plan, Failure):
            return plan
        session_id = new_id("live")
        session = DuplexSession(
            plan,
            self._upstreams,
            self._config,
            self._breaker,
            session_id,
            time.monotonic(),
            planner=lambda asked: catalogue.plan(asked, pinned),
            permits=lambda attempt: bool(request.purse.permitted((attempt,))),
            charged=request.purse.limited,
        )
        return RealtimeConversation(self, session, session_id, model, request, link)


class _Counted(NamedTuple):
    """What of a deployment was counted."""

    tokens: int = 0
    lines: int = 0
    cost: int = 0


class Bill:
    """What of a session was counted, and what it `cost`, in billionths."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._heard_ms = 0
        self._counted: dict[Deployment, _Counted] = {}
        self.cost = 0

    def ahead(self, plan: Plan) -> Spent:
        """What is reserved: tokens are counted once a response has told them."""
        price = self._prices.of_attempt(plan[0]) if plan else None
        cost = 0 if price is None else realtime_cost(price, TokensUsed(), METER_S, 0)
        return Spent(audio_ms=round(1000 * METER_S), cost=cost)

    def since_last(self, heard_s: float, used: list[Used]) -> list[Spent]:
        """What is to be counted since this was asked last."""
        heard_ms = round(1000 * heard_s)
        new_ms, self._heard_ms = heard_ms - self._heard_ms, heard_ms
        spent = [Spent(audio_ms=new_ms)] if new_ms else []
        for one in used:
            before = self._counted.get(one.attempt.deployment, _Counted())
            now = _Counted(one.tokens.input + one.tokens.output, one.lines, self._cost(one))
            if now == before:
                continue
            self._counted[one.attempt.deployment] = now
            self.cost += now.cost - before.cost
            spent.append(
                Spent(
                    names_of(one.attempt),
                    requests=now.lines - before.lines,
                    tokens=now.tokens - before.tokens,
                    cost=now.cost - before.cost,
                )
            )
        return spent

    def _cost(self, one: Used) -> int:
        price = self._prices.of_attempt(one.attempt)
        open_s = one.open_s if one.told_s is None else one.told_s
        cost = 0 if price is None else realtime_cost(price, one.tokens, open_s, one.lines)
        for model, seconds in one.transcribed_s.items():
            if (price := self._prices.of(one.attempt.provider, model)) is not None:
                cost += speech_cost(price, seconds, 0, 0)
        return cost


class RealtimeConversation:
    """One session's I/O: performs what it decides."""

    def __init__(
        self,
        route: RealtimeRoute,
        session: RealtimeSession,
        session_id: str,
        model: str | None,
        request: RequestContext,
        link: SocketLink[Event],
        *,
        own: bool = False,
    ) -> None:
        """`model`: that of the URL, if it names one. `own`: parts of this gateway serve it, and
        count what they use."""
        self.session = session
        self._own = own
        self.refused: Failure | None = None
        self._route = route
        self._id = session_id
        self._model = model
        self._request = request
        self._purse = request.purse
        self._bill = Bill(route.prices)
        self._link = link
        self._client = link.client
        self._inbox = link.inbox
        self._lines = Lines(link.inbox, link.spawn)
        link.inbox.post(Begin())
        link.spawn(self._watch())

    async def _watch(self) -> None:
        """Look now and then whether a send is stuck: it costs nothing on the way of a frame."""
        while True:
            await asyncio.sleep(UPSTREAM_BLOCKED_S / 2)
            self._lines.watch(time.monotonic())

    def perform(self, action: Action) -> Performed:
        match action:
            case SendToClient(text):
                return self._client.say_now(text)
            case Send(number, frames):
                return self._lines.send(number, frames)
            case Open(number, attempt, target, timeout_s):
                self._lines.open(number, partial(self._open, attempt, target, timeout_s))
            case Drop(number):
                self._lines.drop(number)
            case Accept():
                return self._link.accept()
            case Admit(plan):
                return self._admit(plan)
            case Meter():
                return self._meter()
            case Refuse(failure):
                self.refused = failure
                return self._over()
            case Close(code, reason):
                return self._end(code, reason)
        return None

    async def _admit(self, plan: Plan) -> bool:
        admitted = await self._purse.enter(self._asked, plan, ahead=self._ahead())
        self._inbox.answer(Admitted(admitted))
        return True

    async def _meter(self) -> bool:
        self._inbox.answer(Metered(await self._purse.settle(self._spent(), self._ahead())))
        return True

    async def _over(self) -> bool:
        return False

    async def _end(self, code: int, reason: str) -> bool:
        await self._client.close(code, reason)
        return False

    async def _open(
        self, attempt: Attempt, target: Dial | InProcess, timeout_s: float
    ) -> Connection | Failure:
        if isinstance(target, Dial):
            return await self._route.connector.websocket(
                named(target, self._request.id), timeout_s, UPSTREAM_MESSAGE_BYTES_MAX
            )
        opener = self._route.openers.get(target.kind)
        if opener is None:
            return Failure(Kind.NO_ROUTE, f"nothing in this process serves {target.kind!r}")
        return opener(self._request, attempt)

    def _ahead(self) -> Spent:
        return Spent() if self._own else self._bill.ahead(self.session.plan)

    def _spent(self) -> list[Spent]:
        if self._own:
            return []
        used = self.session.used(time.monotonic())
        return self._bill.since_last(self.session.report.audio_s, used)

    async def settle(self) -> None:
        """Count what was used until now."""
        await self._purse.settle(self._spent(), self._ahead())

    async def close(self) -> Outcome:
        await self._purse.settle(self._spent())
        return self.outcome()

    @property
    def _asked(self) -> str | None:
        """The model, as the client names it."""
        return self._model or self.session.asked

    def outcome(self) -> Outcome:
        """How it stands, with what was counted."""
        report, route = self.session.report, self._route
        asked = self._asked or ""
        last = report.served or (report.tries[-1] if report.tries else None)
        tokens = sum(
            (one.tokens for one in self.session.used(time.monotonic())), start=TokensUsed()
        )
        usage = None
        if report.responses and not self._own:
            usage = Usage(
                tokens.input,
                tokens.output,
                tokens.cached,
                audio_prompt=tokens.audio_input,
                audio_completion=tokens.audio_output,
            )
        return Outcome(
            failure=report.failure,
            left=report.left,
            session_id=self._id,
            model=self._asked,
            label=asked if self._own else route.catalogue.model_label(asked),
            provider=last.provider if last is not None else None,
            deployment=last.model if last is not None else None,
            tries=tuple(report.tries),
            first_s=report.first_s,
            usage=usage,
            speech=None if self._own else SpeechUsage(report.audio_s),
            bytes_out=report.bytes_out,
            cost=self._bill.cost,
            counts=RealtimeCounts(report.responses, report.cancelled, report.failovers),
        )
