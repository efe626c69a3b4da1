"""What a key may use, counted in memory and in a real Redis."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.server.asgi import failure_headers
from gateway.server.counters import Add, Answer, Claim, Counters, CountersError
from gateway.server.quota import CONCERNS, Purse, Quota, Spent
from gateway.settings.quota import QuotaConfig
from gateway.settings.usage import UsageConfig
from gateway.telemetry.outcome import NANO
from gateway.telemetry.usage.store import StoreError
from gateway.upstreams.errors import Failure, Kind, error_body
from gateway.upstreams.plan import Attempt, Plan
from tests import services


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Redis]:
    with services.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    server: services.Redis = request.getfixturevalue("redis")
    return {"redis_url": server.url, "prefix": f"t{time.monotonic_ns()}"}


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Quota]]:
    """Makes quotas whose connections are closed in the end."""
    quotas: list[Quota] = []

    def make(config: QuotaConfig, **kwargs: Any) -> Quota:
        quotas.append(Quota(config, **kwargs))
        return quotas[-1]

    yield make
    for quota in quotas:
        await quota.close()


def plan_of(*names: str) -> Plan:
    return tuple(Attempt("up", name, names=frozenset({name})) for name in names)


MODEL = "openai/gpt-4o"
ROUTE = "all"


@pytest.fixture(autouse=True)
def _every_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = frozenset().union(*CONCERNS.values())
    monkeypatch.setattr("gateway.server.quota.CONCERNS", {**CONCERNS, ROUTE: everything})


async def entered(quota: Quota, key: str = "k", model: str = MODEL, *others: str) -> Purse:
    purse = quota.purse(key, ROUTE)
    plan = await purse.enter(model, plan_of(model, *others))
    assert not isinstance(plan, Failure), plan
    return purse


async def left(quota: Quota, key: str, model: str, *others: str) -> set[str]:
    """Models of a plan that may be asked."""
    plan = await quota.purse(key, ROUTE).enter(model, plan_of(model, *others))
    assert not isinstance(plan, Failure), plan
    return {one.model for one in plan}


def details(failure: Failure) -> Mapping[str, Any]:
    assert failure.details is not None
    return failure.details


async def refused(quota: Quota, key: str = "k", model: str = MODEL) -> Failure:
    failure = await quota.purse(key, ROUTE).enter(model, plan_of(model))
    assert isinstance(failure, Failure)
    return failure


def spent(*names: str, **amounts: int) -> list[Spent]:
    return [Spent(names, requests=1, **amounts)]


async def test_requests_are_counted_and_refused_with_openais_body(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 2}}, **store))
    assert (await entered(quota)).headers == {
        "x-livekit-inference-rpm-limit": "2",
        "x-livekit-inference-rpm-used": "1",
    }
    await entered(quota)
    failure = await refused(quota)
    error = error_body(failure)["error"]
    assert failure.status == 429
    assert error["type"] == "inference_quota_exceeded"
    assert (error["quota_type"], error["category"]) == ("rpm", "rate")
    assert "Try again" in error["hint"]
    headers = dict(failure_headers(failure))
    # a minute until the bucket fades, and half of one until one of its two requests has faded
    assert 1 <= int(headers[b"retry-after"]) <= 90
    assert headers[b"x-livekit-inference-rpm-used"] == b"2"
    assert b"x-livekit-inference-tpm-used" not in headers


@pytest.mark.parametrize(
    ("limit", "used", "quota_type"),
    [
        ("tokens_per_minute", {"tokens": 130}, "tpm"),
        ("audio_seconds_per_minute", {"audio_ms": 100_001}, "audio_per_minute"),
        ("characters_per_minute", {"characters": 100}, "characters_per_minute"),
    ],
)
async def test_what_a_minute_holds_is_counted_when_it_was_used(
    store: dict[str, Any],
    made: Callable[..., Quota],
    limit: str,
    used: dict[str, Any],
    quota_type: str,
) -> None:
    quota = made(QuotaConfig(keys={"k": {limit: 100}}, **store))
    first = await entered(quota)
    await entered(quota)
    await first.settle(spent(MODEL, **used))
    failure = await refused(quota)
    assert details(failure)["quota_type"] == quota_type
    assert failure.retry_after_s is not None


async def test_a_balance_that_is_used_up_is_not_waited_for(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(keys={"k": {"credits": 0.5}}, **store))
    purse = await entered(quota)
    assert purse.headers["x-livekit-inference-credits-limit"] == "0.5"
    await purse.settle(spent(MODEL, tokens=10, cost=3 * NANO // 10))
    assert (await entered(quota)).headers["x-livekit-inference-credits-used"] == "0.3"
    await purse.settle(spent(MODEL, tokens=10, cost=3 * NANO // 10))
    failure = await refused(quota)
    assert failure.retry_after_s is None
    assert details(failure)["category"] == "balance"
    assert b"retry-after" not in dict(failure_headers(failure))


async def test_keys_and_models_are_counted_apart(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    config = QuotaConfig(
        keys={
            "*": {"requests_per_minute": 1},
            "big": {"requests_per_minute": 9, "models": {"openai/*": {"requests_per_minute": 1}}},
        },
        **store,
    )
    quota = made(config)
    await entered(quota, "a")
    await entered(quota, "b")
    await refused(quota, "a")
    await entered(quota, "big", "openai/gpt-4o")
    assert "openai/*" in (await refused(quota, "big", "openai/gpt-4.1")).message
    await entered(quota, "big", "google/x")


async def test_a_model_has_a_limit_for_all_callers_together(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(models={"openai/gpt-4o": {"requests_per_minute": 2}}, **store))
    await entered(quota, "a")
    await entered(quota, "b")
    await refused(quota, "c")
    await entered(quota, "c", "openai/other")


async def test_keys_of_a_tenant_share_its_budget(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    tenants = {"acme": {"keys": ["a", "b"], "day": {"tokens": 100}}}
    quota = made(QuotaConfig(tenants=tenants, **store))
    purse = await entered(quota, "a")
    await purse.settle(spent(MODEL, tokens=100))
    assert "tenant" in (await refused(quota, "b")).message
    await entered(quota, "c")
    assert [quota.tenant_of(key) for key in "abc"] == ["acme", "acme", ""]


async def test_a_request_that_is_refused_for_another_reason_is_not_counted(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 5, "credits": 0}}, **store))
    for _ in range(7):
        assert details(await refused(quota))["quota_type"] == "credits"


async def test_without_a_quota_nothing_is_said(made: Callable[..., Quota]) -> None:
    quota = made(QuotaConfig())
    purse = await entered(quota)
    assert not purse.headers
    assert not purse.limited
    assert await purse.look(MODEL) is None
    assert await purse.settle(spent(MODEL, tokens=5)) is None


async def test_two_processes_count_together(
    redis: services.Redis, made: Callable[..., Quota]
) -> None:
    config = QuotaConfig(keys={"k": {"requests_per_minute": 1}}, redis_url=redis.url, prefix="two")
    await entered(made(config))
    await refused(made(config))


async def test_calls_go_on_while_the_store_is_down(
    tmp_path: Path, made: Callable[..., Quota]
) -> None:
    with services.redis(tmp_path) as server:
        now = 0.0
        config = QuotaConfig(keys={"k": {"requests_per_minute": 1}}, redis_url=server.url)
        told: list[bool] = []
        quota = made(config, clock=lambda: now, on_store_failure=lambda: told.append(True))
        await entered(quota)
        server.stop()
        await entered(quota)  # counted here alone
        await refused(quota)
        assert quota.store_failures == 1
        server.start()
        now = 60.0
        await entered(quota)  # Redis has forgotten, and is asked again
        await refused(quota)
        assert quota.store_failures == len(told) == 1


async def test_a_balance_goes_on_where_redis_was_when_it_went_away(
    tmp_path: Path, made: Callable[..., Quota]
) -> None:
    with services.redis(tmp_path) as server:
        now = 0.0
        config = QuotaConfig(keys={"k": {"credits": 1}}, redis_url=server.url)
        quota = made(config, clock=lambda: now)
        purse = await entered(quota)
        await purse.settle(spent(MODEL, cost=6 * NANO // 10))
        server.stop()
        assert (await entered(quota)).headers["x-livekit-inference-credits-used"] == "0.6"
        await purse.settle(spent(MODEL, cost=NANO // 10))
        server.start()  # it has kept nothing, and hears what was counted without it
        now = 60.0
        told = await entered(quota)
        assert told.headers["x-livekit-inference-credits-used"] == "0.1"


class Slow:
    """Counters that do what they are told, and while they are `slow` say so too late."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.slow = False

    async def transact(
        self, adds: Sequence[Add], claims: Sequence[Claim], *, force: bool
    ) -> Answer:
        answer = self.counters.transact(adds, claims, force=force)
        if self.slow:
            raise CountersError("TimeoutError")
        return answer

    async def fill(self, counts: Mapping[str, tuple[int, int]]) -> None:
        self.counters.fill(counts)

    async def close(self) -> None: ...


async def test_what_a_slow_store_has_counted_is_not_told_again_and_again(
    made: Callable[..., Quota],
) -> None:
    now, slow = 0.0, Slow()
    quota = made(QuotaConfig(keys={"k": {"credits": 100}}), clock=lambda: now, machine=slow)
    purse = await entered(quota)
    slow.slow = True
    for _ in range(10):
        await purse.settle(spent(MODEL, cost=NANO))
        now += 60.0
    slow.slow = False
    told = await entered(quota)
    # the one that found out that it is slow was counted twice
    assert told.headers["x-livekit-inference-credits-used"] == "11"


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .\.\[redis\]"):
        QuotaConfig(redis_url="redis://x")
    with pytest.raises(ValueError, match=r"pip install '.\[postgres\]'"):
        UsageConfig(url="postgresql://x/y")


def test_a_url_that_is_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="redis://"):
        QuotaConfig(redis_url="http://x")


LIMITED = {
    "keys": {"k": {"models": {"dear": {"requests_per_minute": 1}, "big": {"credits": 1}}}},
    "models": {"openai/*": {"tokens_per_minute": 100}},
}


async def test_other_names_of_a_request_are_looked_at_and_counted_only_where_they_serve(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(**LIMITED, **store))
    others = ("dear", "big", "openai/x", "free")
    for _ in range(3):
        purse = await entered(quota, "k", "cheap", *others)
        assert await left(quota, "k", "cheap", *others) == {"cheap", *others}
        await purse.settle(spent("cheap", tokens=10, cost=NANO // 10))
    await purse.settle(spent("dear", "openai/x", tokens=60) + spent("big", cost=NANO))
    assert await left(quota, "k", "cheap", *others) == {"cheap", "openai/x", "free"}
    await purse.settle(spent("openai/x", tokens=60))
    assert await left(quota, "k", "cheap", *others) == {"cheap", "free"}
    assert details(await refused(quota, "k", "dear"))["quota_type"] == "rpm"


async def test_one_limit_under_two_names_of_a_try_counts_once(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(**LIMITED, **store))
    purse = await entered(quota, "k", "cheap", "openai/x", "openai/y")
    await purse.settle(spent("openai/x", "openai/y", tokens=60))
    assert "openai/x" in await left(quota, "k", "cheap", "openai/x")


async def test_a_limit_of_the_key_counts_once_whatever_names_a_request_has(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(keys={"k": {"tokens_per_minute": 100}}, **store))
    purse = await entered(quota, "k", "cheap", "openai/x")
    await purse.settle(spent("openai/x", tokens=60))
    await entered(quota, model="cheap")


async def test_a_key_may_ask_only_for_what_it_is_allowed(made: Callable[..., Quota]) -> None:
    allowed = {"k": {"allowed_models": ["fast", "deepgram/*"]}}
    quota = made(QuotaConfig(keys=allowed))
    await entered(quota, "k", "deepgram/nova-3")
    await entered(quota, "other", "openai/dear")
    failure = await refused(quota, "k", "openai/dear")
    assert failure.kind is Kind.FORBIDDEN
    assert "openai/dear" in failure.message
    looked = await quota.purse("k", ROUTE).look("openai/dear")
    assert looked is not None
    assert looked.status == 403
    # a fallback is no way round it, what an allowed name stands for is the operator's choice
    fast = Attempt("openai", "gpt-x", names=frozenset({"fast", "openai/gpt-x"}))
    dear = Attempt("openai", "dear", names=frozenset({"openai/dear"}))
    assert await quota.purse("k", ROUTE).enter("fast", (fast, dear)) == (fast,)
    assert isinstance(await quota.purse("k", ROUTE).enter(None, (dear,)), Failure)
    assert quota.purse("k", ROUTE).permitted((dear, fast)) == (fast,)
    assert quota.purse("other", ROUTE).permitted((dear,)) == (dear,)


async def test_a_reservation_is_seen_by_others_and_replaced_by_what_was_used(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    config = QuotaConfig(keys={"k": {"audio_seconds_per_minute": 30}}, **store)
    quota = made(config)
    ahead = Spent(audio_ms=10_000)
    purse = quota.purse("k", ROUTE)
    await purse.enter(MODEL, plan_of(MODEL), ahead=ahead)
    other = quota.purse("k", ROUTE)
    await other.enter(MODEL, plan_of(MODEL), ahead=Spent(audio_ms=20_000))
    assert isinstance(
        await quota.purse("k", ROUTE).enter(MODEL, plan_of(MODEL), ahead=ahead), Failure
    )
    await other.settle([Spent((MODEL,), audio_ms=1_000)])
    assert await purse.settle([Spent((MODEL,), audio_ms=10_000)], ahead) is None
    assert await purse.settle([Spent((MODEL,), audio_ms=10_000)], ahead) is None
    failure = await purse.settle([Spent((MODEL,), audio_ms=10_000)], ahead)
    assert failure is not None
    assert details(failure)["quota_type"] == "audio_per_minute"
    assert "30 seconds of audio a minute" in failure.message


class Wall:
    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self.now = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


async def test_days_and_months_begin_in_the_operators_time_zone(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    wall = Wall("2026-11-30T22:30")
    config = QuotaConfig(keys={"k": {"day": {"tokens": 10}, "month": {"tokens": 15}}}, **store)
    quota = made(config, wall_clock=wall, time_zone="Europe/Berlin")
    purse = await entered(quota)
    await purse.settle(spent(MODEL, tokens=10))
    failure = await refused(quota)
    assert details(failure)["quota_type"] == "tokens_per_day"
    assert failure.retry_after_s == 1800
    assert failure.message == "the quota of this API key is used up: 10 tokens a day"
    wall.set("2026-11-30T23:00")  # the first of December in Berlin
    purse = await entered(quota)
    await purse.settle(spent(MODEL, tokens=15))
    assert details(await refused(quota))["quota_type"] == "tokens_per_month"
    assert set(purse.take_charges()) == {
        "key/k/tokens/day/2026-12-01",
        "key/k/tokens/month/2026-12",
    }


async def test_a_clock_that_jumps_ahead_and_back_finds_the_counts_of_today(
    made: Callable[..., Quota],
) -> None:
    wall = Wall("2026-11-30T12:00")
    quota = made(QuotaConfig(keys={"k": {"day": {"tokens": 10}}}), wall_clock=wall)
    await (await entered(quota)).settle(spent(MODEL, tokens=10))
    await refused(quota)
    wall.set("2027-03-05T12:00")
    await entered(quota)
    wall.set("2026-11-30T12:01")
    await refused(quota)


async def test_what_was_used_before_the_start_is_read_from_the_usage_store(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    kept = {"key/k/cost/balance": 9 * NANO // 10, "key/k/tokens/day/2026-11-30": 100}

    async def balances() -> dict[str, int]:
        return kept

    config = QuotaConfig(keys={"k": {"credits": 1, "day": {"tokens": 100}}}, **store)
    wall = Wall("2026-11-30T12:00")
    quota = made(config, balances=balances, wall_clock=wall)
    await quota.start()
    assert details(await refused(quota))["quota_type"] == "tokens_per_day"
    wall.set("2026-12-01T12:00")
    purse = await entered(quota)
    assert purse.headers["x-livekit-inference-credits-used"] == "0.9"
    await purse.settle(spent(MODEL, cost=NANO // 10))
    assert purse.take_charges() == {"key/k/cost/balance": NANO // 10}
    assert purse.take_charges() == {}
    assert details(await refused(quota))["quota_type"] == "credits"


async def test_a_redis_that_has_lost_all_is_filled_again(
    tmp_path: Path, made: Callable[..., Quota]
) -> None:
    async def balances() -> dict[str, int]:
        return {"key/k/cost/balance": 2 * NANO}

    with services.redis(tmp_path) as server:
        config = QuotaConfig(keys={"k": {"credits": 1}}, redis_url=server.url)
        now = 0.0
        quota = made(config, balances=balances, clock=lambda: now)
        await refused(quota)
        server.stop()
        await refused(quota)
        server.start()
        now = 60.0
        await refused(quota)


async def test_a_usage_store_that_is_away_holds_nobody_up_and_is_asked_again(
    made: Callable[..., Quota],
) -> None:
    now, asked = 0.0, 0

    async def balances() -> dict[str, int]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreError("away")
        return {"key/k/cost/balance": 2 * NANO}

    config = QuotaConfig(keys={"k": {"credits": 1}})
    quota = made(config, balances=balances, clock=lambda: now)
    await entered(quota)
    await entered(quota)
    assert asked == 1
    now = 6.0
    await refused(quota)
    assert asked == 2


async def test_a_budget_that_is_nearly_used_up_is_told_once_and_in_each_answer(
    made: Callable[..., Quota], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str, str]] = []
    config = QuotaConfig(keys={"k": {"month": {"cost": 10}}})
    quota = made(config, on_reached=lambda *labels: told.append(labels))
    purse = await entered(quota)
    with caplog.at_level(logging.WARNING):
        await purse.settle(spent(MODEL, cost=799 * NANO // 100))
        assert "x-parley-budget-warning" not in (await entered(quota)).headers
        await purse.settle(spent(MODEL, cost=NANO))
        for _ in range(2):
            warned = (await entered(quota)).headers["x-parley-budget-warning"]
            assert warned == "8.99 USD of 10 USD a month of this API key"
        await purse.settle(spent(MODEL, cost=2 * NANO))
    assert (await refused(quota)).message == (
        "the quota of this API key is used up: 10 USD a month"
    )
    assert told == [("cost", "month", "soft"), ("cost", "month", "hard")]
    assert [record.message for record in caplog.records] == [
        "a budget is nearly used up",
        "a budget is used up",
    ]


async def test_credits_that_were_raised_are_told_again_when_they_are_used_up(
    made: Callable[..., Quota],
) -> None:
    told: list[tuple[str, str, str]] = []
    first = QuotaConfig(keys={"k": {"credits": 1}})
    quota = made(first, on_reached=lambda *labels: told.append(labels))
    await (await entered(quota)).settle(spent(MODEL, cost=NANO))
    more = quota.renew(QuotaConfig(keys={"k": {"credits": 10}}))
    await (await entered(more)).settle(spent(MODEL, cost=9 * NANO))
    same = more.renew(QuotaConfig(keys={"k": {"credits": 10}}))
    await refused(same)
    assert told == [("cost", "balance", "hard")] * 2


async def test_a_minute_is_measured_by_a_clock_that_nobody_sets(
    made: Callable[..., Quota], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    quota = made(QuotaConfig(keys={"k": {"tokens_per_minute": 100}}), clock=lambda: now)
    ahead = time.time() + 86400
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: ahead)
        await (await entered(quota)).settle(spent(MODEL, tokens=150))
        assert ((await refused(quota)).retry_after_s or 99) <= 60
    assert ((await refused(quota)).retry_after_s or 99) <= 60
    now = 61.0
    await entered(quota)


async def test_a_look_counts_nothing(made: Callable[..., Quota]) -> None:
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 1}}))
    for _ in range(3):
        assert await quota.purse("k", ROUTE).look(MODEL) is None
    await entered(quota)
    looked = await quota.purse("k", ROUTE).look(MODEL)
    assert looked is not None
    assert details(looked)["quota_type"] == "rpm"


async def test_whoever_has_no_characters_left_may_still_chat(made: Callable[..., Quota]) -> None:
    quota = made(QuotaConfig(keys={"k": {"day": {"characters": 10, "cost": 1}}}))
    voice = quota.purse("k", "tts")
    assert await voice.enter(MODEL, plan_of(MODEL)) == plan_of(MODEL)
    await voice.settle(spent(MODEL, characters=10, cost=NANO))
    assert isinstance(await quota.purse("k", "tts").enter(MODEL, plan_of(MODEL)), Failure)
    told = await quota.purse("k", "chat").enter(MODEL, plan_of(MODEL))
    assert isinstance(told, Failure)
    assert details(told)["quota_type"] == "cost_per_day"
    quota = made(QuotaConfig(keys={"k": {"day": {"characters": 0}}}))
    assert await quota.purse("k", "chat").enter(MODEL, plan_of(MODEL)) == plan_of(MODEL)
    assert not quota.purse("k", "chat").limited
    assert quota.purse("k", "tts").limited


async def test_new_limits_go_on_with_what_is_counted(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 2}}, **store))
    await entered(quota)
    await entered(quota)
    await refused(quota)
    more = quota.renew(QuotaConfig(keys={"k": {"requests_per_minute": 3}}, **store))
    await entered(more)
    await refused(more)
    nothing = more.renew(QuotaConfig(**store))
    assert not nothing.purse("k", ROUTE).limited
    again = nothing.renew(QuotaConfig(keys={"k": {"requests_per_minute": 3}}, **store))
    await refused(again)


async def test_the_first_limits_may_come_later(
    store: dict[str, Any], made: Callable[..., Quota]
) -> None:
    quota = made(QuotaConfig(**store)).renew(
        QuotaConfig(keys={"k": {"requests_per_minute": 1}}, **store)
    )
    await entered(quota)
    await refused(quota)
    await quota.close()


async def test_what_is_no_number_in_the_store_ends_no_request(
    redis: services.Redis, made: Callable[..., Quota]
) -> None:
    import redis.asyncio as client

    config = QuotaConfig(
        keys={"k": {"tokens_per_minute": 10, "credits": 5}}, redis_url=redis.url, prefix="bad"
    )
    store = client.from_url(redis.url)
    for kind in ("string", "list"):
        quota = made(config)
        purse = await entered(quota)
        await purse.settle(spent(MODEL, tokens=3, cost=NANO))
        for name in await store.keys("*bad*"):
            await store.delete(name)
            await (store.set(name, "abc") if kind == "string" else store.lpush(name, "abc"))
        await entered(quota)
        assert quota.store_failures == 1
        await store.flushall()
    await store.aclose()
