"""The one table of failures, and what is shown of them."""

import pytest

from gateway.upstreams.errors import (
    POLICY,
    Blame,
    Failure,
    FailureScope,
    Kind,
    Rest,
    error_body,
    kind_of_status,
    presentable,
)


def test_every_kind_of_failure_has_a_row_and_none_is_499() -> None:
    assert set(POLICY) == set(Kind)
    assert 499 not in {row.status for row in POLICY.values()}


def test_what_the_operator_alone_can_mend_rests_and_does_not_pass() -> None:
    for kind, row in POLICY.items():
        if row.blame is Blame.OPERATOR and kind is not Kind.NO_ROUTE:
            assert row.rest in (Rest.DEPLOYMENT, Rest.PROVIDER), kind
            assert not row.passing, kind


def test_a_callers_fault_says_nothing_about_a_deployment() -> None:
    assert all(row.rest is Rest.NOTHING for row in POLICY.values() if row.blame is Blame.CALLER)


@pytest.mark.parametrize("status", [406, 407, 411, 412, 415, 418, 421, 425, 426, 431, 451, 494])
def test_a_status_that_nobody_listed_is_a_refusal_that_another_provider_may_not_share(
    status: int,
) -> None:
    kind = kind_of_status(status)
    assert kind is Kind.UPSTREAM_REFUSED
    assert POLICY[kind].scope is FailureScope.ATTEMPT


def test_a_provider_that_is_not_where_it_is_said_to_be_is_the_operators_to_mend() -> None:
    row = POLICY[kind_of_status(404)]
    assert (row.status, row.blame, row.rest) == (502, Blame.OPERATOR, Rest.DEPLOYMENT)


@pytest.mark.parametrize("status", [500, 502, 599, 600, 999, 302])
def test_all_else_is_the_providers_error(status: int) -> None:
    assert kind_of_status(status) is Kind.UPSTREAM_ERROR


def test_an_error_body_has_openais_four_members() -> None:
    error = error_body(Failure(Kind.NOT_FOUND, "no such model", param="model"))["error"]
    assert error == {
        "message": "no such model",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_what_looks_like_a_credential_is_not_shown() -> None:
    for secret in ("sk-proj-abcdefghijkl", "Bearer abc123def456", "gsk_0123456789abcdef"):
        assert secret not in presentable(f"Incorrect key: {secret}.")
    assert presentable("Incorrect API key provided") == "Incorrect API key provided"
    assert presentable("Token authentication failed") == "Token authentication failed"
