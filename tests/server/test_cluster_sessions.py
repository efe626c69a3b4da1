"""A limit of sessions holds over several processes, and a dead one frees its places."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.server import cluster_sessions
from gateway.server.cluster_sessions import ClusterSessionCounts
from tests import services


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Redis]:
    with services.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_sessions, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(cluster_sessions, "LEASE_S", 0.3)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_the_others_hold_is_known_and_given_back(redis: services.Redis) -> None:
    one, two = Counter(k=2), Counter(k=1, other=5)
    first = ClusterSessionCounts(redis.url, "a", one)
    second = ClusterSessionCounts(redis.url, "a", two)
    first.start()
    second.start()
    await until(lambda: first.elsewhere("k") == 1 and second.elsewhere("k") == 2)
    assert first.elsewhere("other") == 5
    two["k"] += 3
    await until(lambda: first.elsewhere("k") == 4)
    await second.close()
    await until(lambda: first.elsewhere("k") == 0)
    await first.close()


async def test_a_process_that_died_frees_its_places_in_seconds(redis: services.Redis) -> None:
    first = ClusterSessionCounts(redis.url, "b", Counter())
    dead = ClusterSessionCounts(redis.url, "b", Counter(k=7))
    first.start()
    dead.start()
    await until(lambda: first.elsewhere("k") == 7)
    assert dead._task is not None
    dead._task.cancel()  # no goodbye
    await until(lambda: first.elsewhere("k") == 0)
    await first.close()
    await dead._redis.aclose()


async def test_a_redis_that_takes_no_writes_any_more_is_left(
    redis: services.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a failover its name leads to another one, but no connection that is open does."""
    one = ClusterSessionCounts(redis.url, "failover", Counter(k=1))
    one.start()
    two = ClusterSessionCounts(redis.url, "failover", Counter())
    two.start()
    await until(lambda: two.elsewhere("k") == 1)
    await two.close()
    failed = asyncio.Event()
    monkeypatch.setattr(one, "_on_failure", failed.set)
    monkeypatch.setattr(cluster_sessions, "HEARTBEAT_S", 3600)
    redis.clients(read_only=True)
    async with asyncio.timeout(60):
        await failed.wait()
    await until(lambda: redis.clients(read_only=True) == 0)
    await one.close()
    redis.clients(read_only=False)


async def test_a_cancellation_that_the_stores_client_loses_still_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = asyncio.Event()

    async def beat(self: ClusterSessionCounts) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

    monkeypatch.setattr(ClusterSessionCounts, "beat", beat)
    monkeypatch.setattr(cluster_sessions, "TIMEOUT_S", 3600)
    held = ClusterSessionCounts("redis://127.0.0.1:1", "d", Counter())
    held.start()
    async with asyncio.timeout(60):
        await begun.wait()
        await held.close()


async def test_without_a_store_each_process_counts_for_itself(tmp_path: Path) -> None:
    with services.redis(tmp_path) as server:
        failures: list[bool] = []
        first = ClusterSessionCounts(server.url, "c", Counter(), lambda: failures.append(True))
        second = ClusterSessionCounts(server.url, "c", Counter(k=1))
        first.start()
        second.start()
        await until(lambda: first.elsewhere("k") == 1)
        server.stop()
        await until(lambda: first.elsewhere("k") == 0)
        assert failures
        server.start()
        await until(lambda: first.elsewhere("k") == 1)
        await first.close()
        await second.close()


@pytest.mark.parametrize(
    "entry",
    [
        b"", b"nonsense", b"[]", b"null", b"{}", b'{"at": "soon", "held": {}}', b"\xff",
        b'{"at": true, "held": {}}', b'{"at": 1, "held": [1]}', b'{"at": 1, "held": {"k": "x"}}',
        b'{"at": 1e999, "held": {"k": 1}}', b"[" * 3000, b'{"at": 1, "held": {"k": -5}}',
        b'{"at": 1, "held": {"k": 1000000000000000000000}}', b'{"at": 1, "held": {"k": 1.5}}',
    ],
)  # fmt: skip
def test_an_entry_that_is_none_of_ours_is_not_read(entry: bytes) -> None:
    assert cluster_sessions._read(entry) is None


async def test_what_others_write_there_does_not_end_the_heartbeat(redis: services.Redis) -> None:
    import redis.asyncio as client

    store = client.from_url(redis.url)
    await store.hset("e/leases", "another", b"nonsense")
    ahead = b'{"at": 99999999999, "held": {"k": 50}}'
    await store.hset("e/leases", "ahead", ahead)
    first = ClusterSessionCounts(redis.url, "e", Counter())
    second = ClusterSessionCounts(redis.url, "e", Counter(k=3))
    first.start()
    second.start()
    await until(lambda: first.elsewhere("k") == 3)
    await store.delete("e/leases")
    await store.set("e/leases", "no hash")
    await until(lambda: first.elsewhere("k") == 0)
    await store.delete("e/leases")
    await until(lambda: first.elsewhere("k") == 3)
    await first.close()
    await second.close()
    await store.aclose()
