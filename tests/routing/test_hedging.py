"""How often a second deployment may be asked beside a silent first one."""

from __future__ import annotations

from gateway.routing.hedging import SAVED_MAX, HedgeBudget


def spent(budget: HedgeBudget) -> int:
    """How many hedges it grants at once."""
    return next(n for n in range(100) if not budget.spend())


def test_the_first_silent_deployment_may_be_hedged() -> None:
    assert spent(HedgeBudget(0.25)) == 1


def test_a_quarter_of_the_requests_may_be_asked_twice() -> None:
    budget = HedgeBudget(0.25)
    granted = 0
    for _ in range(400):
        budget.earn()
        granted += budget.spend()
    assert granted == 101  # the one it began with


def test_a_hedge_that_was_needed_does_not_count() -> None:
    budget = HedgeBudget(0.25)
    assert budget.spend()
    budget.refund()
    assert budget.spend()
    assert not budget.spend()


def test_a_budget_may_begin_with_more() -> None:
    assert spent(HedgeBudget(0.25, 5.0)) == 5


def test_a_quiet_day_does_not_save_up_for_a_storm() -> None:
    budget = HedgeBudget(1.0)
    for _ in range(1000):
        budget.earn()
    assert spent(budget) == SAVED_MAX
