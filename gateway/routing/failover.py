"""Who is asked next: one engine for chat, stt and tts. Pure.

    failover = Failover(plan, policy, breaker, now)
    attempt = failover.next(now)                       # the first; again for a hedge beside it
    match failover.failed(attempt, failure, now):
        case Retry(at): ...                            # at `at`: failover.next(now)
        case Exhausted(failure): ...                   # nobody is left: tell this failure
    failover.served(attempt)                           # it was of use: the budget is whole again
    failover.serving(attempt)                          # the same, where the breaker knows already

A plan is gone through in rounds. Within a round each deployment is asked once, and once more at
once where a fresh connection may do. Only failures that may pass are asked again in the next
round, after a pause; what failed for good is not asked again by this session.

A stream that is served for hours tells which attempt serves it (`serving`): when that one fails,
all others of the plan are there again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.routing.breaker import Breaker
from gateway.upstreams.errors import Blame, Failure, FailureScope, Kind
from gateway.upstreams.plan import Attempt, Deployment, Plan, left_after


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How persistent a session is.

    `rounds`: times the plan is gone through, at least 1. `rounds_alone`: the same where the plan
    has one deployment only. `backoff_s`: pause before the second round; it doubles, up to
    `backoff_max_s`. A deployment whose `Retry-After` is longer than that is not asked again.
    `retry_same`: whether a lost connection (`FailurePolicy.retry_same`) is opened anew at once;
    without it a deployment that is alone is asked again only where its failure says so
    (`Failure.retry_same_after_s`), or with `retry_alone`.
    `retry_content_policy`: whether others are asked when one refuses by its content policy.
    `ask_others_always`: whether others are asked even after a failure that says every provider
    would fail alike (`FailureScope.REQUEST`); for streams whose requests the gateway words itself.
    """

    rounds: int = 1
    rounds_alone: int = 1
    backoff_s: float = 0.25
    backoff_max_s: float = 2.0
    retry_same: bool = True
    retry_alone: bool = False
    retry_content_policy: bool = False
    ask_others_always: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Call `next` at this moment (seconds, the clock of the session)."""

    at: float


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nobody is left to ask; `failure` is what the caller is told."""

    failure: Failure


FAILURES_KEPT: Final = 64
"""Failures of one request that are compared when it is told which; more are forgotten."""


def _always(_: Attempt) -> bool:
    return True


class Failover:
    """The way of one request, or one session's stream, through its plan."""

    def __init__(self, plan: Plan, policy: RetryPolicy, breaker: Breaker, now: float) -> None:
        self._policy = policy
        self._breaker = breaker
        self._plan = plan
        self._alone = _alone(plan)
        self._left = breaker.order(plan, now)
        self._to_order = False  # `_left` is in the plan's order: the breaker has not been asked
        self._round = 1
        self._again: set[Deployment] = set()  # asked twice in this round already
        self._for_good: set[Deployment] = set()
        self._passed: list[tuple[Attempt, Failure]] = []  # of this round, that may pass
        self._failures: list[Failure] = []

    @property
    def left(self) -> Plan:
        """Who is still to be asked in this round, in order."""
        return self._left

    def has_others(self, attempt: Attempt) -> bool:
        """Whether somebody else would be asked, in this round or the next, if `attempt` failed."""
        if self._left and any(other != attempt for other in self._left):
            return True
        more = self._passed and self._round < self._rounds
        return bool(more) and any(other != attempt for other, _ in self._passed)

    def next(self, now: float, *, free: Callable[[Attempt], bool] = _always) -> Attempt | None:
        """Take the next attempt: the first that is `free`, else the first. None: nobody is left in
        this round. Call it when `Retry` says, or earlier for a hedge."""
        self._order(now)
        if not self._left and self._passed:
            self._begin_round(now)
        if not self._left:
            return None
        chosen = next((attempt for attempt in self._left if free(attempt)), self._left[0])
        at = self._left.index(chosen)
        self._left = (*self._left[:at], *self._left[at + 1 :])
        return chosen

    def served(self, attempt: Attempt) -> None:
        """`attempt` was of use: failures from now on find the whole budget of retries."""
        self.serving(attempt)
        self._breaker.worked(attempt)

    def serving(self, attempt: Attempt) -> None:
        """As `served`, but the breaker is told elsewhere: `attempt` is in use. If it fails, all
        others of the plan may be asked, those before it included."""
        self._round = 1
        self._again.clear()
        self._passed.clear()
        self._failures.clear()
        self._left = self._others(attempt)
        self._to_order = True

    def others(self, attempt: Attempt, now: float) -> Plan:
        """Who could serve in place of `attempt`, in order; nothing is taken."""
        return self._breaker.order(self._others(attempt), now)

    def failed(
        self, attempt: Attempt, failure: Failure, now: float, *, opened: bool = True
    ) -> Retry | Exhausted:
        """`attempt` ended in `failure`, which the caller of this has told the breaker. `opened`:
        whether its connection had been established; only then is it opened anew at once."""
        self._order(now)
        if len(self._failures) < FAILURES_KEPT:
            self._failures.append(failure)
        if not self._others_are_asked(failure):
            self._left = left_after(failure, attempt, self._left)
        if not failure.policy.passing:
            self._for_good.add(attempt.deployment)
            self._passed = [one for one in self._passed if one[0].deployment != attempt.deployment]
        elif self._worth_another_round(failure):
            self._passed.append((attempt, failure))
        if self._same_again(attempt, failure, opened=opened):
            self._left = (attempt, *self._left)
            return Retry(now)
        if self._left:
            return Retry(now)
        if (again := self._next_round(now)) is not None:
            return again
        self._passed.clear()
        return Exhausted(self._tellable(failure))

    def instead(self, attempt: Attempt) -> None:
        """Ask `attempt` before all others: the same deployment, asked in another way."""
        self._left = (attempt, *self._left)

    def later(self, attempt: Attempt) -> None:
        """Ask `attempt` after all others of this round: it was let go without having failed."""
        self._left = (*self._left, attempt)

    def replan(self, plan: Plan, now: float) -> None:
        """Go by this plan from now on; what failed for good before may be asked again."""
        self._plan = plan
        self._alone = _alone(plan)
        self._for_good.clear()
        self._passed.clear()
        self._left = self._breaker.order(plan, now)
        self._to_order = False

    def _others(self, attempt: Attempt) -> Plan:
        return tuple(
            one
            for one in self._plan
            if one.deployment != attempt.deployment and one.deployment not in self._for_good
        )

    def _order(self, now: float) -> None:
        if self._to_order:
            self._left = self._breaker.order(self._left, now)
            self._to_order = False

    def _others_are_asked(self, failure: Failure) -> bool:
        """Whether others are asked although this says that every provider would fail alike."""
        if failure.policy.scope is not FailureScope.REQUEST:
            return False
        policy = self._policy
        by_content = failure.kind is Kind.CONTENT_POLICY and policy.retry_content_policy
        return policy.ask_others_always or by_content

    def _same_again(self, attempt: Attempt, failure: Failure, *, opened: bool) -> bool:
        """Whether the same deployment is asked once more at once."""
        wished = failure.retry_same_after_s == 0.0
        lost = opened and self._policy.retry_same and failure.policy.retry_same
        passing = failure.policy.passing
        if not passing or not (wished or lost) or attempt.deployment in self._again:
            return False
        self._again.add(attempt.deployment)
        return True

    def _worth_another_round(self, failure: Failure) -> bool:
        if (failure.retry_after_s or 0.0) > self._policy.backoff_max_s:
            return False
        if self._alone and not (self._policy.retry_same or self._policy.retry_alone):
            return failure.retry_same_after_s is not None
        return True

    @property
    def _rounds(self) -> int:
        return self._policy.rounds_alone if self._alone else self._policy.rounds

    def _next_round(self, now: float) -> Retry | None:
        if self._round >= self._rounds or not self._passed:
            return None
        pause_s = self._policy.backoff_s * 2.0 ** (self._round - 1)
        wish_s = min(failure.retry_after_s or 0.0 for _, failure in self._passed)
        return Retry(now + max(min(pause_s, self._policy.backoff_max_s), wish_s))

    def _begin_round(self, now: float) -> None:
        self._round += 1
        self._again.clear()
        once = {attempt.deployment: attempt for attempt, _ in self._passed}
        self._passed.clear()
        usable = (a for a in once.values() if a.deployment not in self._for_good)
        self._left = self._breaker.order(tuple(usable), now)

    def _tellable(self, failure: Failure) -> Failure:
        """What may pass before what will not, since a caller may come again; of refusals the
        first, since the first deployment is the one that was asked for; what only the operator
        can mend last."""
        theirs = [one for one in self._failures if one.policy.blame is not Blame.OPERATOR]
        passing = [one for one in theirs if one.policy.passing]
        if passing:
            return passing[-1]
        return theirs[0] if theirs else failure


def _alone(plan: Plan) -> bool:
    return len({attempt.deployment for attempt in plan}) == 1
