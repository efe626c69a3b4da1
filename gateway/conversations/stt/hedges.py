"""The connections that are asked beside a doubted one, within a budget. Pure.

They race: each hears the open utterance once more, and the first to tell words serves. The next is
opened a step after the one before, or at once when that one fails, so that several silent ones in
a row cost a caller a step each (see `StallDetector.step_s`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.routing.hedging import HedgeBudget
from gateway.upstreams.plan import Attempt

HEDGES_MAX: Final = 4
"""Connections that are opened beside a doubted one, before it is taken for right."""

STEP_S: Final = 0.75
"""From one to the next, at most. A recogniser that is sent speech at once tells words within this
time."""


class Runner(Protocol):
    """A connection in the race."""

    @property
    def is_ready(self) -> bool: ...


R = TypeVar("R", bound=Runner)


class Hedges(Generic[R]):
    """Those that run, in the order in which they were opened."""

    def __init__(self, budget: HedgeBudget) -> None:
        self._budget = budget
        self._running: list[R] = []
        self._left: list[Attempt] = []
        self._spent = 0
        self.about: RecognizerConnection | None = None  # the doubted one

    def __bool__(self) -> bool:
        """Whether anybody runs."""
        return bool(self._running)

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._running))

    def __contains__(self, state: object) -> bool:
        return any(one is state for one in self._running)

    @property
    def has_more(self) -> bool:
        """Whether more may be asked."""
        return bool(self._left)

    def begin(self, doubted: RecognizerConnection, attempts: Iterable[Attempt]) -> None:
        """These are to be asked, one after the other."""
        self.about = doubted
        self._left = list(islice(attempts, HEDGES_MAX))
        self._spent = 0

    def next(self) -> Attempt | None:
        """Whom to ask now; None: nobody is left, or the budget is spent."""
        if not self._left or not self._budget.spend():
            return None
        self._spent += 1
        return self._left.pop(0)

    def add(self, state: R) -> None:
        """It runs from now on."""
        self._running.append(state)

    def remove(self, state: R) -> None:
        """It runs no more."""
        self._running.remove(state)

    def failed(self, state: R) -> None:
        """It runs no more, and was of no load."""
        self.remove(state)
        self._refund(1)

    def needed(self) -> None:
        """The doubt was right: nothing was wasted."""
        self._refund(self._spent)

    def best(self) -> R:
        """Who takes over where the doubted one fails: the first that takes audio, else the first
        that was opened."""
        taken = next((one for one in self._running if one.is_ready), self._running[0])
        self._running.remove(taken)
        return taken

    def clear(self) -> tuple[tuple[R, ...], list[Attempt]]:
        """The race is over: those that still run, and those that were not asked."""
        running, left = tuple(self._running), self._left
        self._running, self._left = [], []
        self.about = None
        self._spent = 0
        return running, left

    def _refund(self, count: int) -> None:
        for _ in range(min(count, self._spent)):
            self._budget.refund()
        self._spent -= min(count, self._spent)
