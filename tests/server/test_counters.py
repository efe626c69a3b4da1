"""The arithmetic of quotas, in memory and in a real Redis."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.server.counters import Add, Answer, Claim, Counters, CountersError, RedisCounters
from tests import services
from tests.ports import Port


class InMemory:
    """`Counters` with the methods of those that are elsewhere."""

    def __init__(self) -> None:
        self.counters = Counters()

    async def transact(self, adds: list[Add], claims: list[Claim], *, force: bool) -> Answer:
        return self.counters.transact(adds, claims, force=force)

    async def fill(self, counts: dict[str, tuple[int, int]]) -> None:
        self.counters.fill(counts)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Redis]:
    with services.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def counters(
    request: pytest.FixtureRequest,
) -> AsyncIterator[InMemory | RedisCounters]:
    if request.param == "memory":
        yield InMemory()
        return
    server: services.Redis = request.getfixturevalue("redis")
    made = RedisCounters(server.url, f"t{time.monotonic_ns()}", 5.0)
    yield made
    await made.close()


async def look(counters: InMemory | RedisCounters, name: str, window_s: int = 60) -> int:
    claim = Claim(name, 1 << 50, 0, window_s)
    return (await counters.transact([], [claim], force=True)).used[0]


async def test_a_claim_is_granted_while_anything_is_left(
    counters: InMemory | RedisCounters,
) -> None:
    claim = Claim("k", 5, 3, 60)
    answers = [await counters.transact([], [claim], force=True) for _ in range(3)]
    assert [(one.taken, one.used[0]) for one in answers] == [(True, 3), (True, 6), (False, 6)]
    assert 0 < answers[-1].left_s[0] <= 60


async def test_a_refused_call_takes_nothing_of_its_other_claims(
    counters: InMemory | RedisCounters,
) -> None:
    await counters.transact([Add("empty", 7, 60)], [], force=True)
    claims = [Claim("full", 9, 1, 60, True), Claim("empty", 7, 1, 60)]
    answer = await counters.transact([], claims, force=True)
    assert not answer.taken
    assert list(answer.used) == [0, 7]
    assert await look(counters, "full") == 0


async def test_what_is_only_looked_at_refuses_nobody(counters: InMemory | RedisCounters) -> None:
    await counters.transact([Add("empty", 7, 60)], [], force=True)
    claims = [Claim("k", 9, 1, 60), Claim("empty", 7, 0, 60, binding=False)]
    answer = await counters.transact([], claims, force=True)
    assert answer.taken
    assert list(answer.used) == [1, 7]


async def test_what_is_given_back_is_there_again_but_nothing_becomes_less_than_nothing(
    counters: InMemory | RedisCounters,
) -> None:
    await counters.transact([Add("k", 10, 60)], [], force=True)
    await counters.transact([Add("k", -4, 60)], [], force=True)
    assert await look(counters, "k") == 6
    await counters.transact([Add("k", -40, 60)], [], force=True)
    assert await look(counters, "k") == 0


async def test_nothing_is_counted_before_what_was_used_earlier_is_known(
    counters: InMemory | RedisCounters,
) -> None:
    claim = Claim("k", 100, 1, 0)
    answer = await counters.transact([Add("k", 5, 0)], [claim], force=False)
    assert (answer.taken, answer.filled) == (False, False)
    await counters.transact([Add("k", 5, 0)], [], force=True)
    await counters.fill({"k": (70, 0), "other": (3, 0)})
    answer = await counters.transact([], [claim], force=False)
    assert (answer.taken, answer.filled, answer.used[0]) == (True, True, 71)
    await counters.fill({"k": (60, 0)})
    assert await look(counters, "k", 0) == 71


async def test_money_is_counted_exactly(counters: InMemory | RedisCounters) -> None:
    one = 123_456_789_012_345
    for _ in range(3):
        await counters.transact([Add("k", one, 0)], [], force=True)
    assert await look(counters, "k", 0) == 3 * one


async def test_requests_fade_as_the_minute_goes_by() -> None:
    now = 0.0
    counters = Counters(lambda: now)
    claim = Claim("k", 6, 1, 60, sliding=True)

    def taken() -> bool:
        return counters.transact([], [claim], force=True).taken

    assert [taken() for _ in range(7)] == [True] * 6 + [False]
    now = 60.0
    assert not taken()
    now = 70.0
    assert [taken(), taken()] == [True, False]
    now = 200.0
    assert [taken() for _ in range(7)] == [True] * 6 + [False]


async def test_a_window_begins_anew_and_its_count_is_let_go() -> None:
    now = 0.0
    counters = Counters(lambda: now)
    counters.transact([Add("k", 9, 60), Add("kept", 9, 0)], [], force=True)
    now = 61.0
    assert counters.transact([], [Claim("k", 9, 1, 60)], force=True).used == [1]
    now = 200.0
    for _ in range(1001):
        counters.transact([], [], force=True)
    assert list(counters._fixed) == ["kept"]


async def test_a_redis_whose_clock_was_set_back_holds_nobody_for_a_day(
    redis: services.Redis,
) -> None:
    counters = RedisCounters(redis.url, "clock", 5.0)
    await counters.transact([Add("k", 9, 86400)], [], force=True)  # kept far too long
    answer = await counters.transact([], [Claim("k", 9, 1, 60)], force=True)
    assert (answer.taken, answer.used[0]) == (True, 1)
    await counters.close()


async def test_a_redis_that_is_not_there_says_so() -> None:
    with Port() as nobodys:
        counters = RedisCounters(f"redis://127.0.0.1:{nobodys.number}/0", "p", 1.0)
        with pytest.raises(CountersError):
            await counters.transact([], [], force=True)
        await counters.close()


async def test_a_redis_that_takes_no_writes_any_more_is_left(redis: services.Redis) -> None:
    """At a failover its name leads to another one, but no connection that is open does."""
    counters = RedisCounters(redis.url, "failover", 5.0)
    await counters.transact([Add("k", 1, 60)], [], force=True)
    assert redis.clients(read_only=True) == 1
    with pytest.raises(CountersError, match="ReadOnlyError"):
        await counters.transact([Add("k", 1, 60)], [], force=True)
    services.wait_until(lambda: redis.clients(read_only=False) == 0)
    assert await look(counters, "k") == 1
    await counters.close()
