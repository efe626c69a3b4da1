"""The avatars that are in rooms now, as far as this process began them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running(Generic[T]):
    """One avatar: who has it, at which provider, since when, and until when at the latest.
    `ticket` is whatever the owner needs to settle its account."""

    key: str
    provider: str
    session_id: str
    began_at: float
    ends_at: float
    ticket: T


class AvatarSessions(Generic[T]):
    """At most `per_key` of a key, those that are being asked for among them; each for `age_s`."""

    def __init__(self, per_key: int, age_s: float) -> None:
        self.per_key = per_key
        self.age_s = age_s
        self._places: Counter[str] = Counter()
        self._running: dict[tuple[str, str], Running[T]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def take(self, key: str) -> bool:
        """A place for an avatar that is being asked for; False: there is none."""
        if self._places[key] >= self.per_key:
            return False
        self._places[key] += 1
        return True

    def give_back(self, key: str) -> None:
        """The avatar did not come."""
        self._places[key] -= 1
        if not self._places[key]:
            del self._places[key]

    def begin(self, key: str, provider: str, session_id: str, now: float, ticket: T) -> None:
        """It came, in a place that was taken."""
        ends_at = now + self.age_s
        self._running[provider, session_id] = Running(
            key, provider, session_id, now, ends_at, ticket
        )

    def end(self, provider: str, session_id: str) -> Running[T] | None:
        """It is to leave; None: it is not known here, or has left."""
        found = self._running.pop((provider, session_id), None)
        if found is not None:
            self.give_back(found.key)
        return found

    def overdue(self, now: float) -> Iterator[Running[T]]:
        """Those whose time has come; they are no longer among those that run."""
        for one in tuple(self._running.values()):
            if now >= one.ends_at:
                self.end(one.provider, one.session_id)
                yield one
