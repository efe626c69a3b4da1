"""Many callers, one model."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from gateway.engines.batcher import Batcher


class Model:
    """Doubles numbers, when it is let."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def run(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.started.release()
        assert self.go.acquire(timeout=60)
        if -1 in batch:
            raise ValueError("a bad question")
        return [2 * n for n in batch]


class Caller:
    def __init__(self, batcher: Batcher[int, int]) -> None:
        self.answers: list[tuple[int, int | None]] = []
        self.told = asyncio.Event()
        self.place = batcher.place(self.answered)

    def answered(self, question: int, answer: int | None, timing: object) -> None:
        assert (timing is None) == (answer is None) or answer is None
        self.answers.append((question, answer))
        self.told.set()

    async def wait(self, count: int) -> None:
        while len(self.answers) < count:
            self.told.clear()
            await asyncio.wait_for(self.told.wait(), 60)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Iterator[Batcher[int, int]]:
    made = Batcher(model.run, batch_max=3, stale_s=5.0)
    yield made
    made.close()
    model.go.release(100)


async def started(model: Model) -> None:
    await asyncio.to_thread(model.started.acquire)


async def test_an_idle_model_starts_at_once(batcher: Batcher[int, int], model: Model) -> None:
    caller = Caller(batcher)
    caller.place.ask(4)
    model.go.release()
    await caller.wait(1)
    assert caller.answers == [(4, 8)]


async def test_what_waits_while_the_model_is_busy_is_one_batch(
    batcher: Batcher[int, int], model: Model
) -> None:
    callers = [Caller(batcher) for _ in range(4)]
    callers[0].place.ask(1)
    await started(model)
    for i, caller in enumerate(callers[1:], 2):
        caller.place.ask(i)
    model.go.release(2)
    for caller in callers:
        await caller.wait(1)
    assert model.batches == [[1], [2, 3, 4]]


async def test_a_batch_is_no_larger_than_allowed(batcher: Batcher[int, int], model: Model) -> None:
    callers = [Caller(batcher) for _ in range(6)]
    callers[0].place.ask(0)
    await started(model)
    for i, caller in enumerate(callers[1:], 1):
        caller.place.ask(i)
    model.go.release(3)
    for caller in callers:
        await caller.wait(1)
    assert [len(batch) for batch in model.batches] == [1, 3, 2]


async def test_a_newer_question_overtakes_and_the_older_is_answered_at_once(
    batcher: Batcher[int, int], model: Model
) -> None:
    busy, caller = Caller(batcher), Caller(batcher)
    busy.place.ask(0)
    await started(model)
    for i in (1, 2, 3):
        caller.place.ask(i)
    assert caller.answers == [(1, None), (2, None)]
    model.go.release(2)
    await caller.wait(3)
    assert caller.answers[-1] == (3, 6)
    assert model.batches == [[0], [3]]


async def test_a_callers_backlog_never_delays_another(
    batcher: Batcher[int, int], model: Model
) -> None:
    busy, flood, other = Caller(batcher), Caller(batcher), Caller(batcher)
    busy.place.ask(0)
    await started(model)
    for i in range(1000):
        flood.place.ask(i)
    other.place.ask(7)
    model.go.release(2)
    await other.wait(1)
    assert model.batches[1] == [999, 7]


async def test_a_question_that_waited_too_long_is_answered_without_the_model(model: Model) -> None:
    batcher: Batcher[int, int] = Batcher(model.run, batch_max=3, stale_s=0.0)
    busy, late = Caller(batcher), Caller(batcher)
    batcher._busy = True  # as if a batch were running
    busy.place.ask(1)
    late.place.ask(2)
    batcher._done([], 0.0, 0.0)
    assert (busy.answers, late.answers) == ([(1, None)], [(2, None)])
    assert model.batches == []
    batcher.close()


async def test_who_has_left_is_dropped(batcher: Batcher[int, int], model: Model) -> None:
    busy, gone, stays = Caller(batcher), Caller(batcher), Caller(batcher)
    busy.place.ask(0)
    await started(model)
    gone.place.ask(1)
    stays.place.ask(2)
    gone.place.leave()
    busy.place.leave()
    model.go.release(2)
    await stays.wait(1)
    assert model.batches == [[0], [2]]
    assert gone.answers == busy.answers == []


async def test_a_batch_that_fails_is_answered_and_the_next_one_runs(
    batcher: Batcher[int, int], model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caller = Caller(batcher)
    model.go.release(2)
    caller.place.ask(-1)
    await caller.wait(1)
    caller.place.ask(5)
    await caller.wait(2)
    assert caller.answers == [(-1, None), (5, 10)]
    assert "failed on a batch" in caplog.text


async def test_every_batch_is_reported(model: Model) -> None:
    reports: list[tuple[int, float]] = []

    class Observer:
        def ran(self, queued_s: Sequence[float], run_s: float) -> None:
            assert all(wait_s >= 0 for wait_s in queued_s)
            reports.append((len(queued_s), run_s))

        def waiting(self, count: int) -> None:
            reports.append((-count, 0.0))

    batcher: Batcher[int, int] = Batcher(model.run, batch_max=3, observer=Observer())
    caller = Caller(batcher)
    model.go.release()
    caller.place.ask(1)
    await caller.wait(1)
    assert [count for count, _ in reports] == [0, 1]
    batcher.close()
