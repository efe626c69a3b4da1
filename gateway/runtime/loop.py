"""The loops between what decides and its sources of events: one for a session, one for a core that
many sessions share."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.upstreams.events import DEADLINE_PASSED, DeadlinePassed

Event = TypeVar("Event")
Action = TypeVar("Action")
_Event_contra = TypeVar("_Event_contra", contravariant=True)
_Action_co = TypeVar("_Action_co", covariant=True)

Clock = Callable[[], float]
"""Seconds, monotonic."""

TURN_S: Final = 0.005
"""How long one reader may keep the event loop: what waits in an inbox is handled without a pause,
and a peer that sends without a pause would stop all others."""


class Session(Protocol[_Event_contra, _Action_co]):
    """Events in, actions out: knows what to do, not how it is done.

    `deadline`: when it wants `DeadlinePassed`, on the clock given as `now`; None: never.
    """

    @property
    def deadline(self) -> float | None: ...

    def handle(self, event: _Event_contra, now: float) -> Sequence[_Action_co]: ...


class Room(asyncio.Event):
    """Set once an inbox has room again. To be awaited, or to be ignored."""

    def __await__(self) -> Generator[Any, None, object]:
        return self.wait().__await__()


class Inbox(Generic[Event]):
    """Events of one session from all its sources, in order of arrival, for one reader.

    While the reader has nothing to do, an event is handled at once, where it happens (see `serve`).
    Others wait: at most `capacity` of senders that use `put`, which waits while it is full, so a
    fast client is slowed down, not buffered. `post` never waits; it is for the rare events that a
    source sends once (opened, failed, ended) and for callbacks that bound themselves. Called as a
    function it takes an event at once and returns what to await before the next, if it is full.
    """

    __slots__ = (
        "_capacity", "_events", "_handle", "_reader", "_rested_at", "_room", "_timer", "wakes_at"
    )  # fmt: skip

    def __init__(self, capacity: int = 64) -> None:
        self._events: deque[Event] = deque()
        self._capacity = capacity
        self._reader: asyncio.Future[None] | None = None  # there while it waits for an event
        self._handle: Callable[[Event], bool] | None = None
        self._room: Room | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.wakes_at = math.inf
        """When the reader is woken at the latest, if it sleeps."""
        self._rested_at = 0.0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def full(self) -> bool:
        """Whether `put` would wait."""
        return len(self._events) >= self._capacity

    def serve(self, handle: Callable[[Event], bool]) -> None:
        """While the reader waits for an event, have `handle` deal with it in the call that brings
        it; False: the reader has to go on, what comes now waits for it."""
        self._handle = handle

    def post(self, event: Event) -> None:
        """Append `event` at once."""
        self._events.append(event)
        reader = self._reader
        if reader is None or reader.done():
            return
        handle = self._handle
        if handle is None:
            reader.set_result(None)
            return
        self._reader = None  # busy: what is posted from within comes after this
        try:
            while self._events and not reader.done():
                if not handle(self._events.popleft()):
                    if not reader.done():
                        reader.set_result(None)
                    return
        except Exception as error:
            if not reader.done():
                reader.set_exception(error)  # the reader's fault, not that of who brought the event
            return
        self._reader = reader
        if self._room is not None:
            self._room.set()

    def answer(self, event: Event) -> None:
        """Put `event` before all that waits: the answer to a question that the session has asked
        with an action, which is performed before anything else is looked at."""
        self._events.appendleft(event)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def put(self, event: Event) -> None:
        """Append `event`, waiting first while the inbox is full."""
        while len(self._events) >= self._capacity:
            await self.room()
        self.post(event)

    def __call__(self, event: Event) -> Room | None:
        self.post(event)
        return self.room() if len(self._events) >= self._capacity else None

    def room(self) -> Room:
        """What a sender awaits while the inbox is full."""
        if self._room is None:
            self._room = Room()
        self._room.clear()
        return self._room

    async def next(self, deadline: float | None, clock: Clock) -> Event | DeadlinePassed | None:
        """The next event, or `DEADLINE_PASSED` once `deadline` has passed: it comes first, since a
        busy source must not postpone it for ever. A reader that has not waited for TURN_S lets
        others have their turn. None, after a sleep, where there is a handler: it has left something
        to be done, or the deadline may be another."""
        while True:
            now = clock()
            if deadline is not None and now >= deadline:
                return DEADLINE_PASSED
            if self._events:
                if now - self._rested_at > TURN_S:
                    self._rested_at = now
                    await asyncio.sleep(0)
                event = self._events.popleft()
                if self._room is not None and len(self._events) < self._capacity:
                    self._room.set()
                return event
            await self._sleep(deadline, clock)
            if self._handle is not None:
                return None

    async def _sleep(self, deadline: float | None, clock: Clock) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        if deadline is not None and deadline < self.wakes_at:
            self.wake_by(deadline, clock)
        try:
            await self._reader
        finally:
            self._reader = None
            self._rested_at = clock()

    def wake_by(self, deadline: float, clock: Clock) -> None:
        """Have the reader woken at `deadline`, or when it was to be woken if that is earlier: most
        deadlines only move forward, and an early wake-up costs less than a timer for each event."""
        if deadline >= self.wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, deadline - clock()), self._timer_fired)
        self.wakes_at = deadline

    def _timer_fired(self) -> None:
        self._timer, self.wakes_at = None, math.inf
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def close(self) -> None:
        """Forget the timer; the inbox is no longer read. Senders that wait are let go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._handle = None
        self._capacity = 1 << 30
        if self._room is not None:
            self._room.set()


class Gate(Generic[Event]):
    """A way into an inbox that can be shut: one source is held back, the others are not."""

    __slots__ = ("_inbox", "_open", "_shut", "post")

    def __init__(self, inbox: Inbox[Event]) -> None:
        self._inbox = inbox
        self._open = asyncio.Event()
        self._open.set()
        self._shut = False
        self.post = inbox.post
        """As the inbox's."""

    def shut(self) -> None:
        """Hold the source back."""
        self._open.clear()
        self._shut = True

    def open(self) -> None:
        """Let it go on."""
        self._open.set()
        self._shut = False

    async def put(self, event: Event) -> None:
        """As the inbox's; then waits while the gate is shut."""
        await self._inbox.put(event)
        if self._shut:
            await self._open.wait()

    @property
    def full(self) -> bool:
        """Whether `put` would wait."""
        return self._shut or self._inbox.full


Performed = Awaitable[bool] | None
"""What doing an action leads to: None, it is done; or what to await before the next one, which
answers False if the conversation is over."""


async def drive(
    session: Session[Event | DeadlinePassed, Action],
    inbox: Inbox[Event],
    perform: Callable[[Action], Performed],
    clock: Clock = time.monotonic,
) -> None:
    """Feed `session` with events until an action ends the conversation.

    An event is handled where it happens: a frame of audio is with the provider's socket before the
    call returns that has read it from the client's. This task runs only for deadlines, and where
    something has to be awaited.
    """
    unfinished: list[tuple[Awaitable[bool], Iterator[Action]]] = []  # at most one

    def handle(event: Event | DeadlinePassed) -> bool:
        return go_on(iter(session.handle(event, clock())))

    def go_on(actions: Iterator[Action]) -> bool:
        for action in actions:
            waits = perform(action)
            if waits is not None:
                unfinished.append((waits, actions))
                return False
        deadline = session.deadline
        if deadline is not None and deadline < inbox.wakes_at:
            inbox.wake_by(deadline, clock)
        return True

    inbox.serve(handle)
    try:
        while True:
            event = await inbox.next(session.deadline, clock)
            if event is not None:
                handle(event)
            while unfinished:
                waits, actions = unfinished.pop()
                if not await waits:
                    return
                go_on(actions)
    finally:
        for waits, _ in unfinished:
            if isinstance(waits, Coroutine):
                waits.close()
        inbox.close()


class Reactor(Generic[Event, Action]):
    """Drives a core that many sessions share. It has no task: an event is handled where it
    happens, and what its actions give rise to is handled after them, in order."""

    def __init__(
        self,
        core: Session[Event | DeadlinePassed, Action],
        perform: Callable[[Action], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._core = core
        self._perform = perform
        self._clock = clock
        self._events: deque[Event | DeadlinePassed] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def post(self, event: Event | DeadlinePassed) -> None:
        """Handle `event`, now or after the one that is being handled."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for action in self._core.handle(self._events.popleft(), self._clock()):
                    self._perform(action)
        finally:
            self._busy = False
        self._set_timer()

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        # kept while it fires no later than wanted, as in Inbox
        deadline = self._core.deadline
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_fired)
        self._timer_at = deadline

    def _timer_fired(self) -> None:
        self._timer = None
        deadline = self._core.deadline
        if deadline is not None and self._clock() >= deadline:
            self.post(DEADLINE_PASSED)
        else:
            self._set_timer()
