"""Open sessions of all processes that share a Redis, so that a limit for a key holds over them.

Each process tells its own counts with every heartbeat and hears those of the others. What a process
that has died held is free again LEASE_S after its last heartbeat. Admission itself waits for
nobody: it reckons with counts that are at most HEARTBEAT_S old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway.upstreams.bounded_json import loads

_logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 1.0
LEASE_S: Final = 4.0
"""A process that has been silent for so long holds nothing any more."""

FORGET_S: Final = 3600.0
"""And after this its entry is removed."""

HELD_MAX: Final = 1_000_000
"""Sessions of one key at one process; an entry that says more is not ours."""

TIMEOUT_S: Final = 1.0
"""How long Redis may take for one heartbeat."""


class ClusterSessionCounts:
    """Sessions that the other processes hold, by key."""

    def __init__(
        self,
        url: str,
        prefix: str,
        held: Mapping[str, int],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_failure` is called for each heartbeat that Redis does not answer."""
        self._on_failure = on_failure
        self._url = url
        self._name = f"{prefix}/leases"
        self._process = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._held = held
        self._elsewhere: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._redis: Any = None
        self._failing_since: float | None = None

    def elsewhere(self, key: str) -> int:
        """Sessions of `key` at the other processes."""
        return self._elsewhere[key] if self._elsewhere else 0

    def start(self) -> None:
        """Begin to tell and to hear."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Give everything back."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        if self._redis is not None:
            import redis.exceptions

            with contextlib.suppress(redis.exceptions.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(TIMEOUT_S):
                    await self._redis.hdel(self._name, self._process)
            await self._redis.aclose()
            self._redis = None

    async def _run(self) -> None:
        import redis.asyncio

        self._redis = redis.asyncio.from_url(
            self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        # redis-py may lose a cancellation (it uses wait_for, which does so before Python 3.12)
        while not task.cancelling():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self.beat()
                self._failing_since = None
            except (
                Exception
            ) as error:  # whatever it is: the counts of the others must not stand still
                self._on_failure()
                # after a failover its name may lead to another server, and an open connection
                # does not
                with contextlib.suppress(Exception):
                    await self._redis.connection_pool.disconnect()
                if self._failing_since is None:
                    self._failing_since = loop.time()
                    _logger.warning(
                        "sessions of other processes are not known",
                        extra={"error": type(error).__name__},
                    )
                elif loop.time() - self._failing_since > LEASE_S:
                    self._elsewhere.clear()
            await asyncio.sleep(HEARTBEAT_S)

    async def beat(self) -> None:
        """Tell this process' counts, hear the others'."""
        seconds, micros = await self._redis.time()  # one clock for all
        now = seconds + micros / 1e6
        mine = orjson.dumps({"at": now, "held": dict(self._held)})
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._name, self._process, mine)
            pipe.hgetall(self._name)
            _, entries = await pipe.execute()
        counts: Counter[str] = Counter()
        gone = []
        mine_named = self._process.encode()
        for process, entry in entries.items():
            told = _read(entry)
            if told is None:
                continue
            age_s = abs(now - told[0])
            if age_s > FORGET_S:
                gone.append(process)
            elif age_s <= LEASE_S and process != mine_named:
                counts.update(told[1])
        self._elsewhere = counts
        if gone:
            await self._redis.hdel(self._name, *gone)


def _read(entry: bytes) -> tuple[float, dict[str, int]] | None:
    """When an entry was written, and what it holds; None if it is none of ours (another version's,
    or somebody's who may write there)."""
    try:
        told = loads(entry)
        at, held = told["at"], told["held"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        return None
    if not isinstance(held, dict):
        return None
    counts = held.values()
    if not all(type(count) is int and 0 <= count <= HELD_MAX for count in counts):
        return None
    return at, held
