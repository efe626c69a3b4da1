"""Segments of an utterance: what is unsaid, what is waited for, and who is asked next."""

from __future__ import annotations

from gateway.conversations.tts.protocol import Style
from gateway.conversations.tts.utterance import LookUpPending, Segment
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Failover, RetryPolicy
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

A, B, C = Attempt("acme", "one"), Attempt("zeus", "two"), Attempt("hera", "three")
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")


def segment(breaker: Breaker | None = None) -> Segment:
    plan = (A, B, C)
    policy = RetryPolicy(retry_same=False)
    return Segment(Style("x"), plan, Failover(plan, policy, breaker or Breaker(), 0.0))


def test_a_text_is_unsaid_until_a_synthesis_was_given_it() -> None:
    one = segment()
    assert not one.unsaid
    one.texts.append("One. ")
    assert one.unsaid
    one.next = 1
    assert not one.unsaid


def test_a_segment_waits_for_the_cache_or_for_a_pause() -> None:
    one = segment()
    assert one.waits_until is None
    one.retry_at = 2.0
    assert one.waits_until == 2.0
    one.lookup = LookUpPending("key", 1.0)
    assert one.waits_until == 1.0


def test_who_served_is_asked_first_for_the_next_text_and_the_others_come_after() -> None:
    one = segment()
    one.failover.next(0.0)
    one.failover.failed(A, BROKEN, 0.0)
    assert one.failover.next(0.0) == B
    one.served_by(B, 1.0)
    assert [one.failover.next(1.0) for _ in range(3)] == [B, A, C]


def test_a_segment_that_begins_anew_goes_by_its_whole_plan() -> None:
    one = segment()
    for attempt in (A, B, C):
        one.failover.next(0.0)
        one.failover.failed(attempt, BROKEN, 0.0)
    assert one.failover.next(0.0) is None
    one.replan(0.0)
    assert one.failover.next(0.0) == A


def test_success_is_told_to_the_breaker() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(B, BROKEN, 0.0)
    segment(breaker).served_by(B, 1.0)
    assert not breaker.resting(B, 1.0)
