"""How often a second deployment may be asked beside a silent first one. Pure."""

from __future__ import annotations

from typing import Final

SAVED_MAX: Final = 10.0
"""Hedges that quiet times save up for busy ones."""


class HedgeBudget:
    """A share of all requests may be asked twice, so that a slow day is not doubled."""

    def __init__(self, share: float, saved: float = 1.0) -> None:
        """`saved`: how many there are to begin with."""
        self._share = share
        self._saved = saved

    def earn(self) -> None:
        """A request has come."""
        self._saved = min(self._saved + self._share, SAVED_MAX)

    def spend(self) -> bool:
        """Whether one may be asked twice now."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def refund(self) -> None:
        """The second one was needed: the first had failed. It does not count."""
        self._saved = min(self._saved + 1.0, SAVED_MAX)
