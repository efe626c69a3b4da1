"""When a worker that died is replaced. What needs processes: tests/end_to_end/test_workers.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.server import supervisor
from gateway.server.supervisor import (
    BACKOFF_S,
    BACKOFF_S_MAX,
    HEALTHY_S,
    RELOAD,
    SILENT_MAX,
    Backoff,
    Seat,
    Supervisor,
    sized,
    take_orders,
)


def test_the_wait_doubles_up_to_a_bound() -> None:
    backoff = Backoff()
    waits = [backoff.after(1.0) for _ in range(9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, BACKOFF_S_MAX]


def test_after_the_death_of_one_that_lived_long_it_begins_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1.0)
    assert backoff.after(HEALTHY_S) == BACKOFF_S
    assert backoff.after(1.0) == 2 * BACKOFF_S


def test_orders_are_taken_whole_however_they_come_in() -> None:
    sent = b"\x0f" + bytes((RELOAD,)) + sized(b"\x00" * 300) + b"\x02"
    orders: list[int | bytes] = []
    heard = bytearray()
    for i in range(len(sent)):
        heard += sent[i : i + 1]
        orders += take_orders(heard)
    assert orders == [15, b"\x00" * 300, 2]
    assert list(take_orders(bytearray(sent))) == orders


async def test_a_worker_is_killed_that_has_not_answered_for_long_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "WATCH_S", 0.0)
    answers = [*[None] * (SILENT_MAX - 1), "well", *[None] * SILENT_MAX]
    asked: list[str] = []
    killed: list[int] = []

    async def ask(worker: object, path: str) -> object:
        asked.append(path)
        return answers[len(asked) - 1]

    of = Supervisor([Seat(1, tmp_path, "127.0.0.1", 1)], ("true",), None, 1.0)
    monkeypatch.setattr(of, "_ask", ask)
    (worker,) = of._workers
    monkeypatch.setattr(worker, "kill", lambda: killed.append(len(asked)))

    await of._watch(worker)

    assert killed == [len(answers)]
