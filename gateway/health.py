"""Which providers are resting after failures, given now. Shared by all sessions of a process."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import TREATMENT, Failure, Kind, Reach
from gateway.plan import Attempt, Plan

FAILURES_TO_REST: Final = 3
"""Consecutive failures after which a deployment rests."""

REST_S: Final = 5.0
"""First rest; it doubles while probes fail, up to REST_S_MAX."""

REST_S_MAX: Final = 60.0

LONG_REST_S: Final = 300.0
"""A refused key or an empty account does not mend itself in seconds."""

RECENT: Final = 20
"""Outcomes that an error share is taken of."""

ERROR_SHARE: Final = 0.5
"""Share of failures among the last RECENT outcomes at which a deployment rests."""


@dataclass(slots=True)
class _State:
    failures_in_row: int = 0
    rest_s: float = REST_S
    resting_until: float = 0.0
    probing: bool = False
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))


class Health:
    """A circuit breaker for each deployment (provider, model). `now` is the caller's clock.

    A deployment rests after FAILURES_TO_REST failures in a row, at an error share of ERROR_SHARE,
    for a `Retry-After`, or long after a refused key. When its rest is over, one caller tries it
    (half-open); the others go on with the rest of their plan until that has succeeded.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], _State] = {}

    def order(self, plan: Plan, now: float) -> Plan:
        """`plan` with what is likely to fail tried last: nothing is left out, since a resting
        provider is better than none."""
        if not self._states:
            return plan
        resting = [not self._usable(attempt, now) for attempt in plan]
        if not any(resting):
            return plan
        return tuple(a for a, rests in zip(plan, resting, strict=True) if not rests) + tuple(
            a for a, rests in zip(plan, resting, strict=True) if rests
        )

    def resting(self, attempt: Attempt, now: float) -> bool:
        """Whether the deployment rests now."""
        state = self._states.get((attempt.provider, attempt.model))
        return state is not None and now < state.resting_until

    def _usable(self, attempt: Attempt, now: float) -> bool:
        state = self._states.get((attempt.provider, attempt.model))
        return state is None or (now >= state.resting_until and not state.probing)

    def began(self, attempt: Attempt, now: float) -> None:
        """An attempt is being made; after a rest it is the probe."""
        state = self._states.get((attempt.provider, attempt.model))
        if state is not None and state.resting_until and now >= state.resting_until:
            state.probing = True

    def ended(self, attempt: Attempt, failure: Failure | None, now: float) -> None:
        """An attempt has ended, well or in `failure`. What is the caller's fault is no failure."""
        key = (attempt.provider, attempt.model)
        if failure is not None and TREATMENT[failure.kind].reach is Reach.REQUEST:
            failure = None
        state = self._states.get(key)
        if failure is None:
            if state is not None:
                state.recent.append(True)
                state.failures_in_row, state.probing = 0, False
                state.resting_until, state.rest_s = 0.0, REST_S
            return
        if state is None:
            state = self._states[key] = _State()
        state.recent.append(False)
        state.failures_in_row += 1
        rest_s = self._rest(state, failure)
        if rest_s > 0:
            state.resting_until = max(state.resting_until, now + rest_s)
            state.probing = False

    def _rest(self, state: _State, failure: Failure) -> float:
        if failure.kind in (Kind.UPSTREAM_AUTH, Kind.UPSTREAM_QUOTA):
            return LONG_REST_S
        if failure.retry_after_s:
            return failure.retry_after_s
        failed = state.recent.count(False)
        mostly_failing = len(state.recent) >= RECENT // 2 and failed >= ERROR_SHARE * len(
            state.recent
        )
        if state.probing or state.failures_in_row >= FAILURES_TO_REST or mostly_failing:
            rest_s, state.rest_s = state.rest_s, min(2 * state.rest_s, REST_S_MAX)
            return rest_s
        return 0.0
