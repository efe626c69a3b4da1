"""What a model cannot do is not asked of it twice."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.routing.abilities import (
    DEPLOYMENTS_MAX,
    REMEMBERED_S,
    Abilities,
    Needs,
    needs_of,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

A, B = Attempt("acme", "small"), Attempt("zeus", "large")
PICTURE = Needs(frozenset({"images"}))
REFUSED = Failure(Kind.UNABLE, "image input is not supported", upstream_status=500)


def test_a_refusal_is_remembered_for_those_who_need_the_same_and_for_a_while() -> None:
    abilities = Abilities()
    abilities.learn(A, REFUSED, PICTURE, 0.0)
    assert abilities.order((A, B), PICTURE, 1.0) == (B, A)
    assert abilities.order((A, B), Needs(), 1.0) == (A, B)
    assert abilities.order((A, B), PICTURE, REMEMBERED_S) == (A, B)


def test_the_ability_that_a_refusal_names_is_the_one_that_lacks() -> None:
    abilities = Abilities()
    both = Needs(frozenset({"images", "tools"}))
    abilities.learn(A, replace(REFUSED, message="gemma does not support tools"), both, 0.0)
    assert abilities.order((A, B), PICTURE, 1.0) == (A, B)
    assert abilities.order((A, B), Needs(frozenset({"tools"})), 1.0) == (B, A)


def test_a_window_that_was_too_small_is_not_asked_for_as_much_again() -> None:
    abilities = Abilities()
    abilities.learn(A, Failure(Kind.CONTEXT_LENGTH, "x"), Needs(tokens=5000), 0.0)
    assert abilities.order((A, B), Needs(tokens=6000), 1.0) == (B, A)
    assert abilities.order((A, B), Needs(tokens=4000), 1.0) == (A, B)


def test_what_the_configuration_denies_is_not_asked_at_all() -> None:
    blind = replace(A, abilities=frozenset({"tools"}))
    assert Abilities().order((blind, B), PICTURE, 0.0) == (B,)
    refused = Abilities().order((blind,), PICTURE, 0.0)
    assert isinstance(refused, Failure)
    assert "images" in refused.message


def test_what_is_remembered_is_bounded() -> None:
    abilities = Abilities()
    for i in range(2 * DEPLOYMENTS_MAX):
        abilities.learn(Attempt("acme", f"m{i}"), REFUSED, PICTURE, 0.0)
    assert len(abilities._facts) == DEPLOYMENTS_MAX


@pytest.mark.parametrize(
    ("body", "abilities"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [{}]}, {"tools"}),
        ({"response_format": {"type": "json_schema"}}, {"json_schema"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": 5}, set()),
    ],
)
def test_what_a_request_needs_is_read_from_its_body(
    body: dict[str, Any], abilities: set[str]
) -> None:
    assert needs_of(body, 3000, images=False) == Needs(frozenset(abilities), 1000)
