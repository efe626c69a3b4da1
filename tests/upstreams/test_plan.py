"""Who is left after a failure."""

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, left_after, only

A1, A2, B = Attempt("a", "1"), Attempt("a", "2"), Attempt("b", "1")


def test_a_failed_attempt_leaves_the_others() -> None:
    assert left_after(Failure(Kind.TIMEOUT, "late"), A1, (A2, B)) == (A2, B)


def test_a_failed_provider_takes_all_its_attempts_along() -> None:
    assert left_after(Failure(Kind.UPSTREAM_AUTH, "bad key"), A1, (A2, B)) == (B,)


def test_a_bad_request_leaves_nobody() -> None:
    assert left_after(Failure(Kind.BAD_REQUEST, "bad"), A1, (A2, B)) == ()


def test_nothing_is_left_of_nothing() -> None:
    assert left_after(Failure(Kind.TIMEOUT, "late"), A1, ()) == ()


def test_what_is_too_long_for_one_goes_where_there_may_be_more_room() -> None:
    small, same, big = (
        Attempt("a", m, context_tokens=n) for m, n in (("s", 8), ("t", 8), ("b", 32))
    )
    failure = Failure(Kind.CONTEXT_LENGTH, "too long")
    assert left_after(failure, small, (same, big, B)) == (big, B)


def test_a_pinned_provider_is_the_only_one() -> None:
    assert only("b", (A1, B, A2)) == (B,)
