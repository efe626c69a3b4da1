"""Runs what arrived while the model was busy as one batch."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

_logger = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

STALE_S: Final = 0.4
"""A question that has waited so long is answered from what is known: the interruption client gives
up on an answer after 0.7 s, and the answer still has to be made and travel."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one question waited, how long its batch ran, and how many were in it."""

    queued_s: float
    run_s: float
    batch: int


class Observer(Protocol):
    """Told of every batch; see `metrics`."""

    def ran(self, queued_s: Sequence[float], run_s: float) -> None: ...

    def waiting(self, count: int) -> None: ...


class BatchSlot(Generic[In, Out]):
    """One caller's place: at most one question waits in it, a newer one overtakes the older.

    `answered(question, answer, timing)` is called on the event loop once a question was run, or
    with answer and timing None when it was overtaken, stale or the run failed.
    """

    __slots__ = ("_answered", "_asked_at", "_batcher", "_left", "_question")

    def __init__(
        self,
        batcher: Batcher[In, Out],
        answered: Callable[[In, Out | None, Timing | None], None],
    ) -> None:
        self._batcher = batcher
        self._answered = answered
        self._question: In | None = None
        self._asked_at = 0.0
        self._left = False

    def ask(self, question: In) -> None:
        """Wait with `question`; one that waits already is answered at once with None."""
        overtaken = self._question
        self._question = question
        self._asked_at = time.perf_counter()
        self._batcher._wait(self)
        if overtaken is not None:
            self._answered(overtaken, None, None)

    def leave(self) -> None:
        """The caller is gone: what waits is dropped, what runs is not told."""
        self._left = True
        self._question = None
        self._batcher._forget(self)

    def _take(self) -> tuple[In, float]:
        assert self._question is not None
        question, self._question = self._question, None
        return question, self._asked_at

    def _tell(self, question: In, answer: Out | None, timing: Timing | None) -> None:
        if not self._left:
            self._answered(question, answer, timing)


class Batcher(Generic[In, Out]):
    """Runs what arrived while the model was busy as one batch.

    There is no timer: an idle model starts at once, a busy one collects. Each caller has one
    place, so the queue is never longer than there are callers, and a caller's backlog never
    delays another's. `run` gets a list of questions and returns their answers in order; it has a
    thread of its own, so the event loop stays free. Belongs to the event loop it is used on.
    """

    def __init__(
        self,
        run: Callable[[list[In]], list[Out]],
        *,
        batch_max: int,
        observer: Observer | None = None,
        stale_s: float = STALE_S,
        name: str = "model",
    ) -> None:
        self._run = run
        self._batch_max = batch_max
        self._observer = observer
        self._stale_s = stale_s
        self._waiting: dict[BatchSlot[In, Out], None] = {}  # in order of arrival
        self._busy = False
        self._work: queue.SimpleQueue[list[In] | None] = queue.SimpleQueue()
        self._taken: list[tuple[BatchSlot[In, Out], In, float]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name=f"infer-{name}", daemon=True)
        self._thread.start()

    def place(
        self, answered: Callable[[In, Out | None, Timing | None], None]
    ) -> BatchSlot[In, Out]:
        """A place for one caller; to be left with `leave`."""
        return BatchSlot(self, answered)

    def close(self) -> None:
        """Let the thread end after the batch it runs."""
        self._work.put(None)

    def _wait(self, place: BatchSlot[In, Out]) -> None:
        if place not in self._waiting:
            self._waiting[place] = None
        if not self._busy:
            self._loop = asyncio.get_running_loop()
            self._start()

    def _forget(self, place: BatchSlot[In, Out]) -> None:
        self._waiting.pop(place, None)

    def _start(self) -> None:
        now = time.perf_counter()
        taken: list[tuple[BatchSlot[In, Out], In, float]] = []
        stale: list[tuple[BatchSlot[In, Out], In]] = []
        for place in list(self._waiting):
            if len(taken) >= self._batch_max:
                break
            del self._waiting[place]
            question, asked_at = place._take()
            if now - asked_at > self._stale_s:
                stale.append((place, question))
            else:
                taken.append((place, question, asked_at))
        if self._observer is not None:
            self._observer.waiting(len(self._waiting))
        if taken:
            self._busy = True
            self._taken = taken
            self._work.put([question for _, question, _ in taken])
        for place, question in stale:
            place._tell(question, None, None)

    def _serve(self) -> None:
        """The thread."""
        while (batch := self._work.get()) is not None:
            began = time.perf_counter()
            try:
                answers: list[Out] | None = self._run(batch)
            except Exception:  # a batch ends here, whatever the model did
                _logger.exception("the model failed on a batch of %d", len(batch))
                answers = None
            took = time.perf_counter() - began
            loop = self._loop
            assert loop is not None
            try:
                loop.call_soon_threadsafe(self._done, answers, began, took)
            except RuntimeError:  # the loop has been closed
                return

    def _done(self, answers: list[Out] | None, began: float, took: float) -> None:
        taken, self._taken, self._busy = self._taken, [], False
        if self._waiting:
            self._start()
        if self._observer is not None:
            self._observer.ran([began - asked_at for _, _, asked_at in taken], took)
        for i, (place, question, asked_at) in enumerate(taken):
            answer = answers[i] if answers is not None else None
            place._tell(question, answer, Timing(began - asked_at, took, len(taken)))
