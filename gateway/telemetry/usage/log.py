"""Collects usage records and writes them in batches, off the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.settings.usage import UsageConfig
from gateway.telemetry.metrics import Metrics
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

REASON_CHARS_MAX: Final = 200
"""A longer reason of a store is cut: it may repeat what a caller said."""

CLOSE_S: Final = 5.0
"""At the end the store has so long to take the rest; then it is spilt. What SQLite is writing then
is waited for, up to BUSY_S."""

FORGET_S: Final = 3600.0
"""Old records are deleted so far apart."""

SURE_S: Final = 600.0
"""Nothing is deleted before the wall clock has run for so long as the monotonic one has: a machine
may boot with a wrong clock, and an hour in another year would delete all there is."""

JUMP_S: Final = 60.0
"""Clocks that differ by more have not run alike; time servers correct less than that."""


class UsageLog:
    """Takes records at any time without waiting; a task writes them.

    What a store does not take stays: in memory, then in the spill file, from where it is written
    once the store answers again. What neither can hold is counted and reported, not waited for.
    """

    def __init__(
        self,
        config: UsageConfig,
        metrics: Metrics,
        store: Store | None = None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._store = store
        self._wall_clock = wall_clock
        self._clock = clock
        self._spill = Path(config.spill) if config.spill else state_folder() / "usage-spill.jsonl"
        self._waiting: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._clocks: tuple[float, float] | None = None  # wall, monotonic: since when they agree
        self._forgot_at: float | None = None
        self._failing = False
        self._stopping = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def enabled(self) -> bool:
        """Whether records are kept: if not, none need be made."""
        return self._config.enabled

    def add(self, record: Record) -> None:
        """Take a record."""
        if not self._config.enabled:
            return
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self._lost(1)
        self._waiting.append(record)
        if len(self._waiting) == BATCH_MAX:
            self._wake.set()

    async def summary(self, by: Sequence[str], since: float) -> list[tuple[Any, ...]]:
        """As `Store.summary`; no rows while usage is not recorded. Raises StoreError."""
        if self._store is None:
            return []
        return await self._store.summary(by, since)

    async def counts(self) -> Mapping[str, int]:
        """What the store has of budgets and balances. Raises StoreError."""
        return {} if self._store is None else await self._store.counts()

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
            async with asyncio.timeout(CLOSE_S) as limit:
                while self._waiting and not limit.expired() and await self._write_some():
                    pass
        except TimeoutError:
            _logger.warning("the usage store did not take the last records in time")
        while self._waiting:
            await self._spill_some(last=True)
        assert self._store is not None
        await self._store.close()

    async def _look_at_store(self) -> None:
        """Say at the start, and not with the first record, that the store takes nothing."""
        assert self._store is not None
        try:
            await self._store.forget(0.0)  # a write that changes nothing
        except StoreError as error:
            self._failing = True
            _logger.error(  # noqa: TRY400 - the reason says it all
                "usage records cannot be written; they will wait", extra={"reason": str(error)}
            )
        except Exception:
            _logger.exception("an error of the usage log; it goes on")

    async def _run(self) -> None:
        await self._look_at_store()
        wait_s = self._config.flush_s
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                wait_s = await self._work(wait_s)
            except Exception:  # whatever it is: nobody else would write
                _logger.exception("an error of the usage log; it goes on")
                wait_s = min(max(1.0, 2 * wait_s), RETRY_S_MAX)

    async def _work(self, wait_s: float) -> float:
        """Write what waits; how long to wait then. `wait_s`: how long was waited before."""
        if await self._write_some():
            await self._take_back_spilt()
            await self._forget_old()
            if len(self._waiting) >= BATCH_MAX:
                self._wake.set()
            return self._config.flush_s
        while len(self._waiting) > SPILL_AT and await self._spill_some():
            pass
        return min(max(1.0, 2 * wait_s), RETRY_S_MAX)

    async def _write_some(self) -> bool:
        """Write up to a batch; False if the store does not take it now. A record that it will
        never take is set aside, the others are written."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        if not batch:
            return True
        assert self._store is not None
        parts, written = [batch], 0
        refused: list[Record] = []
        reason = ""
        failed: StoreError | asyncio.CancelledError | None = None
        while parts and failed is None:
            part = parts.pop()
            try:
                await self._store.write(part)
                written += len(part)
            except (StoreError, asyncio.CancelledError) as error:  # at the end the time is short
                parts.append(part)
                failed = error
            except Exception as error:  # RecordError, or what no store should raise
                if len(part) > 1:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                else:
                    refused += part
                    reason = reason or f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX]
        if refused:
            await self._set_aside(refused, reason)
        self._metrics.usage_records.labels("written").inc(written)
        if failed is not None:
            waits = [record for part in reversed(parts) for record in part]
            self._waiting.extendleft(reversed(waits))
            if isinstance(failed, asyncio.CancelledError):
                raise failed
            if not self._failing:
                _logger.error(
                    "usage records cannot be written; they wait",
                    extra={"reason": str(failed), "waiting": len(self._waiting)},
                )
            self._failing = True
            self._metrics.usage_records.labels("retried").inc(len(waits))
            return False
        if self._failing:
            _logger.warning("usage records are written again")
            self._failing = False
        return True

    async def _set_aside(self, records: list[Record], reason: str) -> None:
        """Keep what the store will never take in a file of its own, for a person to look at."""
        path = self._spill.with_name(self._spill.name + ".refused")
        self._metrics.usage_records.labels("refused").inc(len(records))
        extra: dict[str, object] = {"refused": len(records), "reason": reason, "file": str(path)}
        assert self._store is not None
        try:  # budgets and balances know of it all the same
            await self._store.charge(records)
        except Exception as error:  # whatever it is: the records are kept
            extra["not_charged"] = str(error)[:REASON_CHARS_MAX]
        try:
            await asyncio.to_thread(append_spill, path, records)
        except OSError as error:
            extra["lost"] = str(error)
        _logger.error("usage records are set aside: the store refuses what they hold", extra=extra)

    async def _spill_some(self, *, last: bool = False) -> bool:
        """Whether the spill file has taken a batch. What it does not take waits on in memory, as
        long as there is room; `last`: there is no later."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        try:
            await asyncio.to_thread(append_spill, self._spill, batch)
        except OSError as error:
            if not last and len(self._waiting) + len(batch) < WAITING_MAX:
                self._waiting.extendleft(reversed(batch))
                return False
            self._lost(len(batch))
            _logger.error(  # noqa: TRY400 - the reason says it all
                "usage records are lost: neither the store nor the spill file takes them",
                extra={"lost": len(batch), "reason": str(error)},
            )
            return False
        self._metrics.usage_records.labels("spilt").inc(len(batch))
        return True

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
        """Delete old records now and then, by a clock that has shown that it runs."""
        wall, now = self._wall_clock(), self._clock()
        if self._clocks is not None:
            wall_before, before = self._clocks
            if abs((wall - wall_before) - (now - before)) > JUMP_S:
                self._clocks = None  # one of the two times is wrong, and who knows which
        if self._clocks is None:
            self._clocks = (wall, now)
            return
        if now - self._clocks[1] < SURE_S:
            return
        if self._forgot_at is not None and now - self._forgot_at < FORGET_S:
            return
        self._forgot_at = now
        self._clocks = (wall - SURE_S, now - SURE_S)  # drift since long ago is no jump
        assert self._store is not None
        with contextlib.suppress(StoreError):
            if await self._store.forget(wall - 86400.0 * self._config.keep_days):
                self._forgot_at = None  # the rest waits: new records, and the end, do not

    def _lost(self, count: int) -> None:
        self._metrics.usage_records.labels("lost").inc(count)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the spill file: the workers of a server share it."""
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file
        yield


def append_spill(path: Path, records: list[Record]) -> None:
    """Append records to the spill file, one JSON object a line: all of them, or none. Raises
    OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > SPILL_BYTES_MAX:
        raise OSError(f"the spill file is larger than {SPILL_BYTES_MAX} bytes")
    data = memoryview(b"".join(_as_line(record) for record in records))
    with _locked(path), path.open("a+b", buffering=0) as file:
        size = path.stat().st_size
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":  # a line that was written half stands alone
            data = memoryview(b"\n" + data)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:  # a full disk takes a part: it would be written twice
            file.truncate(size)
            raise


def _as_line(record: Record) -> bytes:
    try:
        return orjson.dumps(asdict(record)) + b"\n"
    except TypeError:  # orjson: a number of over 64 bits, half a surrogate pair
        return json.dumps(asdict(record)).encode() + b"\n"


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
