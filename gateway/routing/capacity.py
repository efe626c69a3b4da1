"""Places at deployments that take only so many requests at once or a minute, by priority. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.upstreams.plan import Attempt

RANKS: Final[Mapping[str, int]] = {"priority": 0, "standard": 1, "low": 2}
"""`X-LiveKit-Inference-Priority` in the order in which waiting requests are served."""

WAITING_MAX: Final = 1000
"""Requests that wait for one deployment; a further one is turned away at once."""

WINDOW_S: Final = 60.0
"""What a limit per minute counts over."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment takes. `low_share` is the part of its places that requests of priority
    `low` may hold together (at least one), so that voice traffic always finds one soon."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    low_share: float = 0.5

    @property
    def low_max(self) -> int:
        assert self.concurrency is not None
        return max(1, int(self.concurrency * self.low_share))


@dataclass(slots=True, eq=False)
class Permit:
    """A place held or waited for. `on_grant` is called once when a wait ends well."""

    key: Key
    rank: int
    granted: bool = False
    gone: bool = False
    on_grant: Callable[[], None] | None = None


@dataclass(slots=True)
class _Deployment:
    limits: Limits
    held: int = 0
    held_low: int = 0
    starts: deque[float] = field(default_factory=deque)  # of the last minute; bounded by the limit
    waiting: list[tuple[int, int, Permit]] = field(default_factory=list)

    def open_at(self, rank: int, now: float) -> float | None:
        """When a request of this rank may start by the limits alone; None: once one has ended."""
        limits = self.limits
        if limits.concurrency is not None:
            if self.held >= limits.concurrency:
                return None
            if rank >= RANKS["low"] and self.held_low >= limits.low_max:
                return None
        if limits.requests_per_minute is not None:
            while self.starts and self.starts[0] <= now - WINDOW_S:
                self.starts.popleft()
            if len(self.starts) >= limits.requests_per_minute:
                return self.starts[0] + WINDOW_S
        return now

    def take(self, place: Permit, now: float) -> None:
        place.granted = True
        self.held += 1
        self.held_low += place.rank >= RANKS["low"]
        if self.limits.requests_per_minute is not None:
            self.starts.append(now)


class ConcurrencyLimiter:
    """Grants places of limited deployments: to `priority` before `standard` before `low`, and
    first come first served among equals. A deployment without limits needs no place."""

    def __init__(
        self,
        limits: Mapping[Key, Limits] | None = None,
        before: ConcurrencyLimiter | None = None,
    ) -> None:
        """`before`: whose deployments these were until now. What is held there is held here too,
        and new limits hold for all."""
        self._order: Iterator[int] = itertools.count() if before is None else before._order
        self._deployments: dict[Key, _Deployment] = {}
        for key, one in (limits or {}).items():
            known = before._deployments.get(key) if before is not None else None
            self._deployments[key] = deployment = known or _Deployment(one)
            deployment.limits = one

    def free(self, attempt: Attempt, rank: int, now: float) -> bool:
        """Whether a request of this rank could start there at once."""
        deployment = self._deployments.get((attempt.provider, attempt.model))
        if deployment is None:
            return True
        ahead = any(place.rank <= rank and not place.gone for _, _, place in deployment.waiting)
        opens = deployment.open_at(rank, now)
        return not ahead and opens is not None and opens <= now

    def ask(self, attempt: Attempt, rank: int, now: float) -> Permit | None:
        """A place, granted or to be waited for; None: the deployment has no limits.

        A place that is `gone` from the start says that too many wait already.
        """
        key = (attempt.provider, attempt.model)
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        place = Permit(key, rank)
        if self.free(attempt, rank, now):
            deployment.take(place, now)
        elif len(deployment.waiting) >= WAITING_MAX:
            place.gone = True
        else:
            heapq.heappush(deployment.waiting, (rank, next(self._order), place))
        return place

    def opens_at(self, place: Permit, now: float) -> float | None:
        """When `grant` may have something for a waiting place; None: when another is returned."""
        return self._deployments[place.key].open_at(place.rank, now)

    def give_back(self, place: Permit, now: float) -> None:
        """Return a place, or stop waiting for it."""
        if place.gone:
            return
        place.gone = True
        deployment = self._deployments[place.key]
        if place.granted:
            deployment.held -= 1
            deployment.held_low -= place.rank >= RANKS["low"]
        else:
            deployment.waiting = [one for one in deployment.waiting if one[2] is not place]
            heapq.heapify(deployment.waiting)
        self.grant(place.key, now)

    def grant_all(self, now: float) -> None:
        """Give those who wait what new limits have made free."""
        for key in self._deployments:
            self.grant(key, now)

    def grant(self, key: Key, now: float) -> None:
        """Give what is free to those who wait."""
        deployment = self._deployments[key]
        while deployment.waiting:
            rank, _, place = deployment.waiting[0]
            opens = deployment.open_at(rank, now)
            if opens is None or opens > now:
                return  # whoever comes later in this queue waits for the same or more
            heapq.heappop(deployment.waiting)
            deployment.take(place, now)
            if place.on_grant is not None:
                place.on_grant()
