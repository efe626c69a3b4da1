"""Keeps the processes running that some providers need beside the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from typing import Final

from gateway.upstreams.chat import ManagedProcess

_logger = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 120.0
"""How long a process may take until it says where it listens: it may have gigabytes to read."""

WANTED_S: Final = 0.25
"""How often it is looked whether somebody wants a process that nobody has wanted yet."""

RESTART_S_MAX: Final = 60.0
"""A process that ends is started again after 1 s, 2 s, 4 s ... up to this."""

STOP_S: Final = 5.0
"""How long a process may take to end."""


class ManagedProcesses:
    """Starts each process that is wanted, notes where it listens, starts it again when it ends."""

    def __init__(self, companions: Iterable[ManagedProcess] = ()) -> None:
        self._companions = list(companions)
        self._tasks: dict[ManagedProcess, asyncio.Task[None]] = {}
        self._waiting: dict[ManagedProcess, list[asyncio.Future[bool]]] = {}
        self._started = False

    def add(self, companions: Iterable[ManagedProcess]) -> None:
        """Look after these as well."""
        for one in companions:
            if one not in self._companions:
                self._companions.append(one)
                if self._started:
                    self._tasks[one] = asyncio.create_task(self._keep(one))

    async def end(self, companions: Iterable[ManagedProcess]) -> None:
        """End these, and forget them."""
        tasks = []
        for one in companions:
            if one in self._companions:
                self._companions.remove(one)
            if (task := self._tasks.pop(one, None)) is not None:
                task.cancel()
                tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def loading(self) -> list[str]:
        """Names of the processes that are wanted and not ready."""
        return [one.name for one in self._companions if one.wanted and one.address is None]

    async def ready(self, companion: ManagedProcess) -> bool:
        """Have it started if need be, and wait until it listens; False if this start failed."""
        companion.wanted = True
        if companion.address is not None:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(companion, [])
        waiting.append(future)
        try:
            return await future
        finally:
            if future in waiting:
                waiting.remove(future)

    def _tell(self, companion: ManagedProcess, *, ready: bool) -> None:
        for future in self._waiting.pop(companion, ()):
            if not future.done():
                future.set_result(ready)

    def start(self) -> None:
        """Begin; nobody waits for them."""
        self._started = True
        self._tasks = {one: asyncio.create_task(self._keep(one)) for one in self._companions}

    async def close(self) -> None:
        """End them all."""
        await self.end(tuple(self._companions))

    async def _keep(self, companion: ManagedProcess) -> None:
        while not companion.wanted:  # noqa: ASYNC110 - an adapter knows no asyncio
            await asyncio.sleep(WANTED_S)
        wait_s = 1.0
        while True:
            try:
                process = await asyncio.create_subprocess_exec(
                    *companion.command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,  # llama.cpp talks a lot
                )
            except OSError as error:
                _logger.error(  # noqa: TRY400 - the reason says it all
                    "a local model cannot be started",
                    extra={"model": companion.name, "reason": str(error)},
                )
                self._tell(companion, ready=False)
            else:
                try:
                    if await self._ready(companion, process):
                        wait_s = 1.0
                        self._tell(companion, ready=True)
                    else:
                        self._tell(companion, ready=False)
                    status = await process.wait()
                finally:
                    companion.address = None
                    await _end(process)
                _logger.warning(
                    "a local model has ended; it is started again",
                    extra={"model": companion.name, "status": status, "in_s": wait_s},
                )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_S_MAX)

    async def _ready(self, companion: ManagedProcess, process: asyncio.subprocess.Process) -> bool:
        """Tell the process what to do, and learn where it listens."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                process.stdin.write(companion.told.encode() + b"\n")
                await process.stdin.drain()
                companion.address = str(json.loads(await process.stdout.readline())["address"])
        except (TimeoutError, OSError, ValueError, KeyError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return False
        _logger.info("a local model is ready", extra={"model": companion.name})
        return True


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        assert process.stdin is not None
        process.stdin.close()  # it ends with its standard input
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
