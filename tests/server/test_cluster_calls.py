"""What machines that share a Redis tell one another of calls; the answer never waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway.server import cluster_calls
from gateway.server.cluster_calls import ClusterCalls, machine_name
from tests import services

MARKS = bytes(range(32))
Told = list[tuple[object, ...]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Redis]:
    with services.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_calls, "RETRY_S", 0.02)
    monkeypatch.setattr(cluster_calls, "TIMEOUT_S", 60.0)  # what was told is not told again


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def machines(url: str, prefix: str, *names: str) -> AsyncIterator[list[ClusterCalls]]:
    calls = [ClusterCalls(url, prefix, name) for name in names]
    for one in calls:
        one.start()
        await one.listens.wait()
    try:
        yield calls
    finally:
        for one in calls:
            await one.close()


def listened(one: ClusterCalls) -> Told:
    told: Told = []
    one.on_voice = lambda *what: told.append(what)
    one.on_followed = lambda *what: told.append(what)
    return told


async def test_what_is_said_at_one_machine_is_heard_at_the_others(redis: services.Redis) -> None:
    async with machines(redis.url, "a", "one", "two") as (one, two):
        mine, theirs = listened(one), listened(two)
        now = time.monotonic()

        await asyncio.to_thread(one.voice, "key\njob", now + 4, MARKS)
        one.followed("key\njob", "sentence", now - 2, now - 1)
        await until(lambda: len(theirs) == 2)

        voice, followed = theirs
        assert voice[0] == "key\njob"
        assert voice[2] == MARKS
        assert isinstance(voice[1], float)
        assert voice[1] >= now + 4  # later by what the way takes
        assert followed[:2] == ("key\njob", "sentence")
        assert mine == []


async def test_processes_of_one_machine_tell_one_another_otherwise(redis: services.Redis) -> None:
    async with machines(redis.url, "b", "same", "same", "other") as (one, sibling, other):
        told, theirs = listened(sibling), listened(other)

        one.voice("call", time.monotonic(), MARKS)
        await until(lambda: theirs)

        assert told == []
    assert machine_name("/run/state") == machine_name("/run/state")
    assert machine_name(None) != machine_name(None)


async def test_without_redis_nobody_waits_and_no_more_is_kept_than_the_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster_calls, "PENDING_BYTES_MAX", 1000)
    failures = 0

    def failed() -> None:
        nonlocal failures
        failures += 1

    calls = ClusterCalls("redis://127.0.0.1:1/0", "c", "one", failed)
    calls.voice("call", 0.0, MARKS)  # not started: nobody is told
    calls.start()
    for _ in range(100):
        calls.voice("call", 0.0, MARKS)
    await until(lambda: failures > 2)

    assert len(calls._voice) * 40 < 1100
    assert caplog.text.count("voices of other machines are not known") == 1
    await calls.close()


async def test_a_redis_that_comes_back_is_used_again(redis: services.Redis, tmp_path: Path) -> None:
    async with machines(redis.url, "d", "one", "two") as (one, two):
        theirs = listened(two)
        for each in (one, two):
            each.listens.clear()
            await each._redis.client_kill_filter(_type="pubsub", skipme=False)
        await asyncio.gather(one.listens.wait(), two.listens.wait())

        one.voice("call", time.monotonic(), MARKS)

        await until(lambda: theirs)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"nothing",
        orjson.dumps({"from": "two"}),
        orjson.dumps({"from": "two", "voice": 1, "followed": []}),
        orjson.dumps({"from": "two", "voice": [["call"]], "followed": []}),
        orjson.dumps({"from": "two", "voice": [["call", True, ""]], "followed": []}),
        orjson.dumps({"from": "two", "voice": [["call", 1e9, ""]], "followed": []}),
        orjson.dumps({"from": "two", "voice": [["call", 1.0, "not base64!"]], "followed": []}),
        orjson.dumps({"from": "two", "voice": [["c" * 5000, 1.0, ""]], "followed": []}),
        orjson.dumps({"from": "two", "voice": [], "followed": [["call", 7, 0.0, 0.0]]}),
        orjson.dumps({"from": "one", "voice": [["call", 1.0, ""]], "followed": []}),
        b" " * (cluster_calls.MESSAGE_BYTES_MAX + 1),
    ],
)
def test_what_is_none_of_ours_is_nothing(message: bytes) -> None:
    calls = ClusterCalls("redis://127.0.0.1:1/0", "e", "one")
    told = listened(calls)

    calls.heard(message, 100.0)

    assert told == []


def test_moments_are_those_of_this_process() -> None:
    calls = ClusterCalls("redis://127.0.0.1:1/0", "f", "one")
    told = listened(calls)
    sent = {"from": "two", "voice": [["call", 2.5, "AAE="]], "followed": [["call", "x", -2, -1]]}

    calls.heard(orjson.dumps(sent), 100.0)

    assert told == [("call", 102.5, b"\0\1"), ("call", "x", 98.0, 99.0)]
