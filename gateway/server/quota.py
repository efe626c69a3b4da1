"""What a key may use: requests and tokens a minute, a balance of credits, per key and per model.

Counted in memory, by the supervisor for its workers, or in Redis where several servers have the
same keys. The counting is done by the `limits` library; while Redis does not answer, each server
counts for itself, and while its supervisor does not, each worker.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from gateway.server.machine import Machine, MachineError
from gateway.settings.quota import Allowance, QuotaConfig
from gateway.upstreams.errors import Failure, Kind

_logger = logging.getLogger(__name__)

STORE_TIMEOUT_S: Final = 0.25
"""How long Redis may take: a caller waits for it before the first byte."""

STORE_REST_S: Final = 5.0
"""After a failure of Redis each process counts for itself so long."""

MACHINE_REST_S: Final = 1.0
"""After a failure of the supervisor each worker counts for itself so long."""

MICRO: Final = 1_000_000
"""Credits are counted in millionths, as whole numbers."""

FOREVER_S: Final = 10 * 365 * 86400
"""How long a balance is kept."""

MINUTE_S: Final = 60

KNOWN_MAX: Final = 10_000
"""Pairs of key and model whose limits are remembered: callers may invent names of models."""

_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit: what is counted (RPM, TPM, Credits), for whom, and how much of it there is."""

    dimension: str
    whose: str
    ids: tuple[str, ...]
    amount: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands: what its request counts against, and headers that tell it.

    `others`: further limits of other names that the request may be served under (fallbacks,
    aliases). `refused`: those of these names that have nothing left, and what to say of it.
    """

    limits: tuple[_Limit, ...] = ()
    headers: Mapping[str, str] | None = None
    others: Mapping[str, tuple[_Limit, ...]] = field(default_factory=dict)
    refused: Mapping[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one try has used, and under which names; `cost` in credits."""

    names: Collection[str]
    tokens: int
    cost: float


NOTHING_LIMITED: Final = Standing()

Result = TypeVar("Result")


class Quota:
    """Lets requests in while there is something left, and counts what they used."""

    def __init__(
        self,
        config: QuotaConfig,
        clock: Callable[[], float] = time.monotonic,
        on_store_failure: Callable[[], None] = lambda: None,
        machine: Machine | None = None,
    ) -> None:
        """`on_store_failure` is called whenever Redis does not answer. `machine`: where the
        workers of one server count together."""
        self._on_store_failure = on_store_failure
        self._shared_by_workers = machine
        self._clock = clock
        self._memory: _Counters | None = None
        self._redis: _Counters | None = None
        self._machine: _Counters | None = None
        self._redis_rests_until = 0.0
        self._machine_rests_until = 0.0
        self.store_failures = 0
        self._limit_by(config)

    def renew(self, config: QuotaConfig) -> Quota:
        """One with other limits, that goes on with what is counted. Where it is counted stays."""
        new = copy.copy(self)
        new._limit_by(config)
        return new

    def _limit_by(self, config: QuotaConfig) -> None:
        self._config = config
        self._known: dict[tuple[str, str], tuple[_Limit, ...]] = {}
        self._nothing = not config.keys and not config.models
        if self._nothing or self._memory is not None:
            return
        # at the start: what they import would hold up every caller later
        self._memory = memory_counters(config.prefix)
        if self._shared_by_workers is not None:
            self._machine = _Counters(self._shared_by_workers, config.prefix)
        if config.redis_url is not None:
            self._redis = redis_counters(config.redis_url.get_secret_value(), config.prefix)
            _store_errors()

    @property
    def limits_nothing(self) -> bool:
        """Whether no key and no model has a limit."""
        return self._nothing

    async def enter(self, key: str, model: str, others: Collection[str] = ()) -> Standing | Failure:
        """Count one request of `key` for `model`, or say what is used up.

        `model` is a name that is served here: what is remembered for it is bounded by them.
        `others` are names under which the request may be served instead; nothing is counted for
        them before it is.
        """
        if self._nothing:
            return NOTHING_LIMITED
        limits = self._limits_of(key, model)
        theirs: dict[str, tuple[_Limit, ...]] = {}
        for name in others:
            own = tuple(one for one in self._limits_of(key, name) if one not in limits)
            if own:
                theirs[name] = own
        if not limits and not theirs:
            return NOTHING_LIMITED
        return await self._with_store(lambda counters: self._enter(counters, limits, theirs))

    async def spend(self, standing: Standing, tries: Collection[Spent]) -> None:
        """Count what the tries of a request have used."""
        counts: dict[_Limit, int] = {}
        for one in tries:
            limits = {limit for name in one.names for limit in standing.others.get(name, ())}
            for limit in limits.union(standing.limits):
                counts[limit] = counts.get(limit, 0) + _amount(limit, one)
        for limit in standing.limits:
            if limit.dimension == "RPM":
                counts.pop(limit, None)  # counted when it entered

        async def count(counters: _Counters) -> None:
            for limit, amount in counts.items():
                if limit.dimension == "RPM":
                    await counters.look(limit)
                elif amount:
                    await counters.add(limit, amount)

        if counts:
            await self._with_store(count)

    async def close(self) -> None:
        """Let go of the store's connections."""
        if self._redis is not None and self._redis.close is not None:
            await self._redis.close()
            self._redis = None

    def _limits_of(self, key: str, model: str) -> tuple[_Limit, ...]:
        known = self._known.get((key, model))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[key, model] = tuple(self._find(key, model))
        return known

    def _find(self, key: str, model: str) -> list[_Limit]:
        own = self._config.keys.get(key) or self._config.keys.get(_ALL)
        found: list[_Limit] = []
        if own is not None:
            found += _limits(own, "this API key", ("key", key))
            name, allowance = _entry(own.models, model)
            if allowance is not None:
                found += _limits(allowance, f"this API key for {name}", ("key", key, "model", name))
        name, allowance = _entry(self._config.models, model)
        if allowance is not None:
            found += _limits(allowance, f"all callers for {name}", ("model", name))
        return found

    async def _enter(
        self,
        counters: _Counters,
        limits: tuple[_Limit, ...],
        others: Mapping[str, tuple[_Limit, ...]],
    ) -> Standing | Failure:
        # what is only looked at comes before what is counted: a refused request costs nothing
        ordered = sorted(limits, key=lambda limit: limit.dimension == "RPM")
        headers: dict[str, str] = {}
        tightest: dict[str, float] = {}
        for limit in ordered:
            used, over, wait_s = await counters.look(limit)
            share = used / limit.amount if limit.amount else 1.0
            if share >= tightest.get(limit.dimension, -1.0):
                tightest[limit.dimension] = share
                headers |= _headers(limit, used)
            if over:
                return _exceeded(limit, headers, wait_s)
        refused = {}
        for name, theirs in others.items():
            for limit in theirs:
                used, over, wait_s = await counters.look(limit, count=False)
                if over:
                    refused[name] = _exceeded(limit, _headers(limit, used), wait_s)
                    break
        return Standing(limits, headers, others, refused)

    async def _with_store(self, use: Callable[[_Counters], Awaitable[Result]]) -> Result:
        if self._redis is not None and self._clock() >= self._redis_rests_until:
            try:
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    return await use(self._redis)
            except _store_errors() as error:
                # calls go on: a store that is down must not take them with it
                self.store_failures += 1
                self._on_store_failure()
                self._redis_rests_until = self._clock() + STORE_REST_S
                _logger.error(  # noqa: TRY400 - a traceback would show the address
                    "the quota store does not answer; this process counts for itself",
                    extra={"error": type(error).__name__, "for_s": STORE_REST_S},
                )
        if self._machine is not None and self._clock() >= self._machine_rests_until:
            try:
                return await use(self._machine)
            except MachineError as error:
                self._machine_rests_until = self._clock() + MACHINE_REST_S
                _logger.error(  # noqa: TRY400 - the text says it all
                    "quotas are counted by this worker alone",
                    extra={"error": str(error), "for_s": MACHINE_REST_S},
                )
        assert self._memory is not None
        return await use(self._memory)


def _amount(limit: _Limit, spent: Spent) -> int:
    """What a try counts for in a limit."""
    if limit.dimension == "RPM":
        return 1
    return spent.tokens if limit.dimension == "TPM" else round(spent.cost * MICRO)


_WORDS: Final = {
    "RPM": "{amount} requests per minute",
    "TPM": "{amount} tokens per minute",
    "Credits": "{amount} credits",
}


def _exceeded(limit: _Limit, headers: Mapping[str, str], wait_s: float | None) -> Failure:
    amount = f"{limit.amount / MICRO:g}" if limit.dimension == "Credits" else str(limit.amount)
    if wait_s is None:
        hint = "Waiting does not help: ask the operator of this server for more credits."
    else:
        wait_s = max(1.0, wait_s)
        hint = f"Try again in {round(wait_s)} s, or ask the operator for a higher limit."
    return Failure(
        Kind.QUOTA,
        f"the quota of {limit.whose} is used up: {_WORDS[limit.dimension].format(amount=amount)}",
        retry_after_s=wait_s,
        details={
            "quota_type": limit.dimension.lower(),
            "category": "balance" if wait_s is None else "rate",
            "hint": hint,
        },
        headers=headers,
    )


def _limits(allowance: Allowance, whose: str, ids: tuple[str, ...]) -> list[_Limit]:
    amounts = (
        ("RPM", allowance.requests_per_minute),
        ("TPM", allowance.tokens_per_minute),
        ("Credits", None if allowance.credits is None else round(allowance.credits * MICRO)),
    )
    return [
        _Limit(dimension, whose, (*ids, dimension), amount)
        for dimension, amount in amounts
        if amount is not None
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


def _headers(limit: _Limit, used: int) -> dict[str, str]:
    if limit.dimension == "Credits":
        amounts = f"{limit.amount / MICRO:g}", f"{used / MICRO:g}"
    else:
        amounts = str(limit.amount), str(used)
    name = f"x-livekit-inference-{limit.dimension.lower()}"
    return {f"{name}-limit": amounts[0], f"{name}-used": amounts[1]}


class _Counters:
    """The counters of one store, by the `limits` library: requests over a sliding minute, tokens
    in minutes that begin with their first token, credits for good."""

    def __init__(
        self,
        storage: Any,  # with SlidingWindowCounterSupport: memory and Redis have it
        prefix: str,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.close = close
        self._storage = storage
        self._prefix = prefix
        self._names: dict[tuple[str, ...], str] = {}

    async def look(self, limit: _Limit, *, count: bool = True) -> tuple[int, bool, float | None]:
        """How much is used, whether that is all, and in how many seconds some will be free again
        (None: never). A request is counted with it if `count`."""
        name = self._name(limit)
        if limit.dimension == "RPM":
            taken = count and await self._storage.acquire_sliding_window_entry(
                name, limit.amount, MINUTE_S
            )
            before, before_ttl, now, now_ttl = await self._storage.get_sliding_window(
                name, MINUTE_S
            )
            used = min(limit.amount, int(before * before_ttl / MINUTE_S + now))
            if taken:
                return max(1, used), False, None
            if not count and used < limit.amount:
                return used, False, None
            if before and before_ttl:  # it fades as the minute goes by, a request at a time
                return limit.amount, True, MINUTE_S / before
            # a bucket is kept for two minutes; in its second one it fades likewise
            return limit.amount, True, max(0.0, now_ttl - MINUTE_S) + MINUTE_S / max(1, now)
        used = await self._storage.get(name)
        if used < limit.amount:
            return used, False, None
        if limit.dimension == "Credits":
            return used, True, None
        wait_s = await self._storage.get_expiry(name) - time.time()
        if wait_s > MINUTE_S + 1:
            # the minute began by another clock, that was set since; nobody waits a day for it
            await self._storage.clear(name)
            return 0, False, None
        return used, True, wait_s

    async def add(self, limit: _Limit, amount: int) -> None:
        """Count tokens, or millionths of credits."""
        expiry = FOREVER_S if limit.dimension == "Credits" else MINUTE_S
        await self._storage.incr(self._name(limit), expiry, amount=amount)

    def _name(self, limit: _Limit) -> str:
        name = self._names.get(limit.ids)
        if name is None:
            if len(self._names) >= KNOWN_MAX:
                self._names.clear()
            name = self._names[limit.ids] = "/".join((self._prefix, *limit.ids))
        return name


def memory_counters(prefix: str) -> _Counters:
    """Counters in this process."""
    from limits.aio.storage import MemoryStorage

    return _Counters(MemoryStorage(), prefix)


def redis_counters(url: str, prefix: str) -> _Counters:
    """Counters in Redis, shared by all processes with the same `prefix`."""
    from limits.aio.storage import RedisStorage
    from redis.asyncio import ConnectionPool

    pool = ConnectionPool.from_url(
        url, socket_timeout=STORE_TIMEOUT_S, socket_connect_timeout=STORE_TIMEOUT_S
    )
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=prefix, **options)
    return _Counters(storage, prefix, pool.disconnect)


@cache
def _store_errors() -> tuple[type[Exception], ...]:
    import redis.exceptions

    return (redis.exceptions.RedisError, OSError, TimeoutError)
