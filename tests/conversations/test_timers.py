"""One table of deadlines."""

from collections.abc import Callable

from gateway.conversations.timers import Timers


def run(timers: Timers[Callable[[], None]], now: float) -> None:
    for act in timers.due(now):
        act()


def test_the_deadline_is_the_earliest_moment_whatever_is_set_moved_or_cleared() -> None:
    timers: Timers[str] = Timers()
    assert timers.earliest is None
    timers.set("a", 5.0, "A")
    timers.set("b", 3.0, "B")
    assert timers.earliest == 3.0
    timers.set("b", 9.0, "B")
    assert timers.earliest == 5.0
    timers.clear("a", "never set")
    assert timers.earliest == 9.0
    timers.set("b", None, "B")
    assert timers.earliest is None


def test_exactly_what_is_due_is_given_in_order_of_time_and_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 2.0, "late")
    timers.set("early", 1.0, "early")
    timers.set("later", 3.0, "later")
    assert list(timers.due(2.0)) == ["early", "late"]
    assert list(timers.due(2.0)) == []
    assert timers.earliest == 3.0


def test_what_an_earlier_act_clears_is_not_done() -> None:
    timers: Timers[Callable[[], None]] = Timers()
    told: list[str] = []
    timers.set("first", 1.0, lambda: timers.clear("second"))
    timers.set("second", 2.0, lambda: told.append("second"))
    run(timers, 5.0)
    assert told == []
    assert timers.earliest is None


def test_what_is_set_anew_meanwhile_waits_for_the_next_call() -> None:
    timers: Timers[Callable[[], None]] = Timers()
    told: list[str] = []

    def again() -> None:
        told.append("again")
        timers.set("it", 6.0, again)

    timers.set("it", 1.0, again)
    run(timers, 5.0)
    assert told == ["again"]
    assert timers.earliest == 6.0


def test_a_moment_that_has_moved_later_is_waited_for() -> None:
    timers: Timers[str] = Timers()
    heard_at = 0.0
    timers.follow("idle", lambda: heard_at + 10.0, "idle")
    heard_at = 4.0
    assert timers.earliest == 10.0
    assert list(timers.due(10.0)) == []
    assert timers.earliest == 14.0
    assert list(timers.due(14.0)) == ["idle"]


def test_a_moment_that_does_not_come_any_more_is_forgotten() -> None:
    timers: Timers[str] = Timers()
    moment: float | None = 1.0
    timers.follow("flush", lambda: moment, "flush")
    moment = None
    assert list(timers.due(1.0)) == []
    assert "flush" not in timers


def test_clearing_all_leaves_no_deadline() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0, "A")
    timers.clear_all()
    assert timers.earliest is None
    assert list(timers.due(9.0)) == []
