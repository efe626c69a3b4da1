"""Records are written off the hot path and survive a store that does not answer."""

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.usage import UsageConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import log
from gateway.telemetry.usage.log import (
    BATCH_MAX,
    SPILL_AT,
    WAITING_MAX,
    UsageLog,
    append_spill,
    take_spill,
)
from gateway.telemetry.usage.record import Record
from gateway.telemetry.usage.store import RecordError, SqliteStore, Store, StoreError


class FakeStore:
    """Keeps records in memory; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.charged: list[str] = []
        self.broken = False
        self.forgotten: list[float] = []
        self.forgets_in = 0
        self.closed = False
        self.wrote = asyncio.Event()
        self.refuses: tuple[str, ...] = ()
        self.error: Exception = RecordError("a number is too large")
        self.breaks_after: int | None = None

    async def write(self, records: Sequence[Record]) -> None:
        if self.broken or len(self.records) == self.breaks_after:
            raise StoreError("full")
        if any(one.request_id in self.refuses for one in records):
            raise self.error
        self.records += records
        self.wrote.set()

    async def forget(self, before: float) -> bool:
        if self.broken:
            raise StoreError("full")
        if before:  # else it only looks whether the store takes a write
            self.forgotten.append(before)
        return bool(before) and len(self.forgotten) < self.forgets_in

    async def charge(self, records: Sequence[Record]) -> None:
        if self.broken:
            raise StoreError("full")
        self.charged += [one.request_id for one in records if one.charges]

    async def summary(
        self,
        by: Sequence[str],
        since: float,
        until: float = 0.0,
        where: Mapping[str, str] | None = None,
        *,
        quarters: bool = False,
    ) -> list[Any]:
        return []

    async def counts(self) -> dict[str, int]:
        return {"key/k/cost/balance": 7}

    async def close(self) -> None:
        self.closed = True


def record(number: int = 0, **fields: Any) -> Record:
    given = {"route": "chat", **fields}
    return Record(
        at=float(number), key="k", request_id=f"r{number}", outcome="ok", duration_s=1.0, **given
    )


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def a_log(tmp_path: Path, store: Store, **config: Any) -> tuple[UsageLog, Metrics]:
    metrics = Metrics()
    given = {"flush_s": 0.01, "spill": str(tmp_path / "spill.jsonl"), **config}
    return UsageLog(UsageConfig(**given), metrics, store, lambda: 1e9), metrics


def counted(metrics: Metrics, outcome: str) -> float:
    value: float = metrics.usage_records.labels(outcome)._value.get()
    return value


async def test_records_are_written_in_their_order(tmp_path: Path, store: FakeStore) -> None:
    of, metrics = a_log(tmp_path, store)
    of.start()
    for number in range(3):
        of.add(record(number))
    await asyncio.wait_for(store.wrote.wait(), 60)
    await of.close()
    assert [one.request_id for one in store.records] == ["r0", "r1", "r2"]
    assert counted(metrics, "written") == 3
    assert store.closed


async def test_what_waits_at_the_end_is_written(tmp_path: Path, store: FakeStore) -> None:
    of, _ = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(BATCH_MAX + 5):
        of.add(record(number))
    await of.close()
    assert len(store.records) == BATCH_MAX + 5


async def test_a_store_that_is_down_at_the_end_costs_no_record(
    tmp_path: Path, store: FakeStore
) -> None:
    store.broken = True
    of, metrics = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(10):
        of.add(record(number))
    await of.close()
    assert counted(metrics, "spilt") == 10
    store.broken = False
    later, _ = a_log(tmp_path, store)
    later.start()
    await asyncio.wait_for(store.wrote.wait(), 60)
    await later.close()
    assert sorted(one.request_id for one in store.records) == sorted(f"r{i}" for i in range(10))
    assert not (tmp_path / "spill.jsonl").exists()


async def test_what_a_store_that_hangs_has_at_the_end_is_spilt(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "CLOSE_S", 0.05)
    monkeypatch.setattr(store, "write", lambda records: asyncio.Event().wait())
    of, metrics = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(10):
        of.add(record(number))
    await of.close()
    assert counted(metrics, "spilt") == 10


async def test_what_sqlite_is_writing_at_the_end_is_not_spilt_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread cannot be stopped, and writes once the other process is done."""
    monkeypatch.setattr(log, "CLOSE_S", 0.05)
    path = tmp_path / "usage.db"
    sqlite = SqliteStore(path)
    await sqlite.write([record(0)])
    of, metrics = a_log(tmp_path, sqlite, flush_s=60)
    monkeypatch.setattr(of, "_look_at_store", lambda: asyncio.sleep(0))  # it would be waited for
    of.start()
    for number in range(1, 11):
        of.add(record(number))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        closing = asyncio.create_task(of.close())
        await asyncio.sleep(0.5)
        other.execute("COMMIT")
        await closing
        written = other.execute("SELECT count(*) FROM parley_usage").fetchone()[0]
    assert (written, counted(metrics, "spilt")) == (11, 0)
    assert counted(metrics, "written") == 10


async def test_an_error_while_records_are_set_aside_loses_none(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(records: Sequence[Record]) -> None:
        raise RuntimeError("what no store should raise")

    monkeypatch.setattr(store, "charge", fails)
    store.refuses = ("r1",)
    of, _ = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(3):
        of.add(record(number))
    await of.close()
    assert [one.request_id for one in store.records] == ["r0", "r2"]
    aside = (tmp_path / "spill.jsonl.refused").read_text()
    assert '"r1"' in aside


async def test_a_long_failure_spills_and_then_everything_is_written(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RETRY_S_MAX", 0.01)
    store.broken = True
    of, metrics = a_log(tmp_path, store)
    of.start()
    for number in range(SPILL_AT + 100):
        of.add(record(number))
    while not counted(metrics, "spilt"):
        await asyncio.sleep(0.01)
    store.broken = False
    while len(store.records) < SPILL_AT + 100:
        await asyncio.sleep(0.01)
    await of.close()
    assert len({one.request_id for one in store.records}) == SPILL_AT + 100
    assert counted(metrics, "lost") == 0


async def test_what_neither_holds_is_counted(tmp_path: Path, store: FakeStore) -> None:
    store.broken = True
    (tmp_path / "file").write_text("")
    of, metrics = a_log(tmp_path, store, flush_s=60, spill=str(tmp_path / "file" / "x"))
    of.start()
    of.add(record())
    await of.close()
    assert counted(metrics, "lost") == 1


async def test_a_spill_file_that_takes_nothing_loses_nothing_while_memory_does(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RETRY_S_MAX", 0.01)
    store.broken = True
    (tmp_path / "file").write_text("")
    of, metrics = a_log(tmp_path, store, spill=str(tmp_path / "file" / "x"))
    for number in range(SPILL_AT + 100):
        of.add(record(number))
    of.start()
    while counted(metrics, "retried") < 3 * BATCH_MAX:
        await asyncio.sleep(0.01)
    store.broken = False
    while len(store.records) < SPILL_AT + 100:
        await asyncio.sleep(0.01)
    await of.close()
    assert [one.request_id for one in store.records] == [f"r{i}" for i in range(SPILL_AT + 100)]
    assert counted(metrics, "lost") == 0


def test_a_disk_that_takes_a_part_of_what_is_spilt_keeps_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "spill"
    append_spill(path, [record(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OSError):
            append_spill(path, [record(2), record(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert [one.request_id for one in take_spill(path, 10)] == ["r1"]


def test_memory_is_bounded(tmp_path: Path, store: FakeStore) -> None:
    of, metrics = a_log(tmp_path, store)
    for number in range(WAITING_MAX + 7):
        of.add(record(number))
    assert len(of) == WAITING_MAX
    assert counted(metrics, "lost") == 7


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path, store: FakeStore) -> None:
    of, _ = a_log(tmp_path, store, enabled=False)
    of.add(record())
    assert len(of) == 0


def test_what_is_spilt_behind_a_half_written_line_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spill.jsonl"
    path.write_bytes(b'{"at": 1, "rou')  # and then the power failed
    append_spill(path, [record(1)])
    append_spill(path, [record(2)])
    assert [one.request_id for one in take_spill(path, 10)] == ["r1", "r2"]


def test_a_half_written_line_of_the_spill_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "spill"
    append_spill(path, [record(1), record(2)])
    with path.open("ab") as file:
        file.write(b'{"at": 3')
    assert [one.request_id for one in take_spill(path, 2)] == ["r2"]
    assert [one.request_id for one in take_spill(path, 2)] == ["r1"]
    assert not path.exists()


@pytest.mark.parametrize("error", [RecordError("a number is too large"), KeyError("unheard of")])
async def test_a_record_that_the_store_refuses_is_set_aside_and_the_others_are_written(
    tmp_path: Path, store: FakeStore, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuses, store.error = ("r3", "r77"), error
    of, metrics = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(100):
        of.add(record(number, prompt_tokens=1 << 64))
    await of.close()
    assert len({one.request_id for one in store.records}) == len(store.records) == 98
    assert counted(metrics, "refused") == 2
    assert counted(metrics, "written") == 98
    [line] = [one for one in caplog.records if "set aside" in one.message]
    assert line.__dict__["refused"] == 2
    kept = (tmp_path / "spill.jsonl.refused").read_text().splitlines()
    assert [f'"r{n}"' in text for n, text in zip((3, 77), kept, strict=True)] == [True, True]


async def test_a_record_that_is_refused_is_charged_all_the_same(
    tmp_path: Path, store: FakeStore
) -> None:
    store.refuses = ("r1",)
    of, _ = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(3):
        of.add(record(number, charges={"key/k/cost/balance": 5}))
    await of.close()
    assert store.charged == ["r1"]


async def test_what_waits_in_the_spill_file_is_charged_when_it_is_written(
    tmp_path: Path, store: FakeStore
) -> None:
    append_spill(tmp_path / "spill.jsonl", [record(1, charges={"key/k/cost/balance": 5})])
    of, _ = a_log(tmp_path, store)
    of.start()
    await asyncio.wait_for(store.wrote.wait(), 60)
    await of.close()
    assert [dict(one.charges) for one in store.records] == [{"key/k/cost/balance": 5}]


async def test_balances_are_read_from_the_store(tmp_path: Path, store: FakeStore) -> None:
    of, _ = a_log(tmp_path, store)
    assert await of.counts() == {"key/k/cost/balance": 7}


async def test_a_store_that_fails_while_records_are_set_aside_gets_none_twice(
    tmp_path: Path, store: FakeStore
) -> None:
    store.refuses, store.breaks_after = ("r90",), 50
    of, _ = a_log(tmp_path, store, flush_s=60)
    of.start()
    for number in range(100):
        of.add(record(number))
    await of.close()
    spilt = take_spill(tmp_path / "spill.jsonl", 1000)
    assert len(store.records) == 50
    assert {one.request_id for one in (*store.records, *spilt)} == {f"r{i}" for i in range(100)}
    assert len(spilt) == 50


async def test_an_error_of_the_log_itself_does_not_end_it(
    tmp_path: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, _ = a_log(tmp_path, store)
    monkeypatch.setattr(log, "RETRY_S_MAX", 0.01)
    monkeypatch.setattr(store, "forget", None)
    of._clocks = (1e9 - log.SURE_S, of._clock() - log.SURE_S)
    of.start()
    of.add(record(1))
    await asyncio.wait_for(store.wrote.wait(), 60)
    store.wrote.clear()
    of.add(record(2))
    await asyncio.wait_for(store.wrote.wait(), 60)
    await of.close()
    assert len(store.records) == 2


class Clocks:
    """A wall clock and a monotonic one."""

    def __init__(self) -> None:
        self.wall = 1e9
        self.now = 50.0

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


async def forgetful(tmp_path: Path, store: FakeStore) -> tuple[UsageLog, Clocks]:
    clocks = Clocks()
    config = UsageConfig(spill=str(tmp_path / "spill.jsonl"))
    of = UsageLog(config, Metrics(), store, lambda: clocks.wall, lambda: clocks.now)
    await of._forget_old()
    return of, clocks


async def test_old_records_are_deleted_once_the_clock_has_shown_that_it_runs(
    tmp_path: Path, store: FakeStore
) -> None:
    of, clocks = await forgetful(tmp_path, store)
    assert not store.forgotten
    store_of = of._store = store
    for _ in range(13):
        clocks.go_on(600)
        await of._forget_old()
    assert len(store_of.forgotten) == 3
    assert store.forgotten[0] == 1e9 + 600 - 90 * 86400


async def test_what_is_left_to_delete_is_deleted_after_the_next_write(
    tmp_path: Path, store: FakeStore
) -> None:
    store.forgets_in = 3
    of, clocks = await forgetful(tmp_path, store)
    of._store = store
    clocks.go_on(600)
    for number in range(1, 4):
        await of._forget_old()
        assert len(store.forgotten) == number  # new records are not held up by the rest
        clocks.go_on(2)
    await of._forget_old()
    assert len(store.forgotten) == 3


async def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, store: FakeStore) -> None:
    of, clocks = await forgetful(tmp_path, store)
    clocks.go_on(3000)
    clocks.wall += 95 * 86400
    await of._forget_old()
    clocks.go_on(3)
    await of._forget_old()
    clocks.wall -= 95 * 86400
    await of._forget_old()
    assert not store.forgotten
    clocks.go_on(601)
    await of._forget_old()
    assert len(store.forgotten) == 1


async def test_a_store_that_takes_nothing_is_told_at_the_start(
    tmp_path: Path, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.broken = True
    of, _ = a_log(tmp_path, store)
    of.start()
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.001)
    assert caplog.records[0].message == "usage records cannot be written; they will wait"
    await of.close()
