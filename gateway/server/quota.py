"""What a key may use: requests, tokens, audio, characters and money, for itself, for its tenant and
per model; in a minute, a day, a month, and for good.

Everything that is asked of a provider in a caller's name goes through that caller's `Purse`. Counts
are kept in memory, by the supervisor for its workers, or in Redis where several servers have the
same keys: exact over all who share them. While Redis does not answer, each server counts for
itself, and while its supervisor does not, each worker; it begins with what it saw last, and tells
what it counted when the others are back. Counts of days, months and balances lie in the usage store
too, written with the records of what was used: the counters are filled from there when they begin,
also where Redis has lost them. What is not written at that moment (`usage.flush_s`; of a session
that runs, a minute) may be used once more.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.server.counters import (
    Add,
    Answer,
    Claim,
    Counters,
    CountersError,
    RedisCounters,
    SharedCounters,
)
from gateway.settings.quota import Allowance, KeyAllowance, QuotaConfig
from gateway.telemetry.outcome import NANO
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Plan, names_of

_logger = logging.getLogger(__name__)

STORE_TIMEOUT_S: Final = 0.25
"""How long Redis may take: a caller waits for it before the first byte."""

STORE_REST_S: Final = 5.0
"""After a failure of Redis each process counts for itself so long."""

MACHINE_REST_S: Final = 1.0
"""After a failure of the supervisor each worker counts for itself so long."""

FILL_S: Final = 2.0
"""How long the usage store may take to tell what was used before: the first caller waits for it."""

FILL_AT_START_S: Final = 10.0
"""The same at the start, when nobody waits yet."""

FILL_REST_S: Final = 5.0
"""It is asked again so long after a failure; meanwhile what was used before the start counts as
nothing, for calls must go on."""

KNOWN_MAX: Final = 10_000
"""Keys, models and routes whose limits are remembered: callers may invent names of models."""

MINUTE_S: Final = 60
DAY_KEPT_S: Final = 3 * 86400
MONTH_KEPT_S: Final = 70 * 86400
"""How long a count of a day and a month is kept; a clock that jumps ahead and back finds it."""

REQUESTS, TOKENS, AUDIO, CHARACTERS, COST = "requests", "tokens", "audio", "characters", "cost"
MINUTE, DAY, MONTH, BALANCE = "minute", "day", "month", "balance"
CONCERNS: Final[Mapping[str, frozenset[str]]] = {
    "chat": frozenset({REQUESTS, TOKENS, COST}),
    "embeddings": frozenset({REQUESTS, TOKENS, COST}),
    "stt": frozenset({REQUESTS, AUDIO, COST}),
    "tts": frozenset({REQUESTS, CHARACTERS, COST}),
    "realtime": frozenset({REQUESTS, TOKENS, AUDIO, COST}),
    "duplex": frozenset({REQUESTS, TOKENS, AUDIO, COST}),
    "avatar": frozenset({REQUESTS, COST}),
}
"""What a request of each route uses: whoever has no characters left may still chat."""

KEPT_WINDOWS: Final = (DAY, MONTH, BALANCE)
"""Windows whose counts survive a restart."""

_ALL: Final = "*"
_UNIT: Final = {AUDIO: 1000, COST: NANO}
"""Audio is counted in milliseconds, money in billionths."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: what is counted, in which window, for whom, and how much there is of it in the
    units that are counted. Hashed with every request: by its id alone."""

    dimension: str
    window: str
    whose: str
    id: str
    most: int

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one try has used, and under which names it came into the plan; `cost` in billionths.
    `requests` counts for names under which the request did not enter."""

    names: Collection[str] = ()
    requests: int = 0
    tokens: int = 0
    audio_ms: int = 0
    characters: int = 0
    cost: int = 0

    def of(self, dimension: str) -> int:
        if dimension == TOKENS:
            return self.tokens
        if dimension == REQUESTS:
            return self.requests
        if dimension == COST:
            return self.cost
        return self.audio_ms if dimension == AUDIO else self.characters


NOTHING: Final = Spent()


@dataclass(slots=True)
class _Shared:
    counters: SharedCounters
    rest_s: float
    told: str
    rests_until: float = 0.0
    is_redis: bool = False


@dataclass(slots=True)
class _Calendar:
    """Names of the day and the month, and when they end."""

    zone: ZoneInfo
    wall_clock: Callable[[], float]
    now: datetime = field(default=datetime.min)

    def read(self) -> None:
        self.now = datetime.fromtimestamp(self.wall_clock(), self.zone)

    def name(self, window: str) -> str:
        return f"{self.now:%Y-%m-%d}" if window == DAY else f"{self.now:%Y-%m}"

    def left_s(self, window: str) -> float:
        day = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        end = day + timedelta(days=1)
        if window == MONTH:
            end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return (end.astimezone(UTC) - self.now.astimezone(UTC)).total_seconds()


class Counting:
    """The counters of one process, whatever limits it is given. See `Quota`."""

    def __init__(
        self,
        config: QuotaConfig,
        clock: Callable[[], float],
        on_store_failure: Callable[[], None],
        machine: SharedCounters | None,
        balances: Callable[[], Awaitable[Mapping[str, int]]] | None,
    ) -> None:
        self._clock = clock
        self._on_store_failure = on_store_failure
        self._balances = balances
        self._memory = Counters(clock)
        self._owed: dict[str, Add] = {}
        self._filling = asyncio.Lock()
        self._fills = 0
        self._fill_rests_until = 0.0
        self.store_failures = 0
        self._shared: list[_Shared] = []
        if config.redis_url is not None:
            redis = RedisCounters(
                config.redis_url.get_secret_value(), config.prefix, STORE_TIMEOUT_S
            )
            told = "the quota store does not answer; this process counts for itself"
            self._shared.append(_Shared(redis, STORE_REST_S, told, is_redis=True))
        if machine is not None:
            told = "quotas are counted by this worker alone"
            self._shared.append(_Shared(machine, MACHINE_REST_S, told))

    async def close(self) -> None:
        """Let go of Redis."""
        for shared in self._shared:
            if shared.is_redis:
                await shared.counters.close()
        self._shared = []

    async def transact(
        self, adds: Sequence[Add], claims: Sequence[Claim], *, keeps: bool
    ) -> Answer:
        """One step at the counters that are shared, or here if those are away. `keeps`: some of
        what is counted outlives this process, so it has to be known what was counted before."""
        if not keeps or self._clock() < self._fill_rests_until:
            return await self._ask(adds, claims, force=True)
        answer = await self._ask(adds, claims, force=False)
        if not answer.filled:
            await self.fill(FILL_S)
            answer = await self._ask(adds, claims, force=True)
        return answer

    async def _ask(self, adds: Sequence[Add], claims: Sequence[Claim], *, force: bool) -> Answer:
        now = self._clock()
        for shared in self._shared:
            if now < shared.rests_until:
                continue
            owed: dict[str, Add] = {}
            try:
                if shared.rests_until:
                    # one that is slow does what it is told, and would be told it again each time:
                    # after a failure it first has to answer a question
                    async with asyncio.timeout(STORE_TIMEOUT_S):
                        await shared.counters.transact((), (), force=True)
                    shared.rests_until = 0.0
                owed, self._owed = self._owed, {}
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    answer = await shared.counters.transact(
                        (*owed.values(), *adds), claims, force=force
                    )
            except (CountersError, TimeoutError) as error:
                self._owe(owed.values())
                self._rest(shared, error)
                continue
            if not answer.filled and not force:
                self._owe(owed.values())  # nothing was done
            else:
                seen = {
                    claim.name: (used, claim.window_s)
                    for claim, used in zip(claims, answer.used, strict=True)
                    if claim.window_s != MINUTE_S
                }
                self._memory.remember(seen)
            return answer
        if not self._shared:
            return self._memory.transact(adds, claims, force=force)
        answer = self._memory.transact(adds, claims, force=True)
        self._owe(adds)
        if answer.taken:
            self._owe(Add(one.name, one.take, one.window_s) for one in claims if one.take)
        return answer._replace(filled=True)

    def _owe(self, adds: Iterable[Add]) -> None:
        """What the others have to be told once they are back; of a minute nobody wants to know."""
        for name, amount, window_s in adds:
            if window_s != MINUTE_S:
                before = self._owed.get(name)
                total = amount + (before.amount if before is not None else 0)
                self._owed[name] = Add(name, total, window_s)

    def _rest(self, shared: _Shared, error: Exception) -> None:
        # calls go on: a store that is down must not take them with it
        if shared.is_redis:
            self.store_failures += 1
            self._on_store_failure()
        shared.rests_until = self._clock() + shared.rest_s
        _logger.error(
            shared.told,
            extra={"error": str(error) or type(error).__name__, "for_s": shared.rest_s},
        )

    async def fill(self, seconds: float) -> None:
        """Have the counters know what was used before they began, if that is told in time."""
        fills = self._fills
        async with self._filling:
            if fills != self._fills:
                return  # another caller has done it meanwhile
            self._fills += 1
            self._fill_rests_until = self._clock() + FILL_REST_S
            counts: dict[str, tuple[int, int]] = {}
            if self._balances is not None:
                try:
                    async with asyncio.timeout(seconds):
                        known = await self._balances()
                except Exception as error:  # whatever a store raises: calls go on
                    _logger.error(  # noqa: TRY400 - the text says it all
                        "the usage store does not tell what was used before; budgets and balances "
                        "count from now on until it does",
                        extra={"error": str(error) or type(error).__name__},
                    )
                    return
                counts = {name: (used, _kept_s(name)) for name, used in known.items()}
            self._memory.fill(counts)
            for shared in self._shared:
                if self._clock() >= shared.rests_until:
                    try:
                        async with asyncio.timeout(seconds):
                            await shared.counters.fill(counts)
                    except (CountersError, TimeoutError) as error:
                        self._rest(shared, error)
                        continue
                    break
            self._fill_rests_until = 0.0


class Quota:
    """The limits of all keys in one configuration, and the counters, which outlive it."""

    def __init__(
        self,
        config: QuotaConfig,
        clock: Callable[[], float] = time.monotonic,
        on_store_failure: Callable[[], None] = lambda: None,
        machine: SharedCounters | None = None,
        *,
        balances: Callable[[], Awaitable[Mapping[str, int]]] | None = None,
        on_reached: Callable[[str, str, str], None] = lambda dimension, window, state: None,
        wall_clock: Callable[[], float] = time.time,
        time_zone: str = "UTC",
        currency: str = "USD",
    ) -> None:
        """`on_store_failure` is called whenever Redis does not answer. `machine`: where the
        workers of one server count together. `balances`: what the usage store has of the counts
        that outlive a process. `on_reached`: a budget has come to `warn_at` ("soft") or to its end
        ("hard")."""
        self._counting = Counting(config, clock, on_store_failure, machine, balances)
        self._on_reached = on_reached
        self._currency = currency
        self._reached: dict[tuple[str, int], str] = {}
        self._calendar = _Calendar(ZoneInfo(time_zone), wall_clock)
        self._limit_by(config)

    def renew(self, config: QuotaConfig) -> Quota:
        """One with other limits, that goes on with what is counted. Where it is counted stays."""
        new = copy.copy(self)
        new._limit_by(config)
        return new

    def _limit_by(self, config: QuotaConfig) -> None:
        self.config = config
        self._known: dict[tuple[str, str | None, str], tuple[Limit, ...]] = {}
        self._tenants = {
            key: name for name, tenant in config.tenants.items() for key in tenant.keys
        }
        self._nothing = not (config.keys or config.models or config.tenants)
        self._keeps = any(limit.window in KEPT_WINDOWS for limit in self._every_limit())

    @property
    def store_failures(self) -> int:
        """How often Redis did not answer."""
        return self._counting.store_failures

    def purse(self, key: str, route: str) -> Purse:
        """For one request or session of `key`."""
        return Purse(self, key, route)

    def tenant_of(self, key: str) -> str:
        """The tenant of a key, "" if it has none."""
        return self._tenants.get(key, "")

    def limits(self, key: str, route: str) -> bool:
        """Whether anything is limited for this key there."""
        if self._nothing:
            return False
        own = self._allowance(key)
        return bool(
            self.config.models
            or self.limits_of(key, None, route)
            or (own is not None and (own.models or own.allowed_models is not None))
        )

    def may_ask(self, key: str, name: str) -> bool:
        """Whether a key may use the model of this name."""
        own = self._allowance(key)
        if own is None or own.allowed_models is None:
            return True
        return any(
            name == one or (one.endswith(_ALL) and name.startswith(one[:-1]))
            for one in own.allowed_models
        )

    def chooses(self, key: str) -> bool:
        """Whether only some models may be used by a key."""
        own = self._allowance(key)
        return own is not None and own.allowed_models is not None

    def limits_of(self, key: str, model: str | None, route: str) -> tuple[Limit, ...]:
        """The limits that hold when a key asks for a model; None: whatever it asks for."""
        known = self._known.get((key, model, route))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            concerns = CONCERNS.get(route, frozenset())
            known = tuple(one for one in self._find(key, model) if one.dimension in concerns)
            self._known[key, model, route] = known
        return known

    async def start(self) -> None:
        """Fill the counters, so that the first caller need not wait."""
        if self._keeps:
            await self._counting.fill(FILL_AT_START_S)

    async def close(self) -> None:
        """Let go of Redis."""
        await self._counting.close()

    # -- what is configured

    def _allowance(self, key: str) -> KeyAllowance | None:
        return self.config.keys.get(key) or self.config.keys.get(_ALL)

    def _every_limit(self) -> Iterable[Limit]:
        config = self.config
        for allowance in (*config.keys.values(), *config.tenants.values(), *config.models.values()):
            yield from _limits(allowance, "", "")
        for own in config.keys.values():
            for allowance in own.models.values():
                yield from _limits(allowance, "", "")

    def _find(self, key: str, model: str | None) -> list[Limit]:
        own = self._allowance(key)
        found: list[Limit] = []
        if own is not None:
            found += _limits(own, "this API key", f"key/{key}")
        if (tenant := self._tenants.get(key)) is not None:
            whose = "this API key's tenant"
            found += _limits(self.config.tenants[tenant], whose, f"tenant/{tenant}")
        if model is not None:
            if own is not None:
                name, allowance = _entry(own.models, model)
                if allowance is not None:
                    whose = f"this API key for {name}"
                    found += _limits(allowance, whose, f"key/{key}/model/{name}")
            name, allowance = _entry(self.config.models, model)
            if allowance is not None:
                found += _limits(allowance, f"all callers for {name}", f"model/{name}")
        # where waiting helps least comes first: that is told
        return sorted(found, key=lambda limit: _ORDER[limit.window])

    # -- counting

    def named(self, limit: Limit) -> tuple[str, int]:
        """The name under which a limit is counted now, and its window in seconds."""
        match limit.window:
            case "minute":
                return limit.id, MINUTE_S
            case "balance":
                return limit.id, 0
            case window:
                kept_s = DAY_KEPT_S if window == DAY else MONTH_KEPT_S
                return f"{limit.id}/{self._calendar.name(window)}", kept_s

    def claim(self, limit: Limit, take: int, *, binding: bool = True) -> Claim:
        """`take` of a limit."""
        name, window_s = self.named(limit)
        sliding = limit.window == MINUTE and limit.dimension == REQUESTS
        return Claim(name, limit.most, take, window_s, sliding, binding)

    def read_clock(self) -> None:
        """Before names are made for a call."""
        self._calendar.read()

    async def transact(self, adds: Sequence[Add], claims: Sequence[Claim]) -> Answer:
        """One step at the counters."""
        return await self._counting.transact(adds, claims, keeps=self._keeps)

    # -- what is told

    def notice(self, limit: Limit, name: str, used: int) -> str | None:
        """A warning for the caller if a budget is nearly used up; the log and the metric hear of
        it once."""
        if limit.window not in KEPT_WINDOWS or used < self.config.warn_at * limit.most:
            return None
        state = "hard" if used >= limit.most else "soft"
        budget = name, limit.most
        if self._reached.get(budget) not in (state, "hard"):
            if len(self._reached) >= KNOWN_MAX:
                self._reached.clear()
            self._reached[budget] = state
            self._on_reached(limit.dimension, limit.window, state)
            _logger.warning(
                "a budget is used up" if state == "hard" else "a budget is nearly used up",
                extra={
                    "budget": name,
                    "used": self._amount(limit, used),
                    "of": self._amount(limit, limit.most),
                    "window": limit.window,
                },
            )
        return f"{self._amount(limit, used)} of {self._words(limit)} of {limit.whose}"

    def exceeded(self, limit: Limit, left_s: float, headers: Mapping[str, str]) -> Failure:
        """The refusal of a caller that has nothing left: words that an agent can say aloud."""
        wait_s: float | None = max(1.0, left_s)
        if limit.window in (DAY, MONTH):
            wait_s = max(1.0, self._calendar.left_s(limit.window))
            hint = "It begins anew with the next day or month; ask the operator for a larger one."
        elif limit.window == BALANCE:
            wait_s = None
            hint = "Waiting does not help: ask the operator of this server for more credits."
        else:
            hint = (
                f"Try again in {round(max(1.0, left_s))} s, or ask the operator for a higher limit."
            )
        return Failure(
            Kind.QUOTA,
            f"the quota of {limit.whose} is used up: {self._words(limit)}",
            retry_after_s=wait_s,
            details={
                "quota_type": _quota_type(limit),
                "category": _CATEGORIES[limit.window],
                "hint": hint,
            },
            headers=headers,
        )

    def headers_of(self, limit: Limit, used: int) -> dict[str, str]:
        """LiveKit's headers, which its clients log."""
        name = _HEADERS.get((limit.dimension, limit.window))
        if name is None:
            return {}
        if limit.dimension == REQUESTS:
            used = min(used, limit.most)
        prefix = f"x-livekit-inference-{name}"
        return {
            f"{prefix}-limit": _plain(limit.dimension, limit.most),
            f"{prefix}-used": _plain(limit.dimension, used),
        }

    def _amount(self, limit: Limit, amount: int) -> str:
        text = _plain(limit.dimension, amount)
        return f"{text} {self._currency}" if limit.dimension == COST else text

    def _words(self, limit: Limit) -> str:
        amount = self._amount(limit, limit.most)
        what = "" if limit.dimension == COST else f" {_NOUNS[limit.dimension]}"
        return f"{amount}{what}{_PERIODS[limit.window]}"


class Purse:
    """What one request or session takes from what its key has.

    `headers` tell the caller how it stands. `charges` are the counts of days, months and balances,
    to be written with the record of what was used; whoever writes it takes them away.
    """

    __slots__ = ("_counted", "_key", "_quota", "_reserved", "_route", "charges", "headers")

    def __init__(self, quota: Quota, key: str, route: str) -> None:
        self._quota = quota
        self._key = key
        self._route = route
        self._counted: tuple[Limit, ...] = ()
        self._reserved: list[Add] = []
        self.headers: dict[str, str] = {}
        self.charges: dict[str, int] = {}

    @property
    def tenant(self) -> str:
        """The tenant of its key, "" if it has none."""
        return self._quota.tenant_of(self._key)

    @property
    def limited(self) -> bool:
        """Whether anything is limited for this caller."""
        return self._quota.limits(self._key, self._route)

    @property
    def chooses(self) -> bool:
        """Whether some models are not for its key."""
        return self._quota.chooses(self._key)

    def may_ask(self, name: str) -> bool:
        """Whether its key may ask for this name."""
        return self._quota.may_ask(self._key, name)

    def permitted(self, plan: Plan) -> Plan:
        """Those attempts of a plan that its key may ask at all."""
        quota, key = self._quota, self._key
        if not quota.chooses(key):
            return plan
        return tuple(one for one in plan if any(quota.may_ask(key, name) for name in names_of(one)))

    async def look(self, model: str | None = None) -> Failure | None:
        """Why this caller would be refused whatever it asked for (or for `model`), if it would.
        Nothing is counted."""
        quota = self._quota
        if model is not None and not quota.may_ask(self._key, model):
            return forbidden(model)
        limits = self._limits(model)
        if not limits:
            return None
        quota.read_clock()
        claims = [quota.claim(limit, 0) for limit in limits]
        return self._told(limits, claims, await quota.transact((), claims))

    async def enter(
        self, asked: str | None, plan: Plan, *, count: bool = True, ahead: Spent = NOTHING
    ) -> Plan | Failure:
        """What of `plan` may be asked for a request under the name `asked` (None: the operator
        chose), or why nothing. The request is counted if `count`, and `ahead` is reserved.

        Every name in the plan is looked at: fallbacks and aliases do not lead round the limits of
        what they stand for. Nothing is counted for those before they serve.
        """
        quota, key = self._quota, self._key
        if not self.limited:
            return plan
        if quota.chooses(key):
            if asked is not None and not quota.may_ask(key, asked):
                return forbidden(asked)
            plan = self.permitted(plan)
            if not plan:
                return forbidden(asked)
        limits = self._limits(asked)
        names = frozenset().union(*map(names_of, plan)) - {asked}
        others = {name: self._limits(name) for name in names}
        further = tuple({one for own in others.values() for one in own}.difference(limits))
        if not limits and not further:
            return plan
        quota.read_clock()
        claims = [
            quota.claim(one, int(count) if one.dimension == REQUESTS else ahead.of(one.dimension))
            for one in limits
        ]
        looks = [quota.claim(one, 0, binding=False) for one in further]
        answer = await quota.transact((), [*claims, *looks])
        failure = self._told(limits, claims, answer)
        if failure is not None:
            return failure
        for limit, claim in zip(limits, claims, strict=True):
            if limit.dimension != REQUESTS:
                self._reserve(claim)
            elif count:
                self._charge(limit, claim.name, claim.take)
        if count:
            self._counted = limits
        empty: dict[Limit, Failure] = {}
        for i, limit in enumerate(further, len(limits)):
            if answer.used[i] >= limit.most:
                told = quota.headers_of(limit, answer.used[i])
                empty[limit] = quota.exceeded(limit, answer.left_s[i], told)
        if empty:
            refused = {name for name, own in others.items() if not empty.keys().isdisjoint(own)}
            plan = tuple(one for one in plan if refused.isdisjoint(names_of(one)))
            if not plan:
                return next(iter(empty.values()))
        return plan

    async def settle(self, used: Collection[Spent], ahead: Spent | None = None) -> Failure | None:
        """Count what was used, in place of what was reserved. With `ahead`: reserve that, or say
        what is used up."""
        quota = self._quota
        if not self.limited:
            return None
        reserved, self._reserved = self._reserved, []
        amounts: dict[Limit, int] = dict.fromkeys(self._limits(None), 0)
        for one in used:
            limits = {limit for name in one.names for limit in self._limits(name)}
            for limit in limits.union(self._limits(None)):
                amount = one.of(limit.dimension)
                if limit.dimension == REQUESTS and limit in self._counted:
                    amount = 0
                amounts[limit] = amounts.get(limit, 0) + amount
        if not amounts:
            return None
        quota.read_clock()
        adds = {one.name: one._replace(amount=-one.amount) for one in reserved}
        claims: list[Claim] = []
        for limit, amount in amounts.items():
            take = 0 if ahead is None else ahead.of(limit.dimension)
            claim = quota.claim(limit, take, binding=ahead is not None)
            if claim.sliding:  # requests: nothing is reserved, and they are taken, not added
                claim = claim._replace(take=amount, binding=False)
            elif amount:
                before = adds.get(claim.name)
                total = amount + (before.amount if before is not None else 0)
                adds[claim.name] = Add(claim.name, total, claim.window_s)
                self._charge(limit, claim.name, amount)
            claims.append(claim)
        answer = await quota.transact([one for one in adds.values() if one.amount], claims)
        failure = self._told(tuple(amounts), claims, answer)
        if ahead is not None and failure is None:
            for limit, claim in zip(amounts, claims, strict=True):
                if limit.dimension != REQUESTS:
                    self._reserve(claim)
        return failure

    def _limits(self, model: str | None) -> tuple[Limit, ...]:
        return self._quota.limits_of(self._key, model, self._route)

    def take_charges(self) -> dict[str, int]:
        """What is to be written; it is not given twice."""
        charges, self.charges = self.charges, {}
        return charges

    def _reserve(self, claim: Claim) -> None:
        if claim.take:
            self._reserved.append(Add(claim.name, claim.take, claim.window_s))

    def _charge(self, limit: Limit, name: str, amount: int) -> None:
        if limit.window in KEPT_WINDOWS and amount:
            self.charges[name] = self.charges.get(name, 0) + amount

    def _told(
        self, limits: Sequence[Limit], claims: Sequence[Claim], answer: Answer
    ) -> Failure | None:
        """The caller's headers, warnings, and the failure if a binding claim found nothing."""
        quota = self._quota
        headers: dict[str, str] = {}
        tightest: dict[str, float] = {}
        first: tuple[Limit, float] | None = None
        warnings: list[str] = []
        for limit, claim, used, left_s in zip(
            limits, claims, answer.used[: len(claims)], answer.left_s[: len(claims)], strict=True
        ):
            share = used / limit.most if limit.most else 1.0
            if share >= tightest.get(limit.dimension, -1.0):
                tightest[limit.dimension] = share
                headers |= quota.headers_of(limit, used)
            if (warning := quota.notice(limit, claim.name, used)) is not None:
                warnings.append(warning)
            if first is None and not answer.taken and claim.binding and used >= limit.most:
                first = limit, left_s
                # the others are not what it is about
                headers = quota.headers_of(limit, used)
                break
        if warnings:
            headers["x-parley-budget-warning"] = "; ".join(warnings)
        self.headers = headers
        return None if first is None else quota.exceeded(*first, headers)


def forbidden(model: str | None) -> Failure:
    which = "any model that this request may go to" if model is None else repr(model[:128])
    return Failure(Kind.FORBIDDEN, f"this API key may not use {which}", param="model")


_ORDER: Final = {BALANCE: 0, MONTH: 1, DAY: 2, MINUTE: 3}
_CATEGORIES: Final = {BALANCE: "balance", MONTH: "budget", DAY: "budget", MINUTE: "rate"}
_PERIODS: Final = {BALANCE: "", MONTH: " a month", DAY: " a day", MINUTE: " a minute"}
_NOUNS: Final = {
    REQUESTS: "requests",
    TOKENS: "tokens",
    AUDIO: "seconds of audio",
    CHARACTERS: "characters",
}
_HEADERS: Final = {(REQUESTS, MINUTE): "rpm", (TOKENS, MINUTE): "tpm", (COST, BALANCE): "credits"}


def _quota_type(limit: Limit) -> str:
    known = _HEADERS.get((limit.dimension, limit.window))
    return known or f"{limit.dimension}_per_{limit.window}"


def _plain(dimension: str, amount: int) -> str:
    """An amount in the units of the configuration."""
    return f"{amount / _UNIT[dimension]:.10g}" if dimension in _UNIT else str(amount)


def _kept_s(name: str) -> int:
    """The window of a count that was kept, by its name."""
    last = name.rpartition("/")[2]
    if _DAY.fullmatch(last):
        return DAY_KEPT_S
    return MONTH_KEPT_S if _MONTH.fullmatch(last) else 0


_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_MONTH: Final = re.compile(r"\d{4}-\d\d")


def _limits(allowance: Allowance, whose: str, name: str) -> list[Limit]:
    found = [
        (REQUESTS, MINUTE, allowance.requests_per_minute),
        (TOKENS, MINUTE, allowance.tokens_per_minute),
        (AUDIO, MINUTE, allowance.audio_seconds_per_minute),
        (CHARACTERS, MINUTE, allowance.characters_per_minute),
        (COST, BALANCE, allowance.credits),
    ]
    for window, budget in ((DAY, allowance.day), (MONTH, allowance.month)):
        found += [
            (REQUESTS, window, budget.requests),
            (TOKENS, window, budget.tokens),
            (AUDIO, window, budget.audio_seconds),
            (CHARACTERS, window, budget.characters),
            (COST, window, budget.cost),
        ]
    return [
        Limit(dimension, window, whose, f"{name}/{dimension}/{window}", most)
        for dimension, window, amount in found
        if amount is not None
        for most in (round(amount * _UNIT.get(dimension, 1)),)
    ]


def _entry(table: Mapping[str, Allowance], model: str) -> tuple[str, Allowance | None]:
    """The entry for a model: its own, or that of the longest beginning with a star."""
    if model in table:
        return model, table[model]
    wild = [name for name in table if name.endswith(_ALL) and model.startswith(name[:-1])]
    if not wild:
        return model, None
    name = max(wild, key=len)
    return name, table[name]
