"""Records are written off the hot path and survive a store that does not answer."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.prices import Price
from gateway.settings.usage import UsageConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices
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
from gateway.telemetry.usage.store import StoreError


class FakeStore:
    """Keeps records in memory; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.broken = False
        self.forgotten: list[float] = []
        self.closed = False
        self.wrote = asyncio.Event()

    async def write(self, records: Sequence[Record]) -> None:
        if self.broken:
            raise StoreError("full")
        self.records += records
        self.wrote.set()

    async def forget(self, before: float) -> None:
        self.forgotten.append(before)

    async def summary(self, by: Sequence[str], since: float) -> list[Any]:
        return []

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


def a_log(tmp_path: Path, store: FakeStore, **config: Any) -> tuple[UsageLog, Metrics]:
    metrics = Metrics()
    given = {"flush_s": 0.01, "spill": str(tmp_path / "spill.jsonl"), **config}
    prices = Prices({"v": Price(audio_minute=6.0)})
    return UsageLog(UsageConfig(**given), metrics, prices, store, lambda: 1e9), metrics


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
    assert store.forgotten == [1e9 - 90 * 86400]


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


def test_memory_is_bounded(tmp_path: Path, store: FakeStore) -> None:
    of, metrics = a_log(tmp_path, store)
    for number in range(WAITING_MAX + 7):
        of.add(record(number))
    assert len(of) == WAITING_MAX
    assert counted(metrics, "lost") == 7


def test_speech_is_priced_when_it_is_recorded(tmp_path: Path, store: FakeStore) -> None:
    of, _ = a_log(tmp_path, store)
    of.add(record(route="stt", model="v", audio_s=30.0))
    assert of._waiting[0].cost == pytest.approx(3.0)


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path, store: FakeStore) -> None:
    of, _ = a_log(tmp_path, store, enabled=False)
    of.add(record())
    assert len(of) == 0


def test_a_half_written_line_of_the_spill_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "spill"
    append_spill(path, [record(1), record(2)])
    with path.open("ab") as file:
        file.write(b'{"at": 3')
    assert [one.request_id for one in take_spill(path, 2)] == ["r2"]
    assert [one.request_id for one in take_spill(path, 2)] == ["r1"]
    assert not path.exists()
