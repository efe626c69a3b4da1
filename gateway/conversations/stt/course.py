"""Whom a session asks next: the attempts that are left, and what a failure leaves of them. Pure."""

from __future__ import annotations

from typing import Final

from gateway.routing.breaker import Breaker
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, Plan, left_after

SERVED_S: Final = 10.0
"""A line that lived so long, or gave a final, has served: the budget of retries is whole again."""

BACKOFF_S: Final = 0.25
BACKOFF_S_MAX: Final = 2.0
"""Between two rounds through the plan; it doubles."""


class Course:
    """The way through a plan, round after round. `left` is the attempt in use and those after."""

    def __init__(self, health: Breaker, retries: int) -> None:
        self._health = health
        self._plan: Plan = ()
        self._banned: set[tuple[str, str]] = set()
        self._rounds = 0
        self._again = False
        self.left: Plan = ()
        self.retries = retries

    def begin(self, plan: Plan, now: float) -> None:
        """Go by this plan."""
        self.replan(plan)
        self.left = self.ordered(plan, now)

    def replan(self, plan: Plan) -> None:
        """Go by this plan once what is left is used up."""
        self._plan = plan
        self._banned.clear()

    def ordered(self, plan: Plan, now: float) -> Plan:
        """`plan` with providers that are resting last."""
        return self._health.order(plan, now)

    def served(self) -> None:
        """The attempt in use was of use: the budget of retries is whole."""
        self._rounds, self._again = 0, False

    def failed(
        self, attempt: Attempt, failure: Failure, *, was_ready: bool, now: float
    ) -> float | None:
        """Seconds until the first of `left` is to be asked; None: there is nobody to ask."""
        left = left_after(failure, attempt, self.left[1:])
        if not failure.policy.passing:
            self._banned.add((attempt.provider, attempt.model))
        if failure.policy.retry_same and was_ready and not self._again:
            self._again = True
            left = (attempt, *left)
        left = self._usable(left)
        if left:
            self.left = left
            return 0.0
        self._rounds += 1
        left = self.ordered(self._usable(self._plan), now)
        if not left or self._rounds > self.retries:
            return None
        self.left = left
        return float(min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** (self._rounds - 1)))

    def _usable(self, plan: Plan) -> Plan:
        return tuple(a for a in plan if (a.provider, a.model) not in self._banned)
