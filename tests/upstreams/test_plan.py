"""Who is left after a failure."""

from gateway.upstreams.errors import TREATMENT, Failure, Kind, error_body, presentable
from gateway.upstreams.plan import Attempt, after, only

A1, A2, B = Attempt("a", "1"), Attempt("a", "2"), Attempt("b", "1")


def test_a_failed_attempt_leaves_the_others():
    assert after(Failure(Kind.TIMEOUT, "late"), (A1, A2, B)) == (A2, B)


def test_a_failed_provider_takes_all_its_attempts_along():
    assert after(Failure(Kind.UPSTREAM_AUTH, "bad key"), (A1, A2, B)) == (B,)


def test_a_bad_request_leaves_nobody():
    assert after(Failure(Kind.BAD_REQUEST, "bad"), (A1, A2, B)) == ()


def test_nothing_is_left_of_nothing():
    assert after(Failure(Kind.TIMEOUT, "late"), ()) == ()


def test_a_pinned_provider_is_the_only_one():
    assert only("b", (A1, B, A2)) == (B,)


def test_every_kind_of_failure_has_a_treatment_and_none_is_499():
    assert set(TREATMENT) == set(Kind)
    assert 499 not in {treatment.status for treatment in TREATMENT.values()}


def test_an_error_body_has_openais_four_members():
    error = error_body(Failure(Kind.NOT_FOUND, "no such model", param="model"))["error"]
    assert error == {
        "message": "no such model",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_what_looks_like_a_credential_is_not_shown():
    for secret in ("sk-proj-abcdefghijkl", "Bearer abc123def456", "gsk_0123456789abcdef"):
        assert secret not in presentable(f"Incorrect key: {secret}.")
    assert presentable("Incorrect API key provided") == "Incorrect API key provided"
    assert presentable("Token authentication failed") == "Token authentication failed"
