"""What a key may use, counted in memory and in a real Redis."""

import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.server.asgi import failure_headers
from gateway.server.quota import Quota, Spent, Standing
from gateway.settings.quota import QuotaConfig
from gateway.settings.usage import UsageConfig
from gateway.upstreams.errors import Failure, error_body
from tests import services


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Redis]:
    with services.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> dict:
    if request.param == "memory":
        return {}
    server: services.Redis = request.getfixturevalue("redis")
    return {"redis_url": server.url, "prefix": f"t{time.monotonic_ns()}"}


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Quota]]:
    """Makes quotas whose connections are closed in the end."""
    quotas: list[Quota] = []

    def make(config: QuotaConfig, **kwargs: object) -> Quota:
        quotas.append(Quota(config, **kwargs))
        return quotas[-1]

    yield make
    for quota in quotas:
        await quota.close()


async def entered(quota: Quota, key: str = "k", model: str = "openai/gpt-4o") -> Standing:
    standing = await quota.enter(key, model)
    assert isinstance(standing, Standing), standing
    return standing


async def refused(quota: Quota, key: str = "k", model: str = "openai/gpt-4o") -> Failure:
    failure = await quota.enter(key, model)
    assert isinstance(failure, Failure)
    return failure


async def test_requests_are_counted_and_refused_with_openais_body(store: dict, made):
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


async def test_tokens_are_counted_when_a_request_has_ended(store: dict, made):
    quota = made(QuotaConfig(keys={"k": {"tokens_per_minute": 100}}, **store))
    first = await entered(quota)
    await entered(quota)
    await quota.spend(first, [Spent((), 130, 0.0)])
    failure = await refused(quota)
    assert failure.details["quota_type"] == "tpm"
    assert failure.retry_after_s is not None


async def test_a_balance_that_is_used_up_is_not_waited_for(store: dict, made):
    quota = made(QuotaConfig(keys={"k": {"credits": 0.5}}, **store))
    standing = await entered(quota)
    assert standing.headers["x-livekit-inference-credits-limit"] == "0.5"
    await quota.spend(standing, [Spent((), 10, 0.3)])
    assert (await entered(quota)).headers["x-livekit-inference-credits-used"] == "0.3"
    await quota.spend(standing, [Spent((), 10, 0.3)])
    failure = await refused(quota)
    assert failure.retry_after_s is None
    assert failure.details["category"] == "balance"
    assert b"retry-after" not in dict(failure_headers(failure))


async def test_keys_and_models_are_counted_apart(store: dict, made):
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


async def test_a_model_has_a_limit_for_all_callers_together(store: dict, made):
    quota = made(QuotaConfig(models={"openai/gpt-4o": {"requests_per_minute": 2}}, **store))
    await entered(quota, "a")
    await entered(quota, "b")
    await refused(quota, "c")
    await entered(quota, "c", "openai/other")


async def test_a_request_that_is_refused_for_another_reason_is_not_counted(store: dict, made):
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 5, "credits": 0}}, **store))
    for _ in range(7):
        assert (await refused(quota)).details["quota_type"] == "credits"


async def test_without_a_quota_nothing_is_said(made):
    quota = made(QuotaConfig())
    assert (await entered(quota)).headers is None


async def test_two_processes_count_together(redis: services.Redis, made):
    config = QuotaConfig(keys={"k": {"requests_per_minute": 1}}, redis_url=redis.url, prefix="two")
    await entered(made(config))
    await refused(made(config))


async def test_calls_go_on_while_the_store_is_down(tmp_path, made):
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


def test_an_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .\.\[redis\]"):
        QuotaConfig(redis_url="redis://x")
    with pytest.raises(ValueError, match=r"pip install '.\[postgres\]'"):
        UsageConfig(url="postgresql://x/y")


def test_a_url_that_is_none_is_a_mistake():
    with pytest.raises(ValueError, match="redis://"):
        QuotaConfig(redis_url="http://x")


LIMITED = {
    "keys": {"k": {"models": {"dear": {"requests_per_minute": 1}, "big": {"credits": 1}}}},
    "models": {"openai/*": {"tokens_per_minute": 100}},
}


async def test_other_names_of_a_request_are_looked_at_and_counted_only_where_they_serve(
    store: dict, made
):
    quota = made(QuotaConfig(**LIMITED, **store))
    others = ("dear", "big", "openai/x", "free")
    for _ in range(3):
        standing = await quota.enter("k", "cheap", others)
        assert isinstance(standing, Standing)
        assert not standing.refused
        await quota.spend(standing, [Spent((), 10, 0.1)])
    await quota.spend(standing, [Spent(("dear", "openai/x"), 60, 0.0), Spent(("big",), 0, 1.0)])
    standing = await quota.enter("k", "cheap", others)
    assert isinstance(standing, Standing)
    assert set(standing.refused) == {"dear", "big"}
    assert standing.refused["dear"].details == {
        "quota_type": "rpm",
        "category": "rate",
        "hint": standing.refused["dear"].details["hint"],
    }
    await quota.spend(standing, [Spent(("openai/x",), 60, 0.0)])
    standing = await quota.enter("k", "cheap", others)
    assert isinstance(standing, Standing)
    assert set(standing.refused) == {"dear", "big", "openai/x"}
    assert isinstance(await quota.enter("k", "dear"), Failure)


async def test_one_limit_under_two_names_of_a_try_counts_once(store: dict, made):
    quota = made(QuotaConfig(**LIMITED, **store))
    standing = await quota.enter("k", "cheap", ("openai/x", "openai/y"))
    assert isinstance(standing, Standing)
    await quota.spend(standing, [Spent(("openai/x", "openai/y"), 60, 0.0)])
    standing = await quota.enter("k", "cheap", ("openai/x",))
    assert isinstance(standing, Standing)
    assert not standing.refused


async def test_a_limit_of_the_key_counts_once_whatever_names_a_request_has(store: dict, made):
    quota = made(QuotaConfig(keys={"k": {"tokens_per_minute": 100}}, **store))
    standing = await quota.enter("k", "cheap", ("openai/x",))
    assert isinstance(standing, Standing)
    assert not standing.others
    await quota.spend(standing, [Spent(("openai/x",), 60, 0.0)])
    await entered(quota, model="cheap")


async def test_a_minute_that_began_by_another_clock_does_not_last_a_day(made, monkeypatch):
    quota = made(QuotaConfig(keys={"k": {"tokens_per_minute": 100}}))
    ahead = time.time() + 86400
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: ahead)
        await quota.spend(await entered(quota), [Spent((), 150, 0.0)])
        assert (await refused(quota)).retry_after_s <= 60
    await entered(quota)


async def test_new_limits_go_on_with_what_is_counted(store: dict, made):
    quota = made(QuotaConfig(keys={"k": {"requests_per_minute": 2}}, **store))
    await entered(quota)
    await entered(quota)
    await refused(quota)
    more = quota.renew(QuotaConfig(keys={"k": {"requests_per_minute": 3}}, **store))
    await entered(more)
    await refused(more)
    nothing = more.renew(QuotaConfig(**store))
    assert nothing.limits_nothing
    again = nothing.renew(QuotaConfig(keys={"k": {"requests_per_minute": 3}}, **store))
    await refused(again)


async def test_the_first_limits_may_come_later(store: dict, made):
    quota = made(QuotaConfig(**store)).renew(
        QuotaConfig(keys={"k": {"requests_per_minute": 1}}, **store)
    )
    await entered(quota)
    await refused(quota)
    await quota.close()
