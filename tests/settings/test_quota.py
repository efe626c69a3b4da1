"""What an operator may set for quotas."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.quota import QuotaConfig

HAS_REDIS = importlib.util.find_spec("redis") is not None


def test_a_variable_that_is_not_set_means_this_process_alone() -> None:
    assert QuotaConfig.model_validate({"redis_url": ""}).redis_url is None


@pytest.mark.skipif(not HAS_REDIS, reason="the extra `redis` is not installed")
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+unix"])
def test_the_address_of_a_redis_is_taken_and_not_shown(scheme: str) -> None:
    config = QuotaConfig.model_validate({"redis_url": f"{scheme}://:secret@h:6379/0"})
    assert config.redis_url is not None
    assert "secret" not in repr(config)


def test_the_address_of_something_else_is_refused_without_showing_it() -> None:
    with pytest.raises(ValidationError, match="expected a URL that starts with redis") as caught:
        QuotaConfig.model_validate({"redis_url": "http://:secret@h"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a b", "x" * 65])
def test_a_prefix_is_a_short_word(prefix: str) -> None:
    with pytest.raises(ValidationError):
        QuotaConfig.model_validate({"prefix": prefix})


def test_quotas_are_not_negative_and_unknown_ones_are_mistakes() -> None:
    for wrong in ({"requests_per_minute": 0}, {"credits": -1}, {"requests": 5}):
        with pytest.raises(ValidationError):
            QuotaConfig.model_validate({"keys": {"k": wrong}})


@pytest.mark.parametrize(
    ("quota", "money"),
    [
        ({}, False),
        ({"keys": {"a": {"tokens_per_minute": 1, "day": {"requests": 1}}}}, False),
        ({"keys": {"a": {"credits": 1}}}, True),
        ({"keys": {"a": {"models": {"m": {"day": {"cost": 1}}}}}}, True),
        ({"tenants": {"t": {"month": {"cost": 1}}}}, True),
        ({"models": {"m": {"month": {"cost": 0}}}}, True),
    ],
)
def test_it_is_known_whether_anything_is_limited_in_money(
    quota: dict[str, Any], money: bool
) -> None:
    assert QuotaConfig.model_validate(quota).counts_money is money
