"""The loop between a session and its events."""

import asyncio
import time
from typing import Any

import pytest

from gateway.runtime.loop import Clock, Inbox, Reactor, drive
from gateway.upstreams.events import DEADLINE_PASSED, DeadlinePassed


class Echo:
    """Answers every event with itself; wants to be woken when told so."""

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.times: list[float] = []

    def handle(self, event: object, now: float) -> list[object]:
        self.times.append(now)
        if isinstance(event, DeadlinePassed):
            self.deadline = None
        return [event]


async def performed(
    session: Echo, inbox: Inbox[Any], until: int, clock: Clock = time.monotonic
) -> list[object]:
    done: list[object] = []

    async def perform(action: object) -> bool:
        done.append(action)
        return len(done) < until

    await asyncio.wait_for(
        drive(session, inbox, perform, *([clock] if clock is not None else [])), 60
    )
    return done


async def test_events_are_handled_in_order_of_arrival() -> None:
    inbox: Inbox[int] = Inbox()
    for i in range(5):
        inbox.post(i)
    assert await performed(Echo(), inbox, 5) == [0, 1, 2, 3, 4]


async def test_a_passed_deadline_comes_before_a_full_inbox() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.post(1)
    assert await performed(Echo(deadline=0.0), inbox, 2) == [DEADLINE_PASSED, 1]


async def test_a_session_is_woken_at_its_deadline_when_nothing_happens() -> None:
    loop = asyncio.get_running_loop()
    wanted = loop.time() + 0.03
    session = Echo(deadline=wanted)
    assert await performed(session, Inbox(), 1, loop.time) == [DEADLINE_PASSED]
    assert session.times[0] >= wanted


async def test_a_deadline_that_moves_forward_is_met_only_then() -> None:
    loop = asyncio.get_running_loop()
    inbox: Inbox[int] = Inbox()

    later = loop.time() + 0.06

    class Moving(Echo):
        def handle(self, event: object, now: float) -> list[object]:
            actions = super().handle(event, now)
            if event == 1:
                self.deadline = later
            return actions

    session = Moving(deadline=loop.time() + 0.02)
    inbox.post(1)
    assert await performed(session, inbox, 2, loop.time) == [1, DEADLINE_PASSED]
    assert session.times[1] >= later


async def test_a_full_inbox_slows_its_sender_down() -> None:
    inbox: Inbox[int] = Inbox(capacity=2)
    sent: list[int] = []

    async def send() -> None:
        for i in range(6):
            await inbox.put(i)
            sent.append(i)

    sender = asyncio.create_task(send())
    await asyncio.sleep(0)
    assert sent == [0, 1]
    assert await performed(Echo(), inbox, 6) == [0, 1, 2, 3, 4, 5]
    await sender


async def test_a_sender_that_waits_is_let_go_when_the_conversation_ends() -> None:
    inbox: Inbox[int] = Inbox(capacity=1)
    inbox.post(0)
    sender = asyncio.create_task(inbox.put(1))
    await asyncio.sleep(0)
    assert not sender.done()
    inbox.close()
    await asyncio.wait_for(sender, 60)


async def test_an_inbox_takes_an_event_at_once_and_says_when_to_send_the_next() -> None:
    inbox: Inbox[int] = Inbox(capacity=2)
    assert inbox(0) is None
    room = inbox(1)
    assert room is not None
    waiting = asyncio.ensure_future(room)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await inbox.next(None, lambda: 0.0) == 0
    await asyncio.wait_for(waiting, 60)


async def at_rest(inbox: Inbox[Any], perform: Any, session: Any = None) -> asyncio.Task[None]:
    """A conversation that waits for its first event."""
    driving = asyncio.create_task(drive(session or Echo(), inbox, perform))
    await asyncio.sleep(0)
    return driving


async def test_while_nothing_is_waited_for_an_event_is_handled_where_it_happens() -> None:
    inbox, done = Inbox[Any](), list[object]()
    driving = await at_rest(inbox, done.append)
    inbox.post("a")
    assert inbox("b") is None
    assert done == ["a", "b"]
    driving.cancel()


async def test_what_has_to_be_awaited_holds_back_what_comes_after_it() -> None:
    inbox, done, free = Inbox[Any](), list[object](), asyncio.Event()

    class Twice(Echo):
        def handle(self, event: object, now: float) -> list[object]:
            return [event, f"{event} again"]

    async def later() -> bool:
        await free.wait()
        return True

    def perform(action: object) -> Any:
        done.append(action)
        return later() if action == "a" else None

    driving = await at_rest(inbox, perform, Twice())
    inbox.post("a")
    inbox.post("b")
    await asyncio.sleep(0)
    assert done == ["a"]
    free.set()
    async with asyncio.timeout(60):
        while len(done) < 4:
            await asyncio.sleep(0)
    assert done == ["a", "a again", "b", "b again"]
    inbox.post("c")
    assert done[4:] == ["c", "c again"]
    driving.cancel()


async def test_what_an_action_posts_is_handled_after_the_actions_beside_it() -> None:
    inbox, done = Inbox[Any](), list[object]()

    def perform(action: object) -> None:
        if action == "a":
            inbox.post("b")
        done.append(action)

    driving = await at_rest(inbox, perform)
    inbox.post("a")
    assert done == ["a", "b"]
    driving.cancel()


async def test_a_fault_ends_the_conversation_and_not_whoever_brought_the_event() -> None:
    class Faulty(Echo):
        def handle(self, event: object, now: float) -> list[object]:
            raise ArithmeticError

    inbox: Inbox[Any] = Inbox()
    driving = await at_rest(inbox, lambda _: None, Faulty())
    inbox.post("a")
    with pytest.raises(ArithmeticError):
        await asyncio.wait_for(driving, 60)


async def test_a_deadline_that_an_event_brings_nearer_is_met() -> None:
    loop = asyncio.get_running_loop()
    inbox, done = Inbox[Any](), list[object]()

    class Nearer(Echo):
        def handle(self, event: object, now: float) -> list[object]:
            actions = super().handle(event, now)
            if event == "a":
                self.deadline = loop.time() + 0.01
            return actions

    driving = await at_rest(inbox, done.append, Nearer(deadline=loop.time() + 600))
    inbox.post("a")
    async with asyncio.timeout(60):
        while len(done) < 2:
            await asyncio.sleep(0.001)
    assert done == ["a", DEADLINE_PASSED]
    driving.cancel()


class Shared:
    """A core whose clock is set by hand; what it handles is kept."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.handled: list[object] = []

    def handle(self, event: object, now: float) -> list[object]:
        self.handled.append(event)
        if isinstance(event, DeadlinePassed):
            self.deadline = None
        return [f"{event}!"]


async def test_an_event_of_a_shared_core_is_handled_where_it_happens() -> None:
    core = Shared()
    done: list[object] = []
    reactor = Reactor(core, done.append)
    reactor.post("a")
    reactor.post("b")
    assert done == ["a!", "b!"]


async def test_what_an_action_gives_rise_to_is_handled_after_it() -> None:
    core = Shared()

    def perform(action: object) -> None:
        if action == "a!":
            reactor.post("c")
            assert core.handled == ["a"]

    reactor: Reactor[Any, Any] = Reactor(core, perform)
    reactor.post("a")
    assert core.handled == ["a", "c"]


async def test_a_shared_core_is_woken_at_its_deadline() -> None:
    core, woken = Shared(), asyncio.Event()
    loop = asyncio.get_running_loop()
    reactor = Reactor(
        core, lambda action: None if str(action)[0] == "a" else woken.set(), loop.time
    )
    core.deadline = loop.time() + 60.0
    reactor.post("a")
    core.deadline = loop.time()
    reactor.post("a")
    await asyncio.wait_for(woken.wait(), 60)
    assert core.handled == ["a", "a", DEADLINE_PASSED]
    reactor.close()
