"""Where usage records are kept: SQLite, or PostgreSQL by its URL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage.record import COLUMNS, Record, sql_type, values_of

TIMEOUT_S: Final = 10.0
"""How long a store may take for one batch."""

BUSY_S: Final = 5.0
"""How long SQLite waits for another process that writes."""

WAL_RETRY_S: Final = 0.02
"""Between two tries to change to a write-ahead log."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    tuple(
        "at route key request_id outcome duration_s room_id job_id agent_id session_id model "
        "provider deployment attempts hedges prompt_tokens cached_tokens completion_tokens "
        "reasoning_tokens audio_s characters first_token_s cost estimated".split()
    ),
    ("part", "identity", "tenant", "cost_nano", "audio_ms"),
    ("first_word_s", "final_s", "standby_s"),
    ("audio_prompt_tokens", "audio_completion_tokens"),
)
"""The versions of the table, in order: the columns that each adds. A new field of `Record` is a new
version. Tables from before versions were counted are version 0 and have some of the first."""

VERSION: Final = len(MIGRATIONS)
"""A table of a later version is used as it is: whatever it has more has defaults."""

_INDEX: Final = "CREATE INDEX IF NOT EXISTS parley_usage_at ON parley_usage (at)"
_CREATE: Final = f"""CREATE TABLE IF NOT EXISTS parley_usage (
    {", ".join(f"{name} {sql_type(name)}" for name in MIGRATIONS[0])}
)"""

_CREATE_COUNTS: Final = """CREATE TABLE IF NOT EXISTS parley_counts (
    name text PRIMARY KEY, used bigint NOT NULL
)"""
"""Counts of budgets and balances: `key/NAME/cost/balance`, `key/NAME/tokens/month/2026-11`. What
they are of is kept longer than the records."""

_COUNT: Final = """INSERT INTO parley_counts (name, used) VALUES ({0}, {1})
    ON CONFLICT (name) DO UPDATE SET used = parley_counts.used + excluded.used"""

FORGET_MAX: Final = 10_000
"""Records that PostgreSQL deletes in one go: those of months would take longer than TIMEOUT_S, and
none would ever be gone."""

_FORGET_SOME: Final = """DELETE FROM parley_usage WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM parley_usage WHERE at < $1 LIMIT $2))"""

COUNTS_KEPT_S: Final = 62 * 86400.0
"""A count of a day or a month is kept so much longer than records."""

_LOCK: Final = 0x7061726C6579
"""PostgreSQL's advisory lock under which one process at a time migrates."""


def _columns_since(version: int) -> list[str]:
    return [name for columns in MIGRATIONS[version:] for name in columns]


DIMENSIONS: Final = {
    "key": "key",
    "tenant": "tenant",
    "identity": "identity",
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

QUARTER_S: Final = 900
"""A quarter of an hour: days and months of every time zone begin with one."""


def _exact(column: str, older: str, factor: int) -> str:
    """A column in whole units; of records from before it was there, what the older one says."""
    return (
        f"sum(CASE WHEN {column} = 0 THEN CAST(round({older} * {factor}.0) AS bigint) "
        f"ELSE {column} END)"
    )


SUMS: Final = {
    "requests": "sum(CASE WHEN part = 0 THEN 1 ELSE 0 END)",
    "failed": "sum(CASE WHEN outcome IN ('ok', 'left', 'running') THEN 0 ELSE 1 END)",
    "attempts": "sum(attempts)",
    "prompt": "sum(prompt_tokens)",
    "cached": "sum(cached_tokens)",
    "completion": "sum(completion_tokens)",
    "reasoning": "sum(reasoning_tokens)",
    "audio_ms": _exact("audio_ms", "audio_s", 1000),
    "characters": "sum(characters)",
    "first_tokens": "count(first_token_s)",
    "first_tokens_s": "sum(first_token_s)",
    "first_words": "count(first_word_s)",
    "first_words_s": "sum(first_word_s)",
    "finals": "count(final_s)",
    "finals_s": "sum(final_s)",
    "standby_s": "sum(standby_s)",
    "cost_nano": _exact("cost_nano", "cost", 1_000_000_000),
}
"""What is summed for each group, in SQL that both stores understand."""


YEAR_9999: Final = 253_370_764_800.0
"""Python's calendar goes no further."""

LAST: Final = 1e12
"""Later than any record."""

NOWHERE: Final[Mapping[str, str]] = {}


class Store(Protocol):
    """Keeps records. Every method raises StoreError when the store cannot do it now."""

    async def write(self, records: Sequence[Record]) -> None:
        """Keep all of `records`, or none. Raises RecordError if one of them can never be kept."""

    async def charge(self, records: Sequence[Record]) -> None:
        """Keep nothing of `records` but what they add to budgets and balances."""

    async def forget(self, before: float) -> bool:
        """Delete what ended before this Unix time: all of it, or as much as takes little time. Then
        it is True, and there may be more."""

    async def summary(
        self,
        by: Sequence[str],
        since: float,
        until: float = LAST,
        where: Mapping[str, str] = NOWHERE,
        *,
        quarters: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Rows of the values of `by` (of DIMENSIONS), with `quarters` the number of the quarter of
        an hour (Unix time), and then of SUMS. Only records that ended from `since` on and before
        `until`, and only those with these values of DIMENSIONS."""

    async def counts(self) -> dict[str, int]:
        """Budgets and balances: how much is used of each, by name."""

    async def close(self) -> None: ...


class StoreError(Exception):
    """The store cannot be reached, or has no room."""


class RecordError(Exception):
    """A record holds what the store does not take: to write it again is of no use."""


def _why(error: Exception) -> str:
    """The kind of failure in words, without what the server says: that may hold a secret."""
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()
    return type(error).__name__


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


def _query(
    by: Sequence[str], where: Sequence[str], places: Iterable[str], quarter: str | None
) -> str:
    columns = [DIMENSIONS[name] for name in by] + ([quarter] if quarter else [])
    group = f" GROUP BY {', '.join(columns)}" if columns else ""
    marks = iter(places)
    conditions = [f"at >= {next(marks)}", f"at < {next(marks)}"]
    conditions += [f"{DIMENSIONS[name]} = {next(marks)}" for name in where]
    # every name is from the tables above
    return (
        f"SELECT {', '.join([*columns, *SUMS.values()])} FROM parley_usage "  # noqa: S608
        f"WHERE {' AND '.join(conditions)}{group}"
    )


def _plain(value: Any) -> Any:
    """PostgreSQL's sums of whole numbers are decimals, which JSON has not."""
    return int(value) if isinstance(value, Decimal) else value


def charges_of(records: Sequence[Record]) -> list[tuple[str, int]]:
    """What records add to counts, in the order of their names: two writers never wait for one
    another in a circle."""
    total: Counter[str] = Counter()
    for record in records:
        total.update(record.charges)
    return sorted((name, used) for name, used in total.items() if used)


def counts_before(names: Iterable[str], before: float) -> list[str]:
    """Counts of days and months that are over since long."""
    at = min(max(0.0, before - COUNTS_KEPT_S), YEAR_9999)
    day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    found = []
    for name in names:
        last = name.rpartition("/")[2]
        if _PERIOD.fullmatch(last) and last < day[: len(last)]:
            found.append(name)
    return found


_PERIOD: Final = re.compile(r"\d{4}-\d\d(-\d\d)?")

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
        """Its thread cannot be stopped. So a write that is cancelled ends as it would have: whoever
        took it for undone would keep the records twice."""
        writing = asyncio.create_task(self._alone(self._write, records))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing

    async def charge(self, records: Sequence[Record]) -> None:
        await self._run(self._charge, charges_of(records))

    async def forget(self, before: float) -> bool:
        await self._run(self._forget, before)
        return False

    async def summary(
        self,
        by: Sequence[str],
        since: float,
        until: float = LAST,
        where: Mapping[str, str] = NOWHERE,
        *,
        quarters: bool = False,
    ) -> list[tuple[Any, ...]]:
        quarter = f"CAST(at / {QUARTER_S} AS integer)" if quarters else None
        query = _query(by, tuple(where), "?" * (2 + len(where)), quarter)
        if not self._path.exists():
            return []  # not made here: it would belong to whoever asks, and not to the server
        rows: list[tuple[Any, ...]] = await self._run(
            self._fetch, query, (since, until, *where.values())
        )
        return rows

    async def counts(self) -> dict[str, int]:
        return dict(await self._run(self._fetch, "SELECT name, used FROM parley_counts", ()))

    async def close(self) -> None:
        async with self._lock:
            if self._connection is not None:
                await asyncio.to_thread(self._connection.close)
                self._connection = None

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.shield(asyncio.create_task(self._alone(work, *arguments)))

    async def _alone(self, work: Any, *arguments: Any) -> Any:
        """Holds the connection until the thread is done, whoever has gone meanwhile: to close it
        before would end the process."""
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
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _use_wal(connection: sqlite3.Connection) -> None:
        """Have a write-ahead log. SQLite waits for nobody when it changes to that."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(WAL_RETRY_S)
            else:
                return

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
            connection.execute(_CREATE_COUNTS)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    @staticmethod
    def _write(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        places = ", ".join("?" * len(COLUMNS))
        with connection:
            connection.executemany(
                f"INSERT INTO parley_usage ({', '.join(COLUMNS)}) VALUES ({places})",  # noqa: S608
                [values_of(record) for record in records],
            )
            connection.executemany(_COUNT.format("?", "?"), charges_of(records))

    @staticmethod
    def _charge(connection: sqlite3.Connection, charges: Sequence[tuple[str, int]]) -> None:
        with connection:
            connection.executemany(_COUNT.format("?", "?"), charges)

    @staticmethod
    def _forget(connection: sqlite3.Connection, before: float) -> None:
        with connection:
            connection.execute("DELETE FROM parley_usage WHERE at < ?", (before,))
            names = [row[0] for row in connection.execute("SELECT name FROM parley_counts")]
            connection.executemany(
                "DELETE FROM parley_counts WHERE name = ?",
                [(name,) for name in counts_before(names, before)],
            )

    @staticmethod
    def _fetch(
        connection: sqlite3.Connection, query: str, values: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        return connection.execute(query, values).fetchall()


@contextlib.asynccontextmanager
async def _transaction(connection: Any) -> AsyncIterator[None]:
    """A transaction of PostgreSQL's. At a time-out the connection is cut: asyncpg's own would roll
    back, and wait without end for a server that hangs."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except asyncio.CancelledError:
        connection.terminate()
        raise
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


class PostgresStore:
    """A table in PostgreSQL, by asyncpg (extra `postgres`)."""

    def __init__(self, url: str) -> None:
        import asyncpg  # here, that SQLite does not need it and no caller waits for it

        self._asyncpg = asyncpg
        self._url = url
        self._lock = asyncio.Lock()  # one connection does one thing at a time
        self._connection: Any = None

    async def write(self, records: Sequence[Record]) -> None:
        async def write(connection: Any) -> None:
            async with _transaction(connection):
                await connection.copy_records_to_table(
                    "parley_usage", records=[values_of(one) for one in records], columns=COLUMNS
                )
                if charges := charges_of(records):
                    await connection.executemany(_COUNT.format("$1", "$2"), charges)

        await self._run(write)

    async def charge(self, records: Sequence[Record]) -> None:
        charges = charges_of(records)
        await self._run(lambda c: c.executemany(_COUNT.format("$1", "$2"), charges))

    async def forget(self, before: float) -> bool:
        async def forget(connection: Any) -> bool:
            done: str = await connection.execute(_FORGET_SOME, before, FORGET_MAX)
            if done == f"DELETE {FORGET_MAX}":
                return True
            rows = await connection.fetch("SELECT name FROM parley_counts")
            old = counts_before((row[0] for row in rows), before)
            await connection.execute("DELETE FROM parley_counts WHERE name = ANY($1)", old)
            return False

        more: bool = await self._run(forget)
        return more

    async def summary(
        self,
        by: Sequence[str],
        since: float,
        until: float = LAST,
        where: Mapping[str, str] = NOWHERE,
        *,
        quarters: bool = False,
    ) -> list[tuple[Any, ...]]:
        quarter = f"CAST(floor(at / {QUARTER_S}) AS bigint)" if quarters else None
        places = [f"${i}" for i in range(1, 3 + len(where))]
        query = _query(by, tuple(where), places, quarter)
        rows = await self._run(lambda c: c.fetch(query, since, until, *where.values()))
        return [tuple(map(_plain, row)) for row in rows]

    async def counts(self) -> dict[str, int]:
        rows = await self._run(lambda c: c.fetch("SELECT name, used FROM parley_counts"))
        return {row[0]: row[1] for row in rows}

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

    async def _run(self, use: Any) -> Any:
        asyncpg = self._asyncpg
        try:
            async with self._lock, asyncio.timeout(TIMEOUT_S):
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                return await use(self._connection)
        except (
            asyncpg.DataError,
            asyncpg.IntegrityConstraintViolationError,
            *_UNWRITABLE,
        ) as error:
            raise RecordError(f"{type(error).__name__}: {error}"[:200]) from error
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            await self.close()
            raise StoreError(_why(error)) from error

    async def _connect(self) -> None:
        """Whatever is wrong here, an expired certificate (a ValueError) or no server that takes
        writes, is no record's fault. Raises StoreError."""
        try:
            self._connection = await self._asyncpg.connect(self._url, timeout=TIMEOUT_S)
            await self._migrate(self._connection)
        except Exception as error:
            await self.close()
            raise StoreError(_why(error)) from error

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
        async with _transaction(connection):
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
            await connection.execute(_CREATE_COUNTS)
            await connection.execute("INSERT INTO parley_usage_version VALUES ($1)", VERSION)
