"""A second recogniser that is kept connected and silent, to serve without a connect. Pure.

One for each session that wants one. It is opened once the first connection takes audio, renewed
when it dies, after a pause that grows, and before the provider would end it. It hears nothing, but
for what keeps its line alive, until it takes over or is asked beside a doubted connection.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.routing.breaker import Breaker
from gateway.upstreams.plan import Attempt, Deployment, Plan

RENEW_S: Final = 1.0
"""Pause before a standby that died is renewed; it doubles each time, up to RENEW_S_MAX."""

RENEW_S_MAX: Final = 60.0

PROVEN_S: Final = 60.0
"""A standby that lived this long is renewed after RENEW_S again."""

AGE_SHARE: Final = 0.9
"""Share of the longest life of a connection after which a standby is renewed."""


class Places:
    """Standbys that all sessions of a process may keep together, at most."""

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self) -> bool:
        """Whether there is one more."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1


class Kept(Protocol):
    """The state of a standby."""

    connection: RecognizerConnection

    @property
    def is_ready(self) -> bool: ...


K = TypeVar("K", bound=Kept)


class WarmStandby(Generic[K]):
    """The standby of one session; without a plan there is none."""

    def __init__(self, places: Places, breaker: Breaker) -> None:
        self._places = places
        self._breaker = breaker
        self._plan: Plan = ()
        self._pause_s = RENEW_S
        self._began: float | None = None  # that it takes audio, counted until it is no standby
        self.state: K | None = None
        self.seconds: dict[Deployment, float] = {}  # that each was kept ready

    @property
    def is_ready(self) -> bool:
        """Whether it could serve at once."""
        return self.state is not None and self.state.is_ready

    def go_by(self, plan: Plan) -> bool:
        """Whom to keep connected from now on. Whether the one that is kept has to be let go."""
        self._plan = plan
        self._pause_s = RENEW_S
        return self.state is not None and self.state.connection.attempt not in plan

    def wanted(self, in_use: Attempt, now: float) -> Attempt | None:
        """Whom to connect to now: another deployment than that in use if there is one, none that
        rests. A place is taken for it."""
        if self.state is not None:
            return None
        able = [one for one in self._plan if not self._breaker.resting(one, now)]
        others = [one for one in able if one.deployment != in_use.deployment]
        if not able or not self._places.take():
            return None
        return (others or able)[0]

    def again_at(self, now: float) -> float | None:
        """When to try again, if none was to be had; None: never."""
        if not self._plan or self.state is not None:
            return None
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, RENEW_S_MAX)
        return now + pause_s

    def became(self, state: K, now: float) -> None:
        """It is being opened, or takes audio now."""
        self.state = state
        if state.is_ready:
            self._began = now

    def ages_at(self) -> float | None:
        """When it has to be renewed."""
        if self.state is None or (ready_at := self.state.connection.ready_at) is None:
            return None
        session_s = self.state.connection.traits.session_s
        return None if session_s is None else ready_at + AGE_SHARE * session_s

    def take(self, now: float) -> K:
        """It is no standby any more: it serves, or is let go."""
        state = self.state
        assert state is not None
        if self._began is not None:
            lived_s, deployment = now - self._began, state.connection.attempt.deployment
            self.seconds[deployment] = self.seconds.get(deployment, 0.0) + lived_s
            if lived_s >= PROVEN_S:
                self._pause_s = RENEW_S
        self.state = self._began = None
        self._places.give_back()
        return state
