"""Names of requests."""

from __future__ import annotations

import pytest

from gateway.upstreams.dial import Dial
from gateway.upstreams.request_ids import HEADER, named, told_id


def test_a_provider_is_told_our_name_and_nothing_else_changes() -> None:
    dial = Dial("https://a/v1", {"authorization": "Bearer k"}, body=b"{}")
    told = named(dial, "req_1")
    assert told.headers == {"authorization": "Bearer k", HEADER: "req_1"}
    assert (told.url, told.body) == (dial.url, dial.body)
    assert HEADER not in dial.headers


def test_an_adapters_own_name_stays_and_without_one_nothing_is_said() -> None:
    dial = Dial("https://a", {HEADER: "own"})
    assert named(dial, "req_1") is dial
    assert named(Dial("https://a"), "").headers == {}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-request-id": "req_a"}, "req_a"),
        ({"request-id": "req_b"}, "req_b"),
        ({"dg-request-id": "c-1"}, "c-1"),
        ({"x-request-id": "", "apim-request-id": "d"}, "d"),
        ({"x-request-id": "two words"}, None),
        ({"x-request-id": "x" * 129}, None),
        ({}, None),
    ],
)
def test_a_providers_own_name_is_one_that_a_log_can_hold(
    headers: dict[str, str], told: str | None
) -> None:
    assert told_id(headers) == told
