"""When a line that still serves is to be replaced, and by whom. Pure."""

from __future__ import annotations

from typing import Final

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Plan, left_after

CALM_S: Final = 0.5
"""Quiet for so long, with nothing open: a moment to change lines."""

RENEW_LEAD_S: Final = 30.0
"""So long before a connection's greatest age the next one is looked for."""

RENEW_RETRY_S: Final = 5.0
"""After a failed attempt to change lines, while the old one still serves."""


class Handover:
    """Wanted from `at` on (None: not at all), in a calm moment, at last at `by`; by `plan`."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.by = 0.0
        self.plan: Plan = ()

    def before_age(self, session_s: float, now: float) -> None:
        """A line that begins now may live so long."""
        lead_s = min(RENEW_LEAD_S, session_s / 10)
        self.wish(now + session_s - lead_s, now + session_s - lead_s / 5, ())

    def wish(self, at: float, by: float, plan: Plan) -> None:
        """An empty plan is that of the session at the time."""
        self.at, self.by, self.plan = at, by, plan

    def done(self) -> None:
        """Nothing is wanted any more."""
        self.at = None

    def failed(self, failure: Failure, now: float) -> bool:
        """The next line could not be opened; whether there is another to try at once."""
        self.plan = left_after(failure, self.plan[0], self.plan[1:])
        if not self.plan:  # the old line serves on
            self.at = now + RENEW_RETRY_S
        return bool(self.plan)

    def is_due(self, now: float) -> bool:
        return self.at is not None and now >= self.at

    def moment(
        self,
        line: RecognizerConnection,
        following: RecognizerConnection | None,
        *,
        utterance_open: bool,
        now: float,
    ) -> float | None:
        """When to look whether `line` can be replaced by `following`."""
        if self.at is None or now < self.at or following is None:
            return self.at
        if not following.ready:
            return None
        at = _calm_at(line)
        if not utterance_open and not line.unsent and at > now:
            return min(at, self.by)
        return self.by


def is_calm(line: RecognizerConnection, *, utterance_open: bool, now: float) -> bool:
    """Whether nothing is being said, and all that was has been sent."""
    return not utterance_open and not line.unsent and now >= _calm_at(line)


def _calm_at(line: RecognizerConnection) -> float:
    return max(line.last_loud_at, line.last_text_at) + CALM_S
