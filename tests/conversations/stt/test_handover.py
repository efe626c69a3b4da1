"""When a connection is replaced, and by which."""

from dataclasses import dataclass

from gateway.conversations.stt.connection import Activity
from gateway.conversations.stt.handover import AGE_LEAD_S, CALM_S, HELD_MAX, POLICY, Handover
from gateway.routing.breaker import Breaker
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import Flushed
from tests.conversations.stt.play import ACME, ZEUS

NO = Failure(Kind.UNREACHABLE, "no")


@dataclass
class Next:
    is_ready: bool = False


def handover() -> Handover[Next, str]:
    return Handover(Breaker())


def moment(one: Handover[Next, str], now: float, *, busy: bool = False) -> float | None:
    """`Handover.moment`, where the last speech was at time 0."""
    return one.moment(Activity(0.0), busy=busy, now=now)


def test_nothing_is_done_before_it_is_wanted() -> None:
    one = handover()
    assert moment(one, 0.0) is None
    one.wish(5.0, 10.0)
    assert moment(one, 0.0) == 5.0
    assert moment(one, 6.0) == 5.0


def test_a_connection_is_replaced_before_its_greatest_age() -> None:
    one = handover()
    one.wish_before_age(600.0, 100.0, 100.0)
    assert (one.at, one.by) == (700.0 - AGE_LEAD_S, 700.0 - AGE_LEAD_S / 5)
    short = handover()
    short.wish_before_age(60.0, 0.0, 0.0)
    assert short.at == 54.0


def test_what_a_client_wants_is_not_put_off_until_the_greatest_age() -> None:
    one = handover()
    one.wish(1.0, 6.0, (ZEUS,))
    one.wish_before_age(600.0, 0.0, 0.0)
    assert (one.at, one.plan) == (1.0, (ZEUS,))


def test_a_wish_that_was_given_up_does_not_come_back_by_age() -> None:
    one = handover()
    one.wish_before_age(60.0, 0.0, 55.0)
    assert one.at is None


def test_the_next_connection_takes_over_in_a_calm_moment_or_at_the_latest() -> None:
    one = handover()
    one.wish(1.0, 6.0)
    one.prepare(Next())
    assert moment(one, 2.0) is None  # it is not ready
    one.prepare(Next(is_ready=True))
    assert moment(one, 2.0) == CALM_S
    assert moment(one, 2.0, busy=True) == 6.0


def test_while_an_old_connection_drains_there_is_no_next_step() -> None:
    one = handover()
    one.wish(1.0, 6.0)
    one.drain("old")
    assert moment(one, 2.0) is None
    one.drained()
    assert moment(one, 2.0) == 1.0


def test_it_goes_by_the_clients_plan_or_else_by_the_sessions() -> None:
    one = handover()
    one.wish(0.0, 6.0)
    assert one.first((ACME, ZEUS), 0.0) == ACME
    one.wish(0.0, 6.0, (ZEUS,))
    assert one.first((ACME, ZEUS), 0.0) == ZEUS


def test_a_wish_for_another_reason_keeps_the_plan_and_is_no_later() -> None:
    one = handover()
    one.wish(0.0, 6.0, (ZEUS,))
    one.wish(1.0, 60.0)
    assert (one.plan, one.by) == ((ZEUS,), 6.0)


def test_after_a_failure_the_next_attempt_is_made_at_once_and_then_without_haste() -> None:
    one = handover()
    one.wish(0.0, 6.0)
    one.first((ACME, ZEUS), 0.0)
    one.prepare(Next())
    assert one.next_failed(ACME, NO, 1.0) == ZEUS
    assert one.next_failed(ZEUS, NO, 2.0) is None
    assert one.next is None
    assert one.at == 2.0 + POLICY.backoff_s
    assert one.first((), 7.0) == ACME


def test_it_is_given_up_when_nobody_can_be_asked() -> None:
    one = handover()
    one.wish(0.0, 6.0, (ACME,))
    one.first((), 0.0)
    assert one.next_failed(ACME, Failure(Kind.UPSTREAM_AUTH, "key"), 1.0) is None
    assert one.at is None
    assert one.plan == ()


def test_taking_the_next_connection_fulfils_the_wish() -> None:
    one = handover()
    one.wish(0.0, 6.0, (ZEUS,))
    successor = Next(is_ready=True)
    one.prepare(successor)
    assert one.take_next() is successor
    assert (one.at, one.plan, one.next) == (None, (), None)


def test_words_of_the_new_connection_wait_for_the_old_ones_end() -> None:
    one = handover()
    one.drain("old")
    event = Flushed()
    one.hold(2, event)
    assert one.drained() == [(2, event)]
    assert one.old is None
    assert one.drained() == []


def test_words_that_wait_are_bounded_and_forgotten_with_their_connection() -> None:
    one = handover()
    for _ in range(HELD_MAX + 1):
        one.hold(2, Flushed())
    assert len(one.drained()) == HELD_MAX
    one.hold(2, Flushed())
    one.forget_held()
    assert one.drained() == []
