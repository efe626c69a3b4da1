"""The deadlines of one session, in one table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Act = TypeVar("Act")

Moment = Callable[[], float | None]
"""Seconds of the session's clock; None: not now, and not by itself."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Act]):
    at: float
    act: Act
    moment: Moment | None


class Timers(Generic[Act]):
    """By name: when something is due, and what is done then.

        timers.set("retry", now + pause_s, self._retry)
        session.deadline = timers.earliest
        for act in timers.due(now):
            act(now)

    A timer is set where the fact changes that it depends on, and runs once. A moment that every
    audio frame moves later is not set anew with each frame: `follow` takes a function, which is
    asked again when the moment comes.

    Names are from a fixed set that the session defines, so the table is bounded.
    """

    __slots__ = ("_entries", "earliest")

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry[Act]] = {}
        self.earliest: float | None = None
        """The first moment at which something is due. Kept, not computed: sessions are asked for
        their deadline with every event, and timers change less often."""

    def __contains__(self, name: Hashable) -> bool:
        return name in self._entries

    def set(self, name: Hashable, at: float | None, act: Act) -> None:
        """Have `act` done at `at`, in place of what was set under this name; None clears it."""
        self._put(name, at, act, None)

    def follow(self, name: Hashable, moment: Moment, act: Act) -> None:
        """As `set`, for a moment that may move later without notice. When it comes, `moment` is
        asked once more: `act` is due only if the answer is not later; None clears the timer."""
        self._put(name, moment(), act, moment)

    def clear(self, *names: Hashable) -> None:
        """Nothing is to be done under these names any more."""
        for name in names:
            gone = self._entries.pop(name, None)
            if gone is not None and gone.at == self.earliest:
                self._find_earliest()

    def clear_all(self) -> None:
        self._entries.clear()
        self.earliest = None

    def due(self, now: float) -> Iterator[Act]:
        """What is to be done by `now`, in order of time, each removed before it is given.

        What an earlier one clears or sets anew is left out, so nothing runs twice in one call. An
        act must not leave its own timer at a moment that has passed: the session would spin.
        """
        names = [name for name, entry in self._entries.items() if entry.at <= now]
        found = [(name, self._entries[name]) for name in names]
        for name, entry in sorted(found, key=lambda one: one[1].at):
            if self._entries.get(name) is not entry:
                continue
            self.clear(name)
            if entry.moment is not None:
                at = entry.moment()
                if at is None or at > now:
                    self._put(name, at, entry.act, entry.moment)
                    continue
            yield entry.act

    def _put(self, name: Hashable, at: float | None, act: Act, moment: Moment | None) -> None:
        if name in self._entries:
            self.clear(name)
        if at is None:
            return
        self._entries[name] = _Entry(at, act, moment)
        if self.earliest is None or at < self.earliest:
            self.earliest = at

    def _find_earliest(self) -> None:
        self.earliest = min((entry.at for entry in self._entries.values()), default=None)
