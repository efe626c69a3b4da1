"""Who is asked next, and when nobody is left."""

import pytest

from gateway.routing.breaker import Breaker
from gateway.routing.failover import Exhausted, Failover, Retry, RetryPolicy
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan

A, A2, B = Attempt("acme", "a-1"), Attempt("acme", "a-2"), Attempt("zeus", "z-1")
ONCE = RetryPolicy(retry_same=False)
ERROR = Failure(Kind.UPSTREAM_ERROR, "broken")
LOST = Failure(Kind.CONNECTION_LOST, "lost")
KEY = Failure(Kind.UPSTREAM_AUTH, "key")


def of(plan: Plan = (A, B), policy: RetryPolicy = ONCE, breaker: Breaker | None = None) -> Failover:
    return Failover(plan, policy, breaker or Breaker(), 0.0)


def test_a_plan_is_gone_through_in_order_and_then_exhausted() -> None:
    failover = of()
    assert failover.next(0.0) == A
    assert failover.failed(A, ERROR, 1.0) == Retry(1.0)
    assert failover.next(1.0) == B
    assert failover.failed(B, ERROR, 2.0) == Exhausted(ERROR)
    assert failover.next(2.0) is None


def test_what_rests_is_asked_last() -> None:
    breaker = Breaker()
    breaker.failed(A, KEY, 0.0)
    assert of(breaker=breaker).next(0.0) == B


def test_what_is_free_is_asked_before_what_is_full() -> None:
    assert of().next(0.0, free=lambda attempt: attempt == B) == B
    assert of().next(0.0, free=lambda attempt: False) == A


def test_a_second_next_is_the_hedge_beside_the_first() -> None:
    failover = of((A, A2, B))
    assert (failover.next(0.0), failover.next(0.5)) == (A, A2)
    assert failover.failed(A, ERROR, 1.0) == Retry(1.0)
    assert failover.next(1.0) == B


def test_a_refused_key_takes_the_providers_other_deployments_along() -> None:
    failover = of((A, A2, B))
    failover.next(0.0)
    failover.failed(A, KEY, 0.0)
    assert failover.next(0.0) == B


def test_a_request_that_every_provider_would_refuse_is_over_at_once() -> None:
    failover = of()
    failover.next(0.0)
    bad = Failure(Kind.BAD_REQUEST, "bad")
    assert failover.failed(A, bad, 0.0) == Exhausted(bad)


@pytest.mark.parametrize(("asks", "left"), [(True, Retry(0.0)), (False, None)])
def test_a_policys_refusal_is_final_unless_the_operator_says_otherwise(
    asks: bool, left: object
) -> None:
    failover = of(policy=RetryPolicy(retry_content_policy=asks))
    failover.next(0.0)
    refused = Failure(Kind.CONTENT_POLICY, "no")
    assert failover.failed(A, refused, 0.0) == (left or Exhausted(refused))


def test_a_lost_connection_is_opened_anew_once_before_anybody_else_is_asked() -> None:
    failover = of(policy=RetryPolicy())
    failover.next(0.0)
    assert failover.failed(A, LOST, 1.0) == Retry(1.0)
    assert failover.next(1.0) == A
    assert failover.failed(A, LOST, 2.0) == Retry(2.0)
    assert failover.next(2.0) == B


def test_what_may_pass_is_asked_again_in_rounds_with_longer_pauses() -> None:
    failover = of((A, B), RetryPolicy(rounds=3, retry_same=False))
    at = 0.0
    for pause_s in (0.25, 0.5):
        for attempt in (A, B):
            assert failover.next(at) == attempt
            outcome = failover.failed(attempt, ERROR, at)
        assert outcome == Retry(at + pause_s)
        at += pause_s
    assert (failover.next(at), failover.next(at)) == (A, B)
    failover.failed(A, ERROR, at)
    assert failover.failed(B, ERROR, at) == Exhausted(ERROR)


def test_what_failed_for_good_is_not_in_the_next_round() -> None:
    failover = of((A, B), RetryPolicy(rounds=2, retry_same=False))
    failover.next(0.0)
    failover.failed(A, KEY, 0.0)
    failover.next(0.0)
    assert failover.failed(B, ERROR, 0.0) == Retry(0.25)
    assert failover.next(0.25) == B
    assert failover.next(0.25) is None


def test_a_short_wish_to_wait_is_kept_and_a_long_one_is_not_waited_for() -> None:
    failover = of((A, B), RetryPolicy(rounds=2, retry_same=False))
    failover.next(0.0)
    failover.failed(A, Failure(Kind.RATE_LIMITED, "x", retry_after_s=1.5), 0.0)
    failover.next(0.0)
    assert failover.failed(B, Failure(Kind.RATE_LIMITED, "x", retry_after_s=9), 0.0) == Retry(1.5)
    assert failover.next(1.5) == A
    assert failover.next(1.5) is None


def test_a_deployment_that_is_alone_is_asked_again_where_its_failure_says_so() -> None:
    policy = RetryPolicy(rounds=5, rounds_alone=2, retry_same=False)
    failover = of((A,), policy)
    failover.next(0.0)
    assert failover.failed(A, ERROR, 0.0) == Exhausted(ERROR)
    failover = of((A,), policy)
    failover.next(0.0)
    again = Failure(Kind.UPSTREAM_ERROR, "x", retry_same_after_s=0.25)
    assert failover.failed(A, again, 0.0) == Retry(0.25)
    assert failover.next(0.25) == A
    assert failover.failed(A, again, 0.3) == Exhausted(again)


def test_who_has_served_finds_the_whole_budget_again() -> None:
    failover = of((A, B), RetryPolicy(rounds=2))
    failover.next(0.0)
    failover.failed(A, LOST, 0.0)
    failover.next(0.0)
    failover.served(A)
    assert failover.failed(A, LOST, 9.0) == Retry(9.0)
    assert failover.next(9.0) == A


def test_the_operators_troubles_are_told_last() -> None:
    failover = of()
    failover.next(0.0)
    failover.failed(A, ERROR, 0.0)
    failover.next(0.0)
    assert failover.failed(B, KEY, 0.0) == Exhausted(ERROR)


def test_another_form_of_the_same_question_comes_before_all_others() -> None:
    failover = of()
    first = failover.next(0.0)
    assert first is not None
    plain = Attempt("acme", "a-1", {"verbosity": None})
    failover.instead(plain)
    assert failover.next(0.0) == plain
    assert failover.next(0.0) == B


def test_a_new_plan_is_gone_by_at_once_and_forgives() -> None:
    failover = of()
    failover.next(0.0)
    failover.failed(A, KEY, 0.0)
    failover.replan((A, A2), 1.0)
    assert (failover.next(1.0), failover.next(1.0)) == (A, A2)


def test_it_is_known_whether_somebody_else_would_be_asked() -> None:
    failover = of((A, B), RetryPolicy(rounds=2, retry_same=False))
    failover.next(0.0)
    assert failover.has_others(A)
    failover.failed(A, ERROR, 0.0)
    failover.next(0.0)
    assert failover.has_others(B), "the first is asked again in the next round"
    failover.failed(B, ERROR, 0.0)
    failover.next(1.0)
    failover.failed(A, ERROR, 1.0)
    failover.next(1.0)
    assert not failover.has_others(B)


def test_who_was_let_go_without_a_failure_is_asked_after_the_others() -> None:
    failover = of((A, A2, B))
    failover.next(0.0)
    failover.later(A)
    assert [failover.next(0.0) for _ in range(3)] == [A2, B, A]


def test_a_deployment_that_is_alone_is_asked_again_where_the_policy_says_so() -> None:
    policy = RetryPolicy(rounds_alone=2, retry_same=False, retry_alone=True)
    failover = of((A,), policy)
    failover.next(0.0)
    assert failover.failed(A, ERROR, 0.0) == Retry(0.25)
    assert failover.next(0.25) == A
    assert failover.failed(A, ERROR, 0.3) == Exhausted(ERROR)


STREAM = RetryPolicy(rounds=2, rounds_alone=2, ask_others_always=True)


def test_a_stream_whose_last_attempt_has_served_goes_back_to_those_before_it() -> None:
    failover = of(policy=STREAM)
    failover.next(0.0)
    failover.failed(A, ERROR, 0.0, opened=False)
    assert failover.next(0.0) == B
    failover.serving(B)
    assert failover.failed(B, ERROR, 9.0, opened=False) == Retry(9.0)
    assert failover.next(9.0) == A


def test_what_failed_for_good_is_not_there_again_when_another_has_served() -> None:
    failover = of((A, B), STREAM)
    failover.next(0.0)
    failover.failed(A, KEY, 0.0)
    failover.next(0.0)
    failover.serving(B)
    assert failover.others(B, 9.0) == ()


def test_the_others_of_the_plan_are_told_in_order_and_stay_there() -> None:
    breaker = Breaker()
    failover = of((A, A2, B), STREAM, breaker)
    breaker.failed(A2, Failure(Kind.UPSTREAM_NOT_FOUND, "x"), 0.0)
    assert failover.others(A, 0.0) == (B, A2)
    assert failover.next(0.0) == A


def test_who_rests_is_asked_last_when_the_one_in_use_fails() -> None:
    breaker = Breaker()
    failover = of((A, A2, B), STREAM, breaker)
    failover.next(0.0)
    failover.serving(A)
    breaker.failed(A2, Failure(Kind.UPSTREAM_NOT_FOUND, "x"), 0.0)
    failover.failed(A, ERROR, 1.0, opened=False)
    assert failover.next(1.0) == B


def test_the_breaker_is_told_by_served_and_not_by_serving() -> None:
    breaker = Breaker()
    failover = of(breaker=breaker)
    breaker.failed(A, KEY, 0.0)
    failover.serving(A)
    assert breaker.resting(A, 1.0)
    failover.served(A)
    assert not breaker.resting(A, 1.0)


def test_a_connection_that_was_never_there_is_not_opened_anew_at_once() -> None:
    failover = of(policy=RetryPolicy())
    failover.next(0.0)
    failover.failed(A, LOST, 1.0, opened=False)
    assert failover.next(1.0) == B


def test_a_stream_asks_others_even_after_what_every_provider_would_refuse() -> None:
    failover = of(policy=STREAM)
    failover.next(0.0)
    assert failover.failed(A, Failure(Kind.INTERNAL, "x"), 0.0) == Retry(0.0)
    assert failover.next(0.0) == B


def test_a_deployment_that_fails_for_good_in_the_end_is_not_promised_another_round() -> None:
    failover = of((A,), STREAM)
    failover.next(0.0)
    assert failover.failed(A, LOST, 0.0) == Retry(0.0)
    failover.next(0.0)
    assert failover.failed(A, KEY, 0.0) == Exhausted(LOST)
