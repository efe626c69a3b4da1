"""What was taken under a name, and whether there is some left: the arithmetic of all quotas.

One object in a process, one in the supervisor for its workers, or the same in a script that Redis
runs: each call is one step that nobody comes between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson

FOREVER_S: Final = 10 * 365 * 86400
"""How long a count is kept that has no window."""

SWEEP_EVERY: Final = 1000
"""After so many calls, counts whose time is over are let go: what there is of them is bounded by
the names in the configuration, times the days and months that are kept."""


class Add(NamedTuple):
    """Take `amount` (negative: give it back; a count never falls below 0) without asking. A count
    lives for `window_s` seconds after its first amount."""

    name: str
    amount: int
    window_s: int


class Claim(NamedTuple):
    """Take `take`, if less than `most` is taken so far.

    `sliding`: the count is of the last `window_s` seconds, estimated from two buckets, else it
    begins anew after them. `binding`: if nothing is left, no claim of the call takes anything.
    """

    name: str
    most: int
    take: int
    window_s: int
    sliding: bool = False
    binding: bool = True


class Answer(NamedTuple):
    """`taken`: every binding claim had something left, and the takes are counted. `used`: of each
    claim, after that. `left_s`: of each claim, until some of it will be free again. `filled`:
    whether the counts from before the start are here (see `fill`)."""

    taken: bool
    used: Sequence[int]
    left_s: Sequence[float]
    filled: bool


class CountersError(Exception):
    """The counters are elsewhere, and do not answer."""


class SharedCounters(Protocol):
    """Counters that other processes use as well. Every method raises CountersError."""

    async def transact(
        self, adds: Sequence[Add], claims: Sequence[Claim], *, force: bool
    ) -> Answer: ...

    async def fill(self, counts: Mapping[str, tuple[int, int]]) -> None: ...

    async def close(self) -> None: ...


class Counters:
    """In this process. Clocks of the wall have no part in it: a window survives one that jumps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fixed: dict[str, tuple[float, int]] = {}  # ends, used
        self._sliding: dict[str, tuple[float, int, int]] = {}  # bucket's begin, the last one, this
        self._calls = 0
        self.filled = False

    def transact(self, adds: Iterable[Add], claims: Sequence[Claim], *, force: bool) -> Answer:
        """Do `adds`, then all of `claims` or none; before `fill` only with `force`."""
        if not (self.filled or force):
            return Answer(False, [0] * len(claims), [0.0] * len(claims), False)
        now = self._clock()
        self._calls += 1
        if self._calls % SWEEP_EVERY == 0:
            self._sweep(now)
        for name, amount, window_s in adds:
            self._add(name, amount, window_s, now)
        looked = [self._look(claim, now) for claim in claims]
        taken = all(
            used < claim.most
            for claim, (used, _) in zip(claims, looked, strict=True)
            if claim.binding
        )
        if taken:
            for i, claim in enumerate(claims):
                if claim.take:
                    self._take(claim, now)
                    looked[i] = (looked[i][0] + claim.take, looked[i][1])
        return Answer(taken, [u for u, _ in looked], [left for _, left in looked], self.filled)

    def fill(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """What was used before these counters began (and the window's seconds), as far as it is
        kept somewhere. What was counted since is part of that, or more than that."""
        self.remember(counts)
        self.filled = True

    def remember(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """At least so much is used."""
        now = self._clock()
        for name, (used, window_s) in counts.items():
            ends, here = self._fixed.get(name, (0.0, 0))
            if now >= ends:
                ends, here = now + (window_s or FOREVER_S), 0
            self._fixed[name] = (ends, max(here, used))

    def _add(self, name: str, amount: int, window_s: int, now: float) -> None:
        ends, used = self._fixed.get(name, (0.0, 0))
        if now >= ends:
            ends, used = now + (window_s or FOREVER_S), 0
        self._fixed[name] = (ends, max(0, used + amount))

    def _look(self, claim: Claim, now: float) -> tuple[int, float]:
        if not claim.sliding:
            ends, used = self._fixed.get(claim.name, (0.0, 0))
            return (used, ends - now) if now < ends else (0, 0.0)
        begin, before, here = self._bucket(claim, now)
        share = 1.0 - (now - begin) / claim.window_s
        used = int(before * share) + here
        if before:  # it fades as the window goes by, one at a time
            return used, claim.window_s / before
        return used, share * claim.window_s + claim.window_s / max(1, here)

    def _bucket(self, claim: Claim, now: float) -> tuple[float, int, int]:
        begin, before, here = self._sliding.get(claim.name, (now, 0, 0))
        passed = (now - begin) / claim.window_s
        if passed >= 2:
            return now, 0, 0
        return (begin + claim.window_s, here, 0) if passed >= 1 else (begin, before, here)

    def _take(self, claim: Claim, now: float) -> None:
        if claim.sliding:
            begin, before, here = self._bucket(claim, now)
            self._sliding[claim.name] = (begin, before, here + claim.take)
        else:
            self._add(claim.name, claim.take, claim.window_s, now)

    def _sweep(self, now: float) -> None:
        self._fixed = {name: one for name, one in self._fixed.items() if one[0] > now}
        # two buckets of a minute, and nobody has longer sliding windows
        self._sliding = {n: one for n, one in self._sliding.items() if now - one[0] < 600}


_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local adds, claims = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local filled = redis.call('EXISTS', KEYS[1])
if ARGV[1] == '0' and filled == 0 then return {0, {}, {}, 0} end
local function add(name, amount, window)
  local left = redis.call('PTTL', name)
  if left > window then redis.call('DEL', name) left = -2 end  -- by a clock that was set since
  if redis.call('INCRBY', name, string.format('%.0f', amount)) < 0 then
    redis.call('SET', name, 0, 'KEEPTTL')
  end
  if left < 0 then redis.call('PEXPIRE', name, window) end
end
local function bucket(name, window)
  local kept = redis.call('HMGET', name, 'b', 'l', 'h')
  local begin, last, here = tonumber(kept[1] or now), tonumber(kept[2] or 0), tonumber(kept[3] or 0)
  local passed = (now - begin) / window
  if passed < 0 or passed >= 2 then return now, 0, 0 end
  if passed >= 1 then return begin + window, here, 0 end
  return begin, last, here
end
for _, one in ipairs(adds) do add(one[1], one[2], one[3] * 1000) end
local taken, used, left = 1, {}, {}
for i, one in ipairs(claims) do
  local name, window = one[1], one[4] * 1000
  if one[5] then
    local begin, last, here = bucket(name, window)
    local share = 1 - (now - begin) / window
    used[i] = math.floor(last * share) + here
    if last > 0 then left[i] = window / last
    else left[i] = share * window + window / math.max(1, here) end
  else
    left[i] = redis.call('PTTL', name)
    if left[i] > window then redis.call('DEL', name) left[i] = 0 end
    used[i] = tonumber(redis.call('GET', name) or 0)
  end
  if one[6] and used[i] >= one[2] then taken = 0 end
end
if taken == 1 then
  for i, one in ipairs(claims) do
    local name, take, window = one[1], one[3], one[4] * 1000
    if take > 0 then
      if one[5] then
        local begin, last, here = bucket(name, window)
        redis.call('HSET', name, 'b', string.format('%.0f', begin), 'l', last, 'h', here + take)
        redis.call('PEXPIRE', name, 2 * window)
      else
        add(name, take, window)
      end
      used[i] = used[i] + take
    end
  end
end
for i = 1, #claims do
  used[i] = string.format('%.0f', used[i])
  left[i] = string.format('%.0f', math.max(0, left[i]))
end
return {taken, used, left, filled}
"""
"""`Counters.transact` for Redis. Numbers travel back as text: Lua would cut them. They are exact up
to 2^53: of money, nine million units of the currency."""

_FILL: Final = """
for name, one in pairs(cjson.decode(ARGV[1])) do
  if tonumber(redis.call('GET', name) or 0) < tonumber(one[1]) then
    redis.call('SET', name, one[1], 'PX', one[2])
  end
end
redis.call('SET', KEYS[1], 1)
"""


class RedisCounters:
    """In Redis: exact over all processes with the same `prefix`."""

    def __init__(self, url: str, prefix: str, timeout_s: float) -> None:
        import redis.exceptions
        from redis.asyncio import Redis
        from redis.asyncio.connection import ConnectionPool

        # ValueError: somebody has written there what is no number
        self._errors = (redis.exceptions.RedisError, OSError, TimeoutError, ValueError)
        pool = ConnectionPool.from_url(
            url.replace("redis+unix://", "unix://", 1),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        self._redis: Any = Redis(connection_pool=pool)
        self._pool = pool
        self._prefix = prefix
        self._script = self._redis.register_script(_SCRIPT)
        self._fill = self._redis.register_script(_FILL)

    @property
    def _marker(self) -> str:
        return f"{self._prefix}/filled"

    async def transact(
        self, adds: Sequence[Add], claims: Sequence[Claim], *, force: bool
    ) -> Answer:
        arguments: list[bytes | int] = [
            int(force),
            orjson.dumps([self._named(add, add.window_s or FOREVER_S) for add in adds]),
            orjson.dumps(
                [
                    (
                        f"{self._prefix}/{claim.name}",
                        claim.most,
                        claim.take,
                        claim.window_s or FOREVER_S,
                        claim.sliding,
                        claim.binding,
                    )
                    for claim in claims
                ]
            ),
        ]
        taken, used, left_ms, filled = await self._run(
            self._script(keys=[self._marker], args=arguments)
        )
        return Answer(
            bool(taken),
            [int(one) for one in used],
            [int(one) / 1000 for one in left_ms],
            bool(filled),
        )

    def _named(self, add: Add, window_s: int) -> tuple[str, int, int]:
        return f"{self._prefix}/{add.name}", add.amount, window_s

    async def fill(self, counts: Mapping[str, tuple[int, int]]) -> None:
        named = {
            f"{self._prefix}/{name}": (str(used), str(1000 * (window_s or FOREVER_S)))
            for name, (used, window_s) in counts.items()
        }
        await self._run(self._fill(keys=[self._marker], args=(orjson.dumps(named),)))

    async def _run(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except self._errors as error:
            # after a failover its name may lead to another server, and an open connection does not
            with contextlib.suppress(*self._errors):
                await self._pool.disconnect(inuse_connections=False)
            raise CountersError(type(error).__name__) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pool.disconnect()
