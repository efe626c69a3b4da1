"""The circuit breaker: which deployments rest after failures. One for each process. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from gateway.upstreams.errors import Failure, Kind, Rest
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

TTFT_SAMPLES: Final = 64
"""TTFT samples kept for each deployment."""

TTFT_SAMPLES_MIN: Final = 20
"""No p95 below so many samples."""

REPLAY_SAMPLES_MIN: Final = 5
"""The same for replays, which are rare."""

UNKNOWN_MAX: Final = 256
"""States kept for what no route names (callers may ask for any model by its provider's prefix, and
for any voice); the one longest without news is forgotten."""

OWN_FAULT: Final = frozenset({500, 501})
"""Statuses with which servers also answer what one request alone gets wrong: an image to a model
without eyes. The same request counts once, however often it is tried."""

CAUSES_MAX: Final = 64
"""Requests remembered for that of one deployment."""

WHOLE_PROVIDER: Final = "*"
"""In place of a model: what holds for every model of a provider."""

TELL_S: Final = 0.5
"""A rest that is prolonged by less is not told to other processes."""

Key = tuple[str, str]
"""A provider and a part of it: a model, a voice of one, or WHOLE_PROVIDER."""


@dataclass(slots=True)
class _State:
    failures_in_row: int = 0
    rest_s: float = REST_S
    open_until: float = 0.0
    why: str = ""
    probing: bool = False
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    ttft: deque[float] = field(default_factory=lambda: deque(maxlen=TTFT_SAMPLES))
    replays: deque[float] = field(default_factory=lambda: deque(maxlen=TTFT_SAMPLES))
    causes: deque[int] = field(default_factory=lambda: deque(maxlen=CAUSES_MAX))


@dataclass(frozen=True, slots=True)
class Resting:
    """A part of a provider (a model, or WHOLE_PROVIDER) that rests for so many seconds more; `why`
    is a kind of failure, or "" where another process has said so."""

    provider: str
    part: str
    seconds: float
    why: str


@dataclass(slots=True)
class _Health:
    """What is known of one provider, by its parts. `replaced`: another provider has its name now,
    or none; what the sessions of before still see of it is nobody else's affair."""

    parts: dict[str, _State] = field(default_factory=dict)
    replaced: bool = False


class Breaker:
    """Opens for a deployment (provider, model) after failures, by `FailurePolicy.rest`:

    after FAILURES_TO_REST in a row or at an error share of ERROR_SHARE; for a `Retry-After`; while
    rate-limit headers say that nothing is left; long for a model or voice that is not there; long
    for the whole provider after a refused key or an empty account. When a rest is over, one
    request tries (half-open) and the others go elsewhere until it has succeeded. Failures that
    say nothing about health change nothing.

    `known` are the deployments of the configuration and the catalogues; of others, UNKNOWN_MAX
    are remembered. `now` is the clock of the callers, in seconds.
    """

    def __init__(self, known: Iterable[Key] = ()) -> None:
        self._known = frozenset(known)
        self._providers: dict[str, _Health] = {}
        self._unknown: OrderedDict[Key, None] = OrderedDict()
        self.on_rest: Callable[[str, str, float], None] | None = None
        """Called with a provider, the part of it and seconds whenever a rest begins or is
        prolonged here, and with 0 seconds when one ends with a success."""

    def renew(self, known: Iterable[Key], unchanged: Collection[str]) -> Self:
        """A breaker for a new configuration. Of its providers, those that are `unchanged` share
        their health with those of this one; what others did before says nothing of them."""
        new = type(self)(known)
        new.on_rest = self.on_rest
        new._unknown = self._unknown
        for name in unchanged:
            new._providers[name] = self._providers.setdefault(name, _Health())
            for part in tuple(new._providers[name].parts):
                new._state((name, part))  # a part that the configuration no longer names is bounded
        for name, health in self._providers.items():
            health.replaced = name not in new._providers
        return new

    def hear(self, provider: str, part: str, seconds: float, now: float) -> None:
        """What `on_rest` was called with in another process."""
        state = self._state((provider, part))
        if seconds > 0:
            state.open_until = max(state.open_until, now + seconds)
        else:
            state.failures_in_row, state.probing = 0, False
            state.open_until, state.rest_s = 0.0, REST_S

    def order(self, plan: Plan, now: float) -> Plan:
        """`plan` with what is likely to fail tried last. Nothing is left out: a resting deployment
        is better than none."""
        if not self._providers:
            return plan
        usable = [self._usable(attempt, now) for attempt in plan]
        if all(usable):
            return plan
        return tuple(a for a, good in zip(plan, usable, strict=True) if good) + tuple(
            a for a, good in zip(plan, usable, strict=True) if not good
        )

    def resting(self, attempt: Attempt, now: float) -> bool:
        """Whether it is open for this attempt."""
        return any(now < state.open_until for _, state in self._states_of(attempt))

    def provider_rests(self, provider: str, now: float) -> bool:
        """Whether it rests for `provider` or for a known deployment of it: what callers invented
        does not count."""
        return any(
            now < state.open_until
            for key, state in self._parts_of(provider)
            if key[1] == WHOLE_PROVIDER or key in self._known
        )

    def rests(self, now: float) -> list[Resting]:
        """What rests, longest first."""
        found = [
            Resting(provider, part.partition("\0")[0], state.open_until - now, state.why)
            for provider, health in self._providers.items()
            for part, state in health.parts.items()
            if now < state.open_until
        ]
        return sorted(found, key=lambda one: -one.seconds)

    def began(self, attempt: Attempt, now: float) -> None:
        """An attempt is being made; the first one after a rest is the probe."""
        for _, state in self._states_of(attempt):
            if state.open_until and now >= state.open_until:
                state.probing = True

    def worked(self, attempt: Attempt) -> None:
        """An attempt has succeeded: no rest is left of what failed before."""
        for key, state in self._states_of(attempt):
            if state.open_until:
                self._tell(key, 0.0)
                self.recovered(key)
            state.recent.append(True)
            state.failures_in_row, state.probing = 0, False
            state.open_until, state.rest_s = 0.0, REST_S

    def recovered(self, key: Key) -> None:
        """Called when a rest ends with a success here."""

    def failed(
        self, attempt: Attempt, failure: Failure, now: float, cause: int | None = None
    ) -> bool:
        """An attempt has ended in `failure`; True if a rest begins with it. `cause`: a hash of what
        was asked, the same for what is asked again."""
        rest = failure.policy.rest
        if rest is Rest.NOTHING:
            self.cancelled(attempt)
            return False
        key = (attempt.provider, self._about(attempt, failure))
        state = self._state(key)
        if cause is not None and failure.upstream_status in OWN_FAULT and not state.probing:
            if cause in state.causes:
                self.cancelled(attempt)
                return False
            state.causes.append(cause)
        state.recent.append(False)
        state.failures_in_row += 1
        rest_s = LONG_REST_S if rest is not Rest.COUNTED else self._counted(state, failure)
        self.cancelled(attempt)
        if rest_s <= 0:
            return False
        begins = now >= state.open_until
        state.why = failure.kind.value
        self._rest(key, state, now + rest_s, now)
        return begins

    def cancelled(self, attempt: Attempt) -> None:
        """An attempt was let go before it said anything about health: somebody else may probe."""
        for _, state in self._states_of(attempt):
            state.probing = False

    def rate_limited_until(self, attempt: Attempt, until: float, now: float) -> bool:
        """Rate-limit headers say that nothing is left before `until`; True if a rest begins."""
        state = self._state(attempt.deployment)
        begins = now >= state.open_until
        state.why = Kind.RATE_LIMITED.value
        self._rest(attempt.deployment, state, min(until, now + REST_S_MAX), now)
        return begins

    def _rest(self, key: Key, state: _State, until: float, now: float) -> None:
        told = max(state.open_until, now)
        state.open_until = max(state.open_until, until)
        if until - told >= TELL_S:
            self._tell(key, until - now)

    def _tell(self, key: Key, seconds: float) -> None:
        if self.on_rest is not None and not self._providers[key[0]].replaced:
            self.on_rest(*key, seconds)

    def record_ttft(self, attempt: Attempt, ttft_s: float) -> None:
        """The first content of an attempt came after so long."""
        self._state(attempt.deployment).ttft.append(ttft_s)

    def ttft_p95_s(self, attempt: Attempt) -> float | None:
        """95th percentile of the deployment's recent TTFTs; None: too few samples."""
        state = self._get(attempt.deployment)
        return None if state is None else _p95(state.ttft, TTFT_SAMPLES_MIN)

    def record_replay(self, attempt: Attempt, first_word_s: float) -> None:
        """A recogniser that was sent speech once more told words after so long."""
        self._state(attempt.deployment).replays.append(first_word_s)

    def replay_p95_s(self, attempt: Attempt) -> float | None:
        """95th percentile of those times; None: too few samples."""
        state = self._get(attempt.deployment)
        return None if state is None else _p95(state.replays, REPLAY_SAMPLES_MIN)

    def _usable(self, attempt: Attempt, now: float) -> bool:
        return all(
            now >= state.open_until and not state.probing for _, state in self._states_of(attempt)
        )

    @staticmethod
    def _about(attempt: Attempt, failure: Failure) -> str:
        """Which part of the provider the failure is about: all, the model, or one voice of it,
        which callers choose: one caller's voice that is not there must not rest the model."""
        if failure.policy.rest is Rest.PROVIDER:
            return WHOLE_PROVIDER
        if failure.kind is Kind.UPSTREAM_NOT_FOUND and attempt.voice is not None:
            return _with_voice(attempt)
        return attempt.model

    def _states_of(self, attempt: Attempt) -> list[tuple[Key, _State]]:
        """What is known of its provider, its deployment and its voice there."""
        provider = attempt.provider
        keys = [(provider, WHOLE_PROVIDER), attempt.deployment]
        if attempt.voice is not None:
            keys.append((provider, _with_voice(attempt)))
        return [(key, state) for key in keys if (state := self._get(key)) is not None]

    def _parts_of(self, provider: str) -> Iterator[tuple[Key, _State]]:
        if (health := self._providers.get(provider)) is not None:
            for part, state in health.parts.items():
                yield (provider, part), state

    def _get(self, key: Key) -> _State | None:
        health = self._providers.get(key[0])
        return None if health is None else health.parts.get(key[1])

    def _state(self, key: Key) -> _State:
        if key not in self._known and key[1] != WHOLE_PROVIDER:
            self._unknown[key] = None
            self._unknown.move_to_end(key)
            if len(self._unknown) > UNKNOWN_MAX:
                self._forget(self._unknown.popitem(last=False)[0])
        return self._providers.setdefault(key[0], _Health()).parts.setdefault(key[1], _State())

    def _forget(self, key: Key) -> None:
        if key not in self._known and (health := self._providers.get(key[0])) is not None:
            health.parts.pop(key[1], None)

    def _counted(self, state: _State, failure: Failure) -> float:
        """Seconds of rest after a failure that counts; 0: not yet."""
        if failure.retry_after_s:
            return failure.retry_after_s
        failures = state.recent.count(False)
        mostly_failing = len(state.recent) >= RECENT // 2 and failures >= ERROR_SHARE * len(
            state.recent
        )
        if state.probing or state.failures_in_row >= FAILURES_TO_REST or mostly_failing:
            rest_s, state.rest_s = state.rest_s, min(2 * state.rest_s, REST_S_MAX)
            return rest_s
        return 0.0


def _with_voice(attempt: Attempt) -> str:
    return f"{attempt.model}\0{attempt.voice}"


def _p95(samples: Sequence[float], least: int) -> float | None:
    """Their 95th percentile, if there are so many."""
    if len(samples) < least:
        return None
    return sorted(samples)[int(0.95 * (len(samples) - 1))]
