"""Which providers are resting after failures, given now. Shared by all sessions of a process."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.upstreams.errors import BLAMELESS, Failure, Kind
from gateway.upstreams.plan import Attempt, Plan

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

FIRST_TOKENS: Final = 64
"""Times to first content that a deployment's p95 is taken of; before there are FIRST_TOKENS_MIN,
there is none."""

FIRST_TOKENS_MIN: Final = 20

UNKNOWN_MAX: Final = 256
"""Deployments that no route names (a caller may ask for any model by its provider's prefix) and
that are remembered all the same; the one longest without news is forgotten."""

WHOLE_PROVIDER: Final = "*"
"""In place of a model: what holds for every model of a provider."""

Key = tuple[str, str]


@dataclass(slots=True)
class _State:
    failures_in_row: int = 0
    rest_s: float = REST_S
    resting_until: float = 0.0
    probing: bool = False
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    first_tokens: deque[float] = field(default_factory=lambda: deque(maxlen=FIRST_TOKENS))


class Breaker:
    """A circuit breaker for each deployment (provider, model). `now` is the caller's clock.

    A deployment rests after FAILURES_TO_REST failures in a row, at an error share of ERROR_SHARE,
    for a `Retry-After`, while its rate-limit headers say that nothing is left, or long after it
    was refused (403, 404). A key that is refused or an account that is empty rests the whole
    provider. When a rest is over, one caller tries it (half-open); the others go on with the rest
    of their plan until that has succeeded.

    `known` are the deployments of the configuration and the catalogues; of others, UNKNOWN_MAX
    are remembered.
    """

    def __init__(self, known: Iterable[Key] = ()) -> None:
        self._known = frozenset(known)
        self._states: dict[Key, _State] = {}
        self._unknown: OrderedDict[Key, None] = OrderedDict()

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
        return any(now < state.resting_until for state in self._both(attempt))

    def began(self, attempt: Attempt, now: float) -> None:
        """An attempt is being made; after a rest it is the probe."""
        for state in self._both(attempt):
            if state.resting_until and now >= state.resting_until:
                state.probing = True

    def ended(self, attempt: Attempt, failure: Failure | None, now: float) -> bool:
        """An attempt has ended, well or in `failure`; True if a rest begins with it. What is the
        caller's fault is no failure of the deployment."""
        if failure is None or failure.kind in BLAMELESS:
            for state in self._both(attempt):
                state.recent.append(True)
                state.failures_in_row, state.probing = 0, False
                state.resting_until, state.rest_s = 0.0, REST_S
            return False
        whole = failure.kind is Kind.UPSTREAM_QUOTA or (
            # 403 may be about this one model, and callers choose models
            failure.kind is Kind.UPSTREAM_AUTH and failure.upstream_status != 403
        )
        state = self._state(attempt.provider, WHOLE_PROVIDER if whole else attempt.model)
        state.recent.append(False)
        state.failures_in_row += 1
        rest_s = self._rest(state, failure)
        self.dropped(attempt)
        if rest_s <= 0:
            return False
        begins = now >= state.resting_until
        state.resting_until = max(state.resting_until, now + rest_s)
        return begins

    def dropped(self, attempt: Attempt) -> None:
        """An attempt was let go before its end was known: somebody else may probe."""
        for state in self._both(attempt):
            state.probing = False

    def exhausted(self, attempt: Attempt, for_s: float, now: float) -> None:
        """The deployment has said that its rate limit leaves nothing for so long."""
        state = self._state(attempt.provider, attempt.model)
        state.resting_until = max(state.resting_until, now + min(for_s, REST_S_MAX))

    def spoke(self, attempt: Attempt, first_token_s: float) -> None:
        """The first content of an attempt came after so long."""
        self._state(attempt.provider, attempt.model).first_tokens.append(first_token_s)

    def first_token_p95_s(self, attempt: Attempt) -> float | None:
        """What 95 % of the deployment's recent first contents stayed under; None: too few yet."""
        state = self._states.get((attempt.provider, attempt.model))
        if state is None or len(state.first_tokens) < FIRST_TOKENS_MIN:
            return None
        ordered = sorted(state.first_tokens)
        return ordered[int(0.95 * (len(ordered) - 1))]

    def _usable(self, attempt: Attempt, now: float) -> bool:
        return all(
            now >= state.resting_until and not state.probing for state in self._both(attempt)
        )

    def _both(self, attempt: Attempt) -> list[_State]:
        """The deployment's state and its provider's, where there are any."""
        deployment = self._states.get((attempt.provider, attempt.model))
        provider = self._states.get((attempt.provider, WHOLE_PROVIDER))
        return [state for state in (deployment, provider) if state is not None]

    def _state(self, provider: str, model: str) -> _State:
        key = (provider, model)
        if key not in self._known and model != WHOLE_PROVIDER:
            self._unknown[key] = None
            self._unknown.move_to_end(key)
            if len(self._unknown) > UNKNOWN_MAX:
                self._states.pop(self._unknown.popitem(last=False)[0], None)
        return self._states.setdefault(key, _State())

    def _rest(self, state: _State, failure: Failure) -> float:
        if failure.kind in (Kind.UPSTREAM_AUTH, Kind.UPSTREAM_QUOTA, Kind.UPSTREAM_NOT_FOUND):
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
