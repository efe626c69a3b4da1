"""Places at deployments with limits."""

from typing import Any

from gateway.routing.capacity import (
    RANKS,
    WAITING_MAX,
    WINDOW_S,
    ConcurrencyLimiter,
    Limits,
    Permit,
)
from gateway.upstreams.plan import Attempt

A, B = Attempt("acme", "a-1"), Attempt("zeus", "z-1")
KEY = ("acme", "a-1")


def slots(**limits: Any) -> ConcurrencyLimiter:
    return ConcurrencyLimiter({KEY: Limits(**limits)})


def asked(
    of: ConcurrencyLimiter, priority: str, granted: list[str] | None = None, now: float = 0.0
) -> Permit:
    place = of.ask(A, RANKS[priority], now)
    assert place is not None
    if granted is not None:
        place.on_grant = lambda: granted.append(priority)
    return place


def test_a_deployment_without_limits_needs_no_place() -> None:
    assert slots(concurrency=1).ask(B, RANKS["standard"], 0.0) is None


def test_waiting_requests_are_served_by_priority_then_in_order() -> None:
    one = slots(concurrency=1)
    first = asked(one, "standard")
    assert first.granted
    order: list[str] = []
    waiting = [asked(one, p, order) for p in ("low", "standard", "priority", "standard")]
    assert not any(place.granted for place in waiting)
    holder = first
    for _ in waiting:
        one.give_back(holder, 1.0)
        (holder,) = (place for place in waiting if place.granted and not place.gone)
    assert order == ["priority", "standard", "standard", "low"]


def test_low_priority_leaves_places_for_voice() -> None:
    one = slots(concurrency=4)
    low = [asked(one, "low") for _ in range(4)]
    assert [place.granted for place in low] == [True, True, False, False]
    assert asked(one, "standard").granted
    assert asked(one, "priority").granted
    late = asked(one, "standard")
    assert not late.granted
    one.give_back(low[0], 1.0)
    assert [place.granted for place in (late, low[2])] == [True, False]


def test_who_stops_waiting_is_passed_over() -> None:
    one = slots(concurrency=1)
    first, gone, last = (asked(one, "standard") for _ in range(3))
    one.give_back(gone, 0.5)
    one.give_back(first, 1.0)
    assert not gone.granted
    assert last.granted
    one.give_back(last, 1.5)
    one.give_back(last, 1.5)  # twice does no harm
    assert asked(one, "standard").granted


def test_a_rate_opens_by_the_clock() -> None:
    one = slots(requests_per_minute=2)
    assert asked(one, "standard", now=0.0).granted
    assert asked(one, "standard", now=1.0).granted
    third = asked(one, "standard", now=2.0)
    assert not third.granted
    assert one.opens_at(third, 2.0) == WINDOW_S
    one.grant(KEY, WINDOW_S - 0.1)
    assert not third.granted
    one.grant(KEY, WINDOW_S)
    assert third.granted


def test_nobody_overtakes_those_who_wait() -> None:
    one = slots(concurrency=2)
    held = [asked(one, "standard") for _ in range(2)]
    waiting = asked(one, "standard")
    one.give_back(held[0], 1.0)
    assert waiting.granted
    assert not one.free(A, RANKS["standard"], 1.0)


def test_the_queue_is_bounded() -> None:
    one = slots(concurrency=1)
    asked(one, "standard")
    for _ in range(WAITING_MAX):
        assert not asked(one, "standard").gone
    assert asked(one, "standard").gone


def test_new_limits_hold_for_the_places_that_are_held_already() -> None:
    before = slots(concurrency=2)
    held = [asked(before, "standard") for _ in range(2)]
    after = ConcurrencyLimiter({KEY: Limits(concurrency=1)}, before)
    late = asked(after, "standard")
    before.give_back(held[0], 1.0)
    assert not late.granted
    before.give_back(held[1], 1.0)
    assert late.granted
    without = ConcurrencyLimiter({}, after)
    assert without.ask(A, RANKS["standard"], 2.0) is None
    after.give_back(late, 2.0)
