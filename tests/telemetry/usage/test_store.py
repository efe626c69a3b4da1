"""Records in a real SQLite file and a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage.record import Record, record_of
from gateway.telemetry.usage.store import Store, StoreError, open_store
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


async def test_what_was_written_is_summed_by_what_is_asked(store: Store) -> None:
    await store.write(
        [
            record(prompt_tokens=10, completion_tokens=2, cost=0.5, first_token_s=0.2),
            record(prompt_tokens=1, completion_tokens=1, cost=0.25, first_token_s=0.4),
            record(key="other", outcome="upstream_timeout"),
            record(at=5.0, key="old", cost=99.0),
        ]
    )
    rows = await store.summary(["key", "model"], 50.0)
    assert [row[:4] for row in rows] == [("k", "m", 2, 0), ("other", "m", 1, 1)]
    mine = rows[0]
    assert (mine[5], mine[7]) == (11, 3)
    assert mine[11] == pytest.approx(0.3)
    assert mine[12] == pytest.approx(0.75)
    assert (await store.summary([], 50.0))[0][0] == 3


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


def test_a_record_is_made_of_what_a_visit_notes() -> None:
    made = record_of(
        at=1.0,
        route="stt",
        key="k",
        request_id="r",
        outcome="ok",
        duration_s=2.0,
        ids={"room_id": "RM", "client_session_id": "S", "user_agent": "x"},
        notes={
            "model": "m",
            "providers": "a,b",
            "audio_s": 12.5,
            "finals": 3,
            "attempts": 2,
            "first_token_s": None,
            "cost": "not a number",
        },
    )
    assert (made.room_id, made.session_id) == ("RM", "S")
    assert (made.provider, made.audio_s, made.attempts) == ("a,b", 12.5, 2)
    assert made.cost == 0.0


def test_a_long_text_of_a_callers_is_cut() -> None:
    made = record_of(
        at=1.0, route="chat", key="k", request_id="r", outcome="ok", duration_s=2.0, ids={},
        notes={"model": "m" * 9999},
    )  # fmt: skip
    assert len(made.model) == 256
