"""Make-before-break: the next connection is ready before the one in use is replaced. Pure.

Wanted when a connection nears its greatest age and when settings change that it cannot take. The
next connection is opened beside the one in use. In a calm moment, or at the latest at `by`, the
user's audio goes to the next one, and the old one is asked for its last finals; what the next one
says meanwhile waits, so that the client gets the words in order.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from gateway.conversations.stt.connection import Activity
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Exhausted, Failover, RetryPolicy
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import RecognizerEvent

CALM_S: Final = 0.5
"""Silence after the last speech that makes a moment to replace a connection."""

AGE_LEAD_S: Final = 30.0
"""A successor is looked for this long before a connection's greatest age, or a tenth of it if that
is less; a fifth of the lead is left when it takes over at the latest."""

HELD_MAX: Final = 256
"""Events of the new connection that wait while the old one drains; more are dropped."""

POLICY: Final = RetryPolicy(
    rounds=8,
    rounds_alone=8,
    backoff_s=5.0,
    backoff_max_s=60.0,
    ask_others_always=True,
)
"""How a successor is looked for while the old connection still serves: without haste, and for some
four minutes. Then the old one serves on until it ends."""


class Successor(Protocol):
    """The next connection."""

    @property
    def is_ready(self) -> bool: ...


Next = TypeVar("Next", bound=Successor)
Old = TypeVar("Old")


class Handover(Generic[Next, Old]):
    """What is wanted from `at` on (None: nothing), at the latest at `by`; the next connection and
    the old one, as long as there are such. `plan`: where to, if the client's settings have changed;
    else the session's plan."""

    def __init__(self, breaker: Breaker) -> None:
        self.at: float | None = None
        self.by = 0.0
        self.next: Next | None = None
        self.old: Old | None = None
        self._breaker = breaker
        self.plan: Plan = ()
        self._search: Failover | None = None
        self._held: list[tuple[int, RecognizerEvent]] = []

    # -- what is wanted

    def wish(self, at: float, by: float, plan: Plan = ()) -> None:
        """Replace the connection in use by one to an attempt of `plan`. Without a plan it is that
        of a wish which waits, or else the session's."""
        self.by = min(by, self.by) if self.plan and not plan else by
        self.at = at
        if plan:
            self.plan = plan
            self._search = None

    def wish_before_age(self, age_s: float, ready_at: float, now: float) -> None:
        """The connection in use may live `age_s`, and was ready at `ready_at`. A wish that waits
        is done first, and one whose time has passed was given up."""
        lead_s = min(AGE_LEAD_S, age_s / 10)
        at = ready_at + age_s - lead_s
        if self.at is None and at > now:
            self.wish(at, ready_at + age_s - lead_s / 5)

    def withdraw(self) -> None:
        """Nothing is wanted any more."""
        self.at = None
        self.plan = ()
        self._search = None

    # -- the next connection

    def moment(self, activity: Activity, *, busy: bool, now: float) -> float | None:
        """When the next step can be taken; None: not before something else happens.

        `activity` is that of the connection in use, `busy`: it has audio to send, or an utterance
        is open.
        """
        if self.old is not None:
            return None
        if self.at is None or now < self.at or self.next is None:
            return self.at
        if not self.next.is_ready:
            return None
        return self.by if busy else min(self.calm_at(activity), self.by)

    @staticmethod
    def calm_at(activity: Activity) -> float:
        """When nothing has been said for a while."""
        return activity.last_speech_at + CALM_S

    def first(self, session_plan: Plan, now: float) -> Attempt | None:
        """The attempt that the next connection is opened to; None: none is left, and the wish is
        given up."""
        if self._search is None:
            self._search = Failover(self.plan or session_plan, POLICY, self._breaker, now)
        attempt = self._search.next(now)
        if attempt is None:
            self.withdraw()
        return attempt

    def next_failed(self, attempt: Attempt, failure: Failure, now: float) -> Attempt | None:
        """The next connection failed: the attempt to open one to at once, if there is one. Else
        `at` says when to try again, or that the wish is given up."""
        opened = self.next is not None and self.next.is_ready
        self.next = None
        assert self._search is not None
        outcome = self._search.failed(attempt, failure, now, opened=opened)
        if isinstance(outcome, Exhausted):
            self.withdraw()
        elif outcome.at > now:
            self.at = outcome.at
        else:
            return self.first((), now)
        return None

    def prepare(self, successor: Next) -> None:
        """The next connection is being opened, or has become ready."""
        self.next = successor

    def drop_next(self) -> Next | None:
        """Another one is wanted: the connection to drop."""
        dropped, self.next = self.next, None
        return dropped

    def take_next(self) -> Next:
        """The next connection is the one in use from now on: the wish is fulfilled."""
        taken, self.next = self.next, None
        assert taken is not None
        self.withdraw()
        return taken

    # -- the old connection

    def drain(self, old: Old) -> None:
        """`old` is to say its last words."""
        self.old = old

    def hold(self, number: int, event: RecognizerEvent) -> None:
        """An event of the new connection waits for the old one's end."""
        if len(self._held) < HELD_MAX:
            self._held.append((number, event))

    def forget_held(self) -> None:
        """The new connection failed: another one will hear the same audio again."""
        self._held.clear()

    def drained(self) -> list[tuple[int, RecognizerEvent]]:
        """The old connection is gone: what waited, with the numbers of its connections."""
        self.old = None
        held, self._held = self._held, []
        return held
