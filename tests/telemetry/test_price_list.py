"""The price table that ships with the server."""

from datetime import date

import pytest

from gateway.settings.prices import Price
from gateway.telemetry.price_list import AS_OF, SHIPPED
from gateway.upstreams.provider import find, type_names


def test_it_is_dated() -> None:
    assert date.fromisoformat(AS_OF) >= date(2026, 11, 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_price_is_of_a_model_that_is_offered_and_is_one(name: str) -> None:
    vendor, _, model = name.partition(":")
    assert vendor in type_names()
    offered = {m for offer in find(vendor).offers.values() for m in offer.models.values()}
    assert model in offered
    assert SHIPPED[name] != Price()


def test_what_is_cached_is_never_dearer() -> None:
    for price in SHIPPED.values():
        assert price.cached_input is None or price.cached_input < price.input
        assert price.cache_write is None or price.cache_write > price.input
