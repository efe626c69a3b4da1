"""/stt: what the host does not do for it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from gateway.conversations.stt.actions import (
    Action,
    Admit,
    Admitted,
    Close,
    Drop,
    Heard,
    Linger,
    Meter,
    Metered,
    Open,
    Pause,
    Resume,
    Send,
    SendToClient,
)
from gateway.conversations.stt.connections import Used
from gateway.conversations.stt.planning import SttPlanner, asked_name
from gateway.conversations.stt.protocol import NO_MODEL, Asked, split_language
from gateway.conversations.stt.report import TRIES_MAX
from gateway.conversations.stt.session import METER_S, Event, SttSession
from gateway.conversations.stt.standby import Places
from gateway.engines.interruption.learning import Hearing, LearningKeeper
from gateway.engines.utterances import Interims, UtteranceEngines, UtteranceStream
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.routing.hedging import HedgeBudget
from gateway.runtime.connector import Connector, UpstreamSocket
from gateway.runtime.lines import BLOCKED_S as UPSTREAM_BLOCKED_S
from gateway.runtime.lines import Lines
from gateway.runtime.loop import Gate, Inbox, Performed
from gateway.server.admission import RequestContext, new_id, who_and_where
from gateway.server.asgi import header, query
from gateway.server.host import BLOCKED_S
from gateway.server.quota import Spent
from gateway.settings.stt import SttConfig
from gateway.telemetry.agreement import Agreements
from gateway.telemetry.metrics import OTHER
from gateway.telemetry.outcome import Outcome, SpeechUsage, StandbyTime, SttCounts, SttLatency, Try
from gateway.telemetry.prices import Prices, speech_cost
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.bounds import Bound
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.listing import named_models
from gateway.upstreams.plan import Attempt, Deployment, Plan, names_of
from gateway.upstreams.provider import find
from gateway.upstreams.request_ids import named
from gateway.upstreams.stt import LocalModel, LocalTarget

_logger = logging.getLogger(__name__)

EVENTS_MAX: Final = 64
"""Messages of client and providers that wait for the session; then their sockets are read no
further."""

LANGUAGES_WARNED_MAX: Final = 64
"""Languages that a process warns of; callers may name any."""

HEDGES_SAVED: Final = 5.0
"""Hedges that a process may make before it has heard utterances."""

LINGER_STEP_S: Final = 0.02

UPSTREAM_MESSAGE_BYTES_MAX: Final = 1 << 20
"""Longest message of a provider."""

AUTO: Final = "auto"
"""In place of a model's name in a label, where the client named none."""

_AGENTS_1_5 = re.compile(r"LiveKit Agents/(0|1\.[0-5])\.")


class Client(Protocol):
    """Whom a session speaks to."""

    gone: bool

    def say_now(self, text: str) -> Performed: ...

    async def close(self, code: int, reason: str = "") -> None: ...


class ClientLink(Protocol):
    """The client of a session, and the inbox for what comes from it."""

    @property
    def client(self) -> Client: ...

    @property
    def inbox(self) -> Inbox[Event]: ...

    @property
    def gate(self) -> Gate[Event]: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class SttRoute:
    """The route; holds what is the same for every session. A new configuration has a new one."""

    name: Final = "stt"
    events_max: Final = EVENTS_MAX
    blocked_s: Final = BLOCKED_S

    def __init__(
        self,
        config: SttConfig,
        catalogue: Catalogue,
        adapters: Adapters,
        breaker: Breaker,
        connector: Connector,
        engines: UtteranceEngines,
        prices: Prices,
        agreements: Agreements | None = None,
        learning: LearningKeeper | None = None,
    ) -> None:
        """`agreements`: who wants to know what callers say; `learning`: who is told of which kind
        the words of some calls are."""
        self._learning = learning
        self.prices = prices
        self.agreements = agreements
        self.catalogue = catalogue
        self.connector = connector
        self.engines = engines
        self.known = catalogue.deployments()
        self._config = config
        self._breaker = breaker
        self._hedges = HedgeBudget(config.hedge.share_max, HEDGES_SAVED)
        self._places = Places(config.standby.connections_max)
        self.local_models: set[LocalModel] = set()
        """Models of this machine that were asked for here."""
        self._upstreams = adapters.stt
        automatic: list[str] = []
        last: list[str] = []
        others: dict[str, tuple[str, ...]] = {}
        languages: dict[tuple[str, str], frozenset[str]] = {}
        for name, account in adapters.accounts.items():
            vendor = find(account.type)
            if vendor.stt is None:
                continue
            models = [f"{name}/{model}" for model in named_models(account, "stt")]
            models += vendor.stt.models
            others.update({first: tuple(models[1:]) for first in models[:1]})
            languages.update({(name, one): few for one, few in vendor.stt.languages.items()})
            if vendor.available is None:
                automatic += models[:1]
            elif vendor.available():
                last += models[:1]
        # loaded at the start only where it will be asked
        self._last = tuple(last) if config.local_last or not automatic else ()
        self._planner = SttPlanner(
            catalogue,
            config,
            self._upstreams,
            automatic=(*automatic, *last),
            last=tuple(last) if config.local_last else (),
            others=others,
            languages=languages,
            warn=self._nothing_speaks,
        )
        self._warned: set[str] = set()

    def _nothing_speaks(self, language: str) -> None:
        """No recogniser that `auto` may choose speaks this; said once for each language."""
        if language not in self._warned and len(self._warned) < LANGUAGES_WARNED_MAX:
            self._warned.add(language)
            _logger.warning(
                "stt: `auto` finds no recogniser that speaks %s: one that does not is asked; "
                "configure another provider, or stt.auto",
                language,
            )

    def warm(self) -> None:
        """Load the local engine, if there is one, so that the first caller does not wait."""
        for model in self._last:
            plan = self.catalogue.plan(model)
            if isinstance(plan, Failure):
                continue
            for attempt in plan:
                dial = self._upstreams[attempt.provider].recognizer(attempt, 16_000).dial()
                if isinstance(dial, LocalTarget):
                    self._note(dial)
                    self.engines.warm(dial)

    def open_local(self, target: LocalTarget, interims: Interims) -> UtteranceStream | Failure:
        """A stream of utterances to an engine; `interims` counts its own."""
        self._note(target)
        return self.engines.open(target, interims)

    def _note(self, target: LocalTarget) -> None:
        if isinstance(target.transcriber, LocalModel):
            self.local_models.add(target.transcriber)

    def open(self, request: RequestContext, link: ClientLink) -> SttConversation | Failure:
        catalogue = self.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        session_id = new_id("stt")
        user_agent = header(request.scope, b"user-agent") or ""
        session = SttSession(
            self._config,
            self._planner.within(catalogue),
            self._upstreams,
            self._breaker,
            session_id,
            time.monotonic(),
            hedges=self._hedges,
            standbys=lambda asked: request.purse.permitted(
                self._planner.standby(asked, request.caller.key)
            ),
            places=self._places,
            ends_itself=_AGENTS_1_5.match(user_agent) is not None,
            charged=request.purse.limited,
            tells_words=self.agreements is not None and bool(request.call),
        )
        hearing = None
        if self._learning is not None:
            hearing = self._learning.hearing(request.call, request.caller.key)
        return SttConversation(self, session, session_id, link, request, hearing)

    async def look(self, request: RequestContext) -> Failure | None:
        """Whether the caller's key has anything left; of the model in the URL, if it names one."""
        asked = Asked(query(request.scope).get("model") or None)
        if asked.model is None or asked.model in NO_MODEL:
            return await request.purse.look()
        plan = self._planner(asked)
        if isinstance(plan, Failure):  # that is told in the session
            return await request.purse.look()
        return await request.purse.look(asked_name(asked, plan))


class Counted(NamedTuple):
    """What of a deployment was counted."""

    cost: int = 0
    connections: int = 0
    seconds: float = 0.0


class Bill:
    """What of a session was counted: the client's audio, and what it `cost`."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self.heard_ms = 0
        self.cost = 0
        self._interims_s = 0.0
        self._counted: dict[Deployment, Counted] = {}
        self._attempt: Attempt | None = None  # that hears the client, as far as is known

    def ahead(self, attempt: Attempt | None = None) -> Spent:
        """What is reserved; `attempt`: for a session that begins with it."""
        self._attempt = attempt or self._attempt
        if self._attempt is None:
            return Spent(audio_ms=round(1000 * METER_S))
        price = self._prices.of_attempt(self._attempt)
        cost = 0 if price is None else speech_cost(price, METER_S, 0, 0)
        return Spent(audio_ms=round(1000 * METER_S), cost=cost)

    def since_last(self, heard_s: float, used: Sequence[Used]) -> list[Spent]:
        """What is to be counted since this was asked last. The client's seconds are the affair of
        whoever was sent most of them."""
        heard_ms = round(1000 * heard_s)
        new_ms, self.heard_ms = heard_ms - self.heard_ms, heard_ms
        spent: list[Spent] = []
        most_s = 0.0
        for one in used:
            before = self._counted.get(one.attempt.deployment, Counted())
            now = Counted(self._cost(one), one.connections, one.seconds)
            if now == before:
                continue
            self._counted[one.attempt.deployment] = now
            self.cost += now.cost - before.cost
            new = Spent(
                names_of(one.attempt),
                requests=now.connections - before.connections,
                cost=now.cost - before.cost,
            )
            if now.seconds - before.seconds > most_s:
                most_s, self._attempt = now.seconds - before.seconds, one.attempt
                spent.insert(0, new)
            else:
                spent.append(new)
        if new_ms:
            first = spent.pop(0) if spent else Spent()
            spent.insert(0, replace(first, audio_ms=new_ms))
        return spent

    def interims(self, audio_s: float) -> list[Spent]:
        """What is to be counted for interims of a recogniser that takes whole recordings: each is
        sent the open utterance once more. `audio_s`: of all of them so far."""
        new_s, self._interims_s = audio_s - self._interims_s, audio_s
        if self._attempt is None or new_s <= 0:
            return []
        price = self._prices.of_attempt(self._attempt)
        cost = 0 if price is None else speech_cost(price, new_s, 0, 0)
        self.cost += cost
        return [Spent(names_of(self._attempt), cost=cost)] if cost else []

    def _cost(self, one: Used) -> int:
        price = self._prices.of_attempt(one.attempt)
        return 0 if price is None else speech_cost(price, one.seconds, 0, one.connections)


class SttConversation:
    """One session's I/O: performs what it decides."""

    def __init__(
        self,
        route: SttRoute,
        session: SttSession,
        session_id: str,
        link: ClientLink,
        request: RequestContext,
        hearing: Hearing | None = None,
    ) -> None:
        self.session = session
        self._call = request.call
        self._hearing = hearing
        self._route = route
        self._id = session_id
        self._request_id = request.id
        self._purse = request.purse
        self._bill = Bill(route.prices)
        self._link = link
        self._client = link.client
        self._inbox = link.inbox
        self._lines = Lines(link.inbox, link.spawn)
        self._send = self._lines.send
        self._interims = Interims()
        self._dropped: dict[int, float] = {}  # connections, and when their end came
        link.spawn(self._watch())

    async def _watch(self) -> None:
        """Look now and then whether a send is stuck: it costs nothing on the way of a frame."""
        while True:
            await asyncio.sleep(UPSTREAM_BLOCKED_S / 2)
            now = time.monotonic()
            if self._hearing is not None:
                self._hearing.listens(self.session.heard_s, now)
            self._lines.watch(now)

    def perform(self, action: Action) -> Performed:
        if isinstance(action, Send):  # the commonest by far
            return self._send(*action)
        if isinstance(action, SendToClient):
            if self._hearing is not None:
                self._hearing.sent(action.text, self.session.heard_s, time.monotonic())
            return self._client.say_now(action.text)
        match action:
            case Open(number, dial, timeout_s):
                self._lines.open(number, partial(self._opened, dial, timeout_s))
            case Drop(number):
                self._drop(number)
            case Heard(words, since, until):
                if self._route.agreements is not None:
                    self._route.agreements.said(self._call, since, until, words)
            case Pause():
                self._link.gate.shut()
            case Resume():
                self._link.gate.open()
            case Linger(seconds):
                return self._linger(seconds)
            case Admit(asked, plan, is_new):
                return self._admit(asked, plan, is_new)
            case Meter():
                return self._meter()
            case Close(code, reason):
                return self._end(code, reason)
        return None

    async def _linger(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        # a flag is all there is: it happens once a session
        while not self._client.gone and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(LINGER_STEP_S)
        return True

    async def _admit(self, asked: str | None, plan: Plan, is_new: bool) -> bool:
        ahead = self._bill.ahead(plan[0])
        admitted = await self._purse.enter(asked, plan, count=is_new, ahead=ahead)
        self._inbox.answer(Admitted(admitted))
        return True

    async def _meter(self) -> bool:
        self._inbox.answer(Metered(await self._settle(self._bill.ahead())))
        return True

    async def _end(self, code: int, reason: str) -> bool:
        await self._client.close(code, reason)
        return False

    async def _opened(
        self, dial: Dial | LocalTarget, timeout_s: float
    ) -> UpstreamSocket | UtteranceStream | Failure:
        if isinstance(dial, LocalTarget):
            return self._route.open_local(dial, self._interims)
        return await self._route.connector.websocket(
            named(dial, self._request_id), timeout_s, UPSTREAM_MESSAGE_BYTES_MAX
        )

    def _drop(self, number: int) -> None:
        """Let go of a connection without waiting for it."""
        if number <= TRIES_MAX:
            self._dropped[number] = time.monotonic()
        self._lines.drop(number)

    async def _settle(self, ahead: Spent | None = None) -> Failure | None:
        """Count what was used. Until the first pause of this nobody else runs: the outcome and what
        the purse charges are always of the same moment."""
        spent = self._bill.since_last(self.session.heard_s, self.session.used())
        spent += self._bill.interims(self._interims.audio_s)
        return await self._purse.settle(spent, ahead)

    async def settle(self) -> None:
        failure = await self._settle(self._bill.ahead())
        if failure is not None:
            self._inbox.post(Metered(failure))

    def _label(self, provider: str, model: str) -> str:
        return model if (provider, model) in self._route.known else OTHER

    def _name_label(self, model: str | None) -> str:
        """The name that the client asked for, as a label: one of the catalogue's, or AUTO."""
        if model is None or model in NO_MODEL:
            return AUTO
        name, _ = split_language(model)
        return AUTO if name in NO_MODEL else self._route.catalogue.model_label(name)

    async def close(self) -> Outcome:
        await self._settle()
        return self.outcome()

    def outcome(self) -> Outcome:
        report = self.session.report
        stand_in = None
        served = [one for one in report.tries if not one.standby]
        if report.model is not None and served:
            asked, _ = split_language(report.model)
            stand_in = self._route.catalogue.stand_in_name(asked, served[-1].provider)
        return Outcome(
            failure=report.failure,
            left=report.left,
            session_id=self._id,
            model=stand_in or report.model,
            asked=report.model if stand_in else None,
            label=self._name_label(stand_in or report.model),
            provider=",".join(dict.fromkeys(one.provider for one in served)) or None,
            deployment=",".join(dict.fromkeys(one.model for one in served)) or None,
            tries=tuple(
                Try(
                    one.provider,
                    one.model,
                    one.began,
                    one.ended or self._dropped.get(number),
                    one.failure,
                    hedge=one.hedge,
                    lost=one.lost,
                    standby=one.standby,
                    first_s=None if one.ready is None else one.ready - one.began,
                    audio_s=one.audio_s,
                    replayed_s=one.replayed_s,
                    upstream_id=one.upstream_id,
                )
                for number, one in enumerate(report.tries, start=1)
            ),
            runs=tuple(self._interims.runs),
            speech=SpeechUsage(self._bill.heard_ms / 1000),
            cost=self._bill.cost,
            counts=SttCounts(
                report.finals,
                report.failovers,
                self._interims.count or None,
                round(self._interims.audio_s, 2) or None,
            ),
            standbys=tuple(
                StandbyTime(provider, self._label(provider, model), seconds)
                for (provider, model), seconds in report.standby_s.items()
            ),
            latencies=tuple(
                SttLatency(
                    one.kind,
                    one.provider,
                    self._label(one.provider, one.model),
                    one.seconds,
                )
                for one in report.latencies
            ),
            bounds=(Bound.AUDIO_AHEAD,) if report.ahead else (),
        )
