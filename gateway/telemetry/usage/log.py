"""Collects usage records and writes them in batches, off the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import orjson

from gateway.settings.usage import UsageConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices, speech_cost
from gateway.telemetry.usage.record import Record
from gateway.telemetry.usage.store import Store, StoreError, open_store, state_folder

_logger = logging.getLogger(__name__)

BATCH_MAX: Final = 2_000
"""Records in one write."""

WAITING_MAX: Final = 50_000
"""Records that wait in memory (some 50 MB); the oldest give way to new ones, and are counted."""

SPILL_AT: Final = 20_000
"""So many that wait for a store that does not answer go to the spill file."""

SPILL_BYTES_MAX: Final = 256 << 20
"""The spill file is not made larger."""

RETRY_S_MAX: Final = 30.0
"""A store that fails is asked again after 1 s, 2 s, 4 s ... up to this."""

CLOSE_S: Final = 5.0
"""At the end the store has so long to take the rest; then it is spilt."""

FORGET_S: Final = 3600.0
"""Old records are deleted so far apart."""


class UsageLog:
    """Takes records at any time without waiting; a task writes them.

    What a store does not take stays: in memory, then in the spill file, from where it is written
    once the store answers again. What neither can hold is counted and reported, not waited for.
    """

    def __init__(
        self,
        config: UsageConfig,
        metrics: Metrics,
        prices: Prices | None = None,
        store: Store | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._prices = prices or Prices({})
        self._store = store
        self._wall_clock = wall_clock
        self._spill = Path(config.spill) if config.spill else state_folder() / "usage-spill.jsonl"
        self._waiting: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._forgot_at = 0.0
        self._failing = False
        self._stopping = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: Record) -> None:
        """Take a record; what speech costs is reckoned here."""
        if not self._config.enabled:
            return
        if not record.cost and (record.audio_s or record.characters):
            price = self._prices.of(record.provider, record.deployment, record.model)
            if price is not None:
                cost = speech_cost(price, record.audio_s, record.characters)
                record = replace(record, cost=cost)
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self._lost(1)
        self._waiting.append(record)
        if len(self._waiting) == BATCH_MAX:
            self._wake.set()

    def start(self) -> None:
        """Begin to write."""
        if self._config.enabled and self._task is None:
            self._store = self._store or open_store(self._config)
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what waits, spill what is not taken in time."""
        if self._task is None:
            return
        self._stopping = True  # a write that has begun is waited for: it has a time-out
        self._wake.set()
        await self._task
        self._task = None
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._waiting and await self._write_some():
                    pass
        except TimeoutError:
            _logger.warning("the usage store did not take the last records in time")
        while self._waiting:
            await self._spill_some()
        assert self._store is not None
        await self._store.close()

    async def _run(self) -> None:
        wait_s = self._config.flush_s
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            if await self._write_some():
                wait_s = self._config.flush_s
                await self._take_back_spilt()
                await self._forget_old()
                if len(self._waiting) >= BATCH_MAX:
                    self._wake.set()
            else:
                wait_s = min(max(1.0, 2 * wait_s), RETRY_S_MAX)
                while len(self._waiting) > SPILL_AT:
                    await self._spill_some()

    async def _write_some(self) -> bool:
        """Write up to a batch; False if the store does not take it."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        if not batch:
            return True
        assert self._store is not None
        try:
            await self._store.write(batch)
        except StoreError as error:
            self._waiting.extendleft(reversed(batch))
            if not self._failing:
                _logger.error(  # noqa: TRY400 - a traceback would show the address
                    "usage records cannot be written; they wait",
                    extra={"reason": str(error), "waiting": len(self._waiting)},
                )
            self._failing = True
            self._metrics.usage_records.labels("retried").inc(len(batch))
            return False
        self._metrics.usage_records.labels("written").inc(len(batch))
        if self._failing:
            _logger.warning("usage records are written again")
            self._failing = False
        return True

    async def _spill_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        try:
            await asyncio.to_thread(append_spill, self._spill, batch)
        except OSError as error:
            self._lost(len(batch))
            _logger.error(  # noqa: TRY400 - the reason says it all
                "usage records are lost: neither the store nor the spill file takes them",
                extra={"lost": len(batch), "reason": str(error)},
            )
        else:
            self._metrics.usage_records.labels("spilt").inc(len(batch))

    async def _take_back_spilt(self) -> None:
        """Write a part of what was spilt, now that the store takes records again."""
        if len(self._waiting) >= BATCH_MAX or not self._spill.exists():
            return
        try:
            records = await asyncio.to_thread(take_spill, self._spill, BATCH_MAX)
        except OSError:
            return
        self._waiting.extend(records)
        if records:
            self._wake.set()

    async def _forget_old(self) -> None:
        now = self._wall_clock()
        if now - self._forgot_at < FORGET_S:
            return
        self._forgot_at = now
        assert self._store is not None
        with contextlib.suppress(StoreError):
            await self._store.forget(now - 86400.0 * self._config.keep_days)

    def _lost(self, count: int) -> None:
        self._metrics.usage_records.labels("lost").inc(count)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the spill file: the workers of a server share it."""
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file
        yield


def append_spill(path: Path, records: list[Record]) -> None:
    """Append records to the spill file, one JSON object a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > SPILL_BYTES_MAX:
        raise OSError(f"the spill file is larger than {SPILL_BYTES_MAX} bytes")
    with _locked(path), path.open("ab") as file:
        file.write(b"".join(orjson.dumps(asdict(record)) + b"\n" for record in records))


def take_spill(path: Path, count: int) -> list[Record]:
    """Up to `count` records from the end of the spill file, which is cut there. A line that was
    written half is left out. Raises OSError."""
    with _locked(path):
        taken = _cut(path, count)
    records = []
    for line in taken:
        try:
            records.append(Record(**orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError):
            continue
    return records


def _cut(path: Path, count: int) -> list[bytes]:
    if not path.exists():  # another worker took all
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    kept, taken = lines[:-count] if len(lines) > count else [], lines[-count:]
    if kept:
        with path.open("r+b") as file:
            file.truncate(sum(map(len, kept)))
    else:
        path.unlink()
    return taken
