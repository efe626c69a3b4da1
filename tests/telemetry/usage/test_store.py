"""Records in a real SQLite file and a real PostgreSQL."""

import asyncio
import contextlib
import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage import store as store_module
from gateway.telemetry.usage.record import COLUMNS, Record, sql_type
from gateway.telemetry.usage.store import (
    MIGRATIONS,
    SUMS,
    RecordError,
    Store,
    StoreError,
    open_store,
)
from tests import services
from tests.ports import Port


@pytest.fixture(scope="module")
def postgres() -> Iterator[services.Postgres]:
    with services.postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        url = f"sqlite:{tmp_path}/deep/usage.db"
    else:
        url = request.getfixturevalue("postgres").url
    made = open_store(UsageConfig(url=SecretStr(url)))
    yield made
    await made.forget(1e12)
    await made.close()


def record(at: float = 100.0, **fields: Any) -> Record:
    given = {"key": "k", "model": "m", "outcome": "ok", "duration_s": 1.5, **fields}
    return Record(at=at, route="chat", request_id="req_1", **given)


def named(rows: list[tuple[Any, ...]], by: int) -> list[dict[str, Any]]:
    return [dict(zip(SUMS, row[by:], strict=True)) for row in rows]


async def test_what_was_written_is_summed_by_what_is_asked(store: Store) -> None:
    await store.write(
        [
            record(prompt_tokens=10, completion_tokens=2, cost_nano=5, first_token_s=0.2),
            record(prompt_tokens=1, completion_tokens=1, cost_nano=2, first_token_s=0.4),
            record(key="other", outcome="upstream_timeout"),
            record(at=5.0, key="old", cost_nano=99),
        ]
    )
    rows = sorted(await store.summary(["key", "model"], 50.0))
    assert [row[:4] for row in rows] == [("k", "m", 2, 0), ("other", "m", 1, 1)]
    mine = named(rows, 2)[0]
    assert (mine["prompt"], mine["completion"], mine["cost_nano"]) == (11, 3, 7)
    assert mine["first_tokens"] == 2
    assert mine["first_tokens_s"] == pytest.approx(0.6)
    assert (await store.summary([], 50.0))[0][0] == 3
    assert (await store.summary([], 0.0, 100.0))[0][0] == 1
    assert (await store.summary([], 50.0, where={"key": "other"}))[0][0] == 1


async def test_parts_of_a_session_are_one_request_and_add_up(store: Store) -> None:
    await store.write(
        [
            record(part=i, outcome=outcome, cost_nano=1, audio_ms=333, at=100.0 + 900 * i)
            for i, outcome in enumerate(("running", "running", "ok"))
        ]
    )
    (sums,) = named(await store.summary([], 50.0), 0)
    assert (sums["requests"], sums["failed"]) == (1, 0)
    assert (sums["cost_nano"], sums["audio_ms"]) == (3, 999)
    quarters = sorted(await store.summary(["key"], 50.0, quarters=True))
    assert [row[:3] for row in quarters] == [("k", 0, 1), ("k", 1, 0), ("k", 2, 0)]


async def test_records_of_before_money_was_counted_exactly_are_summed_too(store: Store) -> None:
    await store.write([record(cost=0.5, audio_s=1.5), record(cost_nano=7, audio_ms=1)])
    (sums,) = named(await store.summary([], 50.0), 0)
    assert (sums["cost_nano"], sums["audio_ms"]) == (500_000_007, 1501)


async def test_money_adds_up_to_the_last_digit(store: Store) -> None:
    costs = [123_456_789_012_345 + i for i in range(300)]
    await store.write([record(cost_nano=cost) for cost in costs])
    (sums,) = named(await store.summary([], 50.0), 0)
    assert sums["cost_nano"] == sum(costs)


async def test_sums_are_numbers_that_json_has(store: Store) -> None:
    await store.write([record(prompt_tokens=10, cost_nano=2**53, first_token_s=0.25)])
    (sums,) = named(orjson.loads(orjson.dumps(await store.summary(["key"], 50.0))), 1)
    assert (sums["prompt"], sums["cost_nano"], sums["first_tokens_s"]) == (10, 2**53, 0.25)
    assert orjson.dumps(await store.summary([], 1e9))


async def test_budgets_and_balances_are_charged_with_the_records_or_not_at_all(
    store: Store,
) -> None:
    charges = {"key/k/cost/balance": 5, "key/k/tokens/day/2026-11-30": 2}
    before = await store.counts()
    await store.write([record(charges=charges), record(charges={"key/k/cost/balance": 1})])
    with pytest.raises(RecordError):
        await store.write([record(charges=charges, prompt_tokens=1 << 63)])
    await store.charge([record(charges={"key/k/cost/balance": 10})])
    counts = await store.counts()
    assert counts["key/k/cost/balance"] - before.get("key/k/cost/balance", 0) == 16
    assert counts["key/k/tokens/day/2026-11-30"] == 2


async def test_counts_of_days_that_are_long_over_are_forgotten(store: Store) -> None:
    names = ("key/a/cost/balance", "key/a/cost/day/2026-07-30", "key/a/cost/month/2026-07")
    kept = ("key/a/cost/day/2026-11-01", "key/a/cost/month/2026-11")
    await store.write([record(charges=dict.fromkeys((*names, *kept), 1))])
    end_of_year = 1_798_675_200.0  # 2026-12-31
    await store.forget(end_of_year - 30 * 86400)
    assert {name for name in await store.counts() if "/a/" in name} == {names[0], *kept}


async def test_old_records_are_forgotten(store: Store) -> None:
    await store.write([record(at=5.0), record(at=500.0)])
    await store.forget(100.0)
    assert (await store.summary([], 0.0))[0][0] == 1


async def test_a_store_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with Port() as nobodys:
        for url in (
            f"sqlite:{tmp_path}/file/usage.db",
            f"postgresql://x@127.0.0.1:{nobodys.number}/x",
        ):
            store = open_store(UsageConfig(url=SecretStr(url)))
            with pytest.raises(StoreError):
                await store.write([record()])
            await store.close()


async def test_a_store_that_was_stopped_is_used_again_once_it_runs() -> None:
    with services.postgres() as server:
        store = open_store(UsageConfig(url=SecretStr(server.url)))
        await store.write([record()])
        server.stop()
        with pytest.raises(StoreError):
            await store.write([record()])
        server.start()
        await store.write([record()])
        assert (await store.summary([], 0.0))[0][0] == 2
        await store.close()


async def test_a_server_that_hangs_within_a_write_is_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one whose disk does: the write has begun, and nothing is answered any more."""
    with services.postgres() as server:
        made = open_store(UsageConfig(url=SecretStr(server.url)))
        await made.write([record()])
        other = await asyncpg.connect(server.url)
        locked = other.transaction()
        await locked.start()
        await other.execute("LOCK TABLE parley_usage")
        monkeypatch.setattr(store_module, "TIMEOUT_S", 1.0)
        writing = asyncio.create_task(made.write([record()]))
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        server.hang()
        await asyncio.wait([writing], timeout=20)
        assert writing.done()
        assert isinstance(writing.exception(), StoreError)
        server.go_on()
        await locked.rollback()
        await other.close()
        monkeypatch.undo()
        await made.write([record()])
        assert (await made.summary([], 0.0))[0][0] == 2
        await made.close()


async def test_more_old_records_than_can_be_deleted_in_one_go_are_forgotten_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with services.postgres() as server:
        made = open_store(UsageConfig(url=SecretStr(server.url)))
        await made.write([record(at=float(i)) for i in range(24)])
        await spoilt(
            server.url,
            [
                "CREATE FUNCTION slow() RETURNS trigger AS "
                "'BEGIN PERFORM pg_sleep(0.2); RETURN OLD; END' LANGUAGE plpgsql",
                "CREATE TRIGGER slow BEFORE DELETE ON parley_usage "
                "FOR EACH ROW EXECUTE FUNCTION slow()",
            ],
        )
        monkeypatch.setattr(store_module, "TIMEOUT_S", 4.0)
        monkeypatch.setattr(store_module, "FORGET_MAX", 5, raising=False)
        goes = 1
        while await made.forget(23.0):
            goes += 1
        assert goes == 5
        assert (await made.summary([], 0.0))[0][0] == 1
        await made.close()


async def test_a_connection_that_is_refused_is_no_fault_of_the_records(
    postgres: services.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a certificate is over, or of all servers none is the first while they change."""
    connect = asyncpg.connect
    made = open_store(UsageConfig(url=SecretStr(postgres.url)))
    for error in (
        ssl.SSLCertVerificationError(1, "certificate has expired"),
        asyncpg.exceptions.TargetServerAttributeNotMatched("none takes writes"),
    ):
        name = type(error).__name__

        async def refused(*args: Any, error: Exception = error, **options: Any) -> Any:
            raise error

        monkeypatch.setattr(asyncpg, "connect", refused)
        with pytest.raises(StoreError, match=name):
            await made.write([record()])
    monkeypatch.setattr(asyncpg, "connect", connect)
    await made.write([record()])
    await made.close()


async def spoilt(url: str, statements: Sequence[str]) -> None:
    """Execute SQL on a database, not by way of the store."""
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:"))) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/usage.db"
    found: str = request.getfixturevalue("postgres").url
    tables = ("parley_usage", "parley_usage_version", "parley_counts")
    await spoilt(found, [f"DROP TABLE IF EXISTS {table}" for table in tables])
    return found


async def used(url: str) -> list[Any]:
    """What is in the store after one record more."""
    made = open_store(UsageConfig(url=SecretStr(url)))
    await made.write([record(hedges=1, estimated=True)])
    rows = await made.summary(["route"], 0.0)
    await made.close()
    return rows


async def test_a_table_from_before_a_column_was_there_gets_it_and_keeps_its_rows(url: str) -> None:
    old = [name for name in MIGRATIONS[0] if name not in ("hedges", "estimated", "first_token_s")]
    columns = ", ".join(f"{name} {sql_type(name)}" for name in old)
    await spoilt(
        url,
        [
            f"CREATE TABLE parley_usage ({columns})",
            "INSERT INTO parley_usage (at, route) VALUES (1, 'chat')",
        ],
    )
    assert [row[:2] for row in await used(url)] == [("chat", 2)]
    assert [row[:2] for row in await used(url)] == [("chat", 3)]  # opened again


async def test_a_table_of_a_later_version_is_used_as_it_is(url: str) -> None:
    await used(url)
    later = ["ALTER TABLE parley_usage ADD COLUMN later text NOT NULL DEFAULT ''"]
    if url.startswith("sqlite:"):
        later.append("PRAGMA user_version = 99")
    else:
        later.append("INSERT INTO parley_usage_version VALUES (99)")
    await spoilt(url, later)
    assert [row[:2] for row in await used(url)] == [("chat", 2)]


async def test_processes_that_start_together_migrate_once(url: str) -> None:
    await asyncio.gather(*(used(url) for _ in range(4)))
    assert [row[:2] for row in await used(url)] == [("chat", 5)]


def test_every_field_of_a_record_has_its_version() -> None:
    assert [name for columns in MIGRATIONS for name in columns] == list(COLUMNS)


@pytest.mark.parametrize("fields", [{"prompt_tokens": 1 << 63}, {"model": "half \ud800 a pair"}])
async def test_what_no_store_can_hold_is_the_records_fault(
    store: Store, fields: dict[str, Any]
) -> None:
    await store.forget(1e12)
    with pytest.raises(RecordError):
        await store.write([record(), record(**fields)])
    await store.write([record()])
    assert (await store.summary([], 0.0))[0][0] == 1


async def test_processes_charge_the_same_balance_at_once(url: str) -> None:
    stores = [open_store(UsageConfig(url=SecretStr(url))) for _ in range(6)]
    names = [f"key/c/cost/day/2026-11-{day:02}" for day in range(1, 20)]
    await asyncio.gather(
        *(
            one.write([record(charges=dict.fromkeys(names[:: (-1) ** i], 1))])
            for i, one in enumerate(stores)
        )
    )
    counts = await stores[0].counts()
    assert [counts[name] for name in names] == [6] * len(names)
    for one in stores:
        await one.close()


async def test_a_question_makes_no_file(tmp_path: Path) -> None:
    store = open_store(UsageConfig(url=SecretStr(f"sqlite:{tmp_path}/deep/usage.db")))
    assert await store.summary(["key"], 0.0) == []
    await store.close()
    assert not (tmp_path / "deep").exists()
