"""Where usage records are kept: SQLite, or PostgreSQL by its URL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage.record import COLUMNS, Record, sql_type

TIMEOUT_S: Final = 10.0
"""How long a store may take for one batch."""

BUSY_S: Final = 5.0
"""How long SQLite waits for another process that writes."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    tuple(
        "at route key request_id outcome duration_s room_id job_id agent_id session_id model "
        "provider deployment attempts hedges prompt_tokens cached_tokens completion_tokens "
        "reasoning_tokens audio_s characters first_token_s cost estimated".split()
    ),
    ("first_word_s", "final_s", "standby_s"),
)
"""The versions of the table, in order: the columns that each adds. A new field of `Record` is a new
version. Tables from before versions were counted are version 0 and have some of the first."""

VERSION: Final = len(MIGRATIONS)
"""A table of a later version is used as it is: whatever it has more has defaults."""

_INDEX: Final = "CREATE INDEX IF NOT EXISTS parley_usage_at ON parley_usage (at)"
_CREATE: Final = f"""CREATE TABLE IF NOT EXISTS parley_usage (
    {", ".join(f"{name} {sql_type(name)}" for name in MIGRATIONS[0])}
)"""

_LOCK: Final = 0x7061726C6579
"""PostgreSQL's advisory lock under which one process at a time migrates."""


def _columns_since(version: int) -> list[str]:
    return [name for columns in MIGRATIONS[version:] for name in columns]


DIMENSIONS: Final = {
    "key": "key",
    "model": "model",
    "provider": "provider",
    "deployment": "deployment",
    "route": "route",
    "outcome": "outcome",
    "room": "room_id",
    "job": "job_id",
    "agent": "agent_id",
    "session": "session_id",
}
"""What usage can be grouped by, and its column."""

SUMS: Final = {
    "requests": "count(*)",
    "failed": "sum(CASE WHEN outcome IN ('ok', 'left') THEN 0 ELSE 1 END)",
    "attempts": "sum(attempts)",
    "prompt": "sum(prompt_tokens)",
    "cached": "sum(cached_tokens)",
    "completion": "sum(completion_tokens)",
    "reasoning": "sum(reasoning_tokens)",
    "audio_s": "sum(audio_s)",
    "characters": "sum(characters)",
    "first_token_s": "avg(first_token_s)",
    "first_word_s": "avg(first_word_s)",
    "final_s": "avg(final_s)",
    "standby_s": "sum(standby_s)",
    "cost": "sum(cost)",
}
"""What is shown for each group, in SQL that both stores understand."""


class Store(Protocol):
    """Keeps records. Every method raises StoreError when the store cannot do it now."""

    async def write(self, records: Sequence[Record]) -> None:
        """Keep all of `records`, or none. Raises RecordError if one of them can never be kept."""

    async def forget(self, before: float) -> None:
        """Delete what ended before this Unix time."""

    async def summary(self, by: Sequence[str], since: float) -> list[tuple[Any, ...]]:
        """Rows of the values of `by` (of DIMENSIONS) and then of SUMS, the dearest first."""

    async def close(self) -> None: ...


class StoreError(Exception):
    """The store cannot be reached, or has no room."""


class RecordError(Exception):
    """A record holds what the store does not take: to write it again is of no use."""


_UNWRITABLE: Final = (OverflowError, TypeError, ValueError)
"""What drivers raise for a value: a number of more than 64 bits, half a surrogate pair."""


def state_folder() -> Path:
    """Where things are kept that no operator has named a place for."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "parley"


def open_store(config: UsageConfig) -> Store:
    """The store that the configuration names; nothing is opened yet."""
    url = config.url.get_secret_value() if config.url else f"sqlite:{state_folder() / 'usage.db'}"
    if url.startswith("sqlite:"):
        return SqliteStore(Path(url.removeprefix("sqlite:").removeprefix("//")))
    return PostgresStore(url)


def _query(by: Sequence[str], place: str) -> str:
    columns = [DIMENSIONS[name] for name in by]
    group = f" GROUP BY {', '.join(columns)}" if columns else ""
    # every name is from the tables above
    return (
        f"SELECT {', '.join([*columns, *SUMS.values()])} FROM parley_usage "  # noqa: S608
        f"WHERE at >= {place}{group} ORDER BY sum(cost) DESC, count(*) DESC"
    )


_SQLITE_DATA: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class SqliteStore:
    """A file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = asyncio.Lock()

    async def write(self, records: Sequence[Record]) -> None:
        await self._run(self._write, records)

    async def forget(self, before: float) -> None:
        await self._run(self._forget, before)

    async def summary(self, by: Sequence[str], since: float) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._run(self._summary, by, since)
        return rows

    async def close(self) -> None:
        if self._connection is not None:
            await asyncio.to_thread(self._connection.close)
            self._connection = None

    async def _run(self, work: Any, *arguments: Any) -> Any:
        async with self._lock:
            try:
                return await asyncio.to_thread(self._work, work, *arguments)
            except (*_UNWRITABLE, *_SQLITE_DATA) as error:
                raise RecordError(f"{type(error).__name__}: {error}"[:200]) from error
            except (sqlite3.Error, OSError) as error:
                if self._connection is not None:
                    connection, self._connection = self._connection, None
                    await asyncio.to_thread(connection.close)  # it may have to wait for a disk
                raise StoreError(f"{type(error).__name__}: {error}") from error

    def _work(self, work: Any, *arguments: Any) -> Any:
        """In a thread: to open the file may take as long as to write it."""
        if self._connection is None:
            self._connection = self._open()
        return work(self._connection, *arguments)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _migrate(connection: sqlite3.Connection) -> None:
        def version() -> int:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            return int(found)

        if version() >= VERSION:
            return
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            missing = _columns_since(version())  # another process may have been faster
            if not missing:
                return
            connection.execute(_CREATE)
            there = {row[1] for row in connection.execute("PRAGMA table_info(parley_usage)")}
            for name in missing:
                if name not in there:
                    connection.execute(
                        f"ALTER TABLE parley_usage ADD COLUMN {name} {sql_type(name)}"
                    )
            connection.execute(_INDEX)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    @staticmethod
    def _write(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        places = ", ".join("?" * len(COLUMNS))
        with connection:
            connection.executemany(
                f"INSERT INTO parley_usage ({', '.join(COLUMNS)}) VALUES ({places})",  # noqa: S608
                [astuple(record) for record in records],
            )

    @staticmethod
    def _forget(connection: sqlite3.Connection, before: float) -> None:
        with connection:
            connection.execute("DELETE FROM parley_usage WHERE at < ?", (before,))

    @staticmethod
    def _summary(
        connection: sqlite3.Connection, by: Sequence[str], since: float
    ) -> list[tuple[Any, ...]]:
        return connection.execute(_query(by, "?"), (since,)).fetchall()


class PostgresStore:
    """A table in PostgreSQL, by asyncpg (extra `postgres`)."""

    def __init__(self, url: str) -> None:
        import asyncpg  # here, that SQLite does not need it and no caller waits for it

        self._asyncpg = asyncpg
        self._url = url
        self._connection: Any = None

    async def write(self, records: Sequence[Record]) -> None:
        async def write(connection: Any) -> None:
            await connection.copy_records_to_table(
                "parley_usage", records=[astuple(record) for record in records], columns=COLUMNS
            )

        await self._run(write)

    async def forget(self, before: float) -> None:
        await self._run(lambda c: c.execute("DELETE FROM parley_usage WHERE at < $1", before))

    async def summary(self, by: Sequence[str], since: float) -> list[tuple[Any, ...]]:
        rows = await self._run(lambda c: c.fetch(_query(by, "$1"), since))
        return [tuple(row) for row in rows]

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

    async def _run(self, use: Any) -> Any:
        asyncpg = self._asyncpg
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(self._url, timeout=TIMEOUT_S)
                    await self._migrate(self._connection)
                return await use(self._connection)
        except (
            asyncpg.DataError,
            asyncpg.IntegrityConstraintViolationError,
            *_UNWRITABLE,
        ) as error:
            raise RecordError(f"{type(error).__name__}: {error}"[:200]) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            await self.close()
            raise StoreError(type(error).__name__) from error

    @staticmethod
    async def _migrate(connection: Any) -> None:
        async def version() -> int:
            # a role that may not create tables can still write where the table is there
            if await connection.fetchval("SELECT to_regclass('parley_usage_version')") is None:
                return 0
            found = await connection.fetchval("SELECT max(version) FROM parley_usage_version")
            return int(found or 0)

        if await version() >= VERSION:
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            missing = _columns_since(await version())  # another process may have been faster
            if not missing:
                return
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS parley_usage_version (version integer NOT NULL)"
            )
            await connection.execute(_CREATE)
            for name in missing:
                await connection.execute(
                    f"ALTER TABLE parley_usage ADD COLUMN IF NOT EXISTS {name} {sql_type(name)}"
                )
            await connection.execute(_INDEX)
            await connection.execute("INSERT INTO parley_usage_version VALUES ($1)", VERSION)
