"""Processes beside the gateway are kept running, and end with it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable

from gateway.runtime.companions import ManagedProcesses
from gateway.upstreams.chat import ManagedProcess

CHILD = """
import json, os, sys
told = json.loads(sys.stdin.readline())
print(json.dumps({"address": f"http://127.0.0.1:{os.getpid()}"}), flush=True)
if told["stays"]:
    sys.stdin.read()
"""


def a_companion(script: str = CHILD, *, stays: bool = True) -> ManagedProcess:
    return ManagedProcess(
        "m", (sys.executable, "-c", script), json.dumps({"stays": stays}), wanted=True
    )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def pid_of(companion: ManagedProcess) -> int:
    assert companion.address is not None
    return int(companion.address.rpartition(":")[2])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_says_where_it_listens_and_ends_with_the_gateway() -> None:
    companion = a_companion()
    companions = ManagedProcesses([companion])
    companions.start()
    await until(lambda: companion.address)
    pid = pid_of(companion)
    await companions.close()
    assert companion.address is None
    assert not alive(pid)


async def test_a_process_that_was_killed_is_started_again() -> None:
    companion = a_companion()
    companions = ManagedProcesses([companion])
    companions.start()
    await until(lambda: companion.address)
    first = companion.address
    os.kill(pid_of(companion), signal.SIGKILL)
    await until(lambda: companion.address not in (None, first))
    assert alive(pid_of(companion))
    await companions.close()


async def test_a_process_that_says_nonsense_is_not_used() -> None:
    companion = a_companion("print('hello', flush=True); import sys; sys.stdin.read()")
    companions = ManagedProcesses([companion])
    companions.start()
    await asyncio.sleep(0.5)
    assert companion.address is None
    await companions.close()


async def test_a_program_that_is_not_there_does_no_harm() -> None:
    companion = ManagedProcess("m", ("/nonexistent",), "{}", wanted=True)
    companions = ManagedProcesses([companion])
    companions.start()
    await asyncio.sleep(0.05)
    assert companion.address is None
    await companions.close()


async def test_a_process_that_nobody_wants_is_not_started() -> None:
    companion = a_companion()
    companion.wanted = False
    companions = ManagedProcesses([companion])
    companions.start()
    await asyncio.sleep(0.3)
    assert companion.address is None
    companion.wanted = True
    await until(lambda: companion.address)
    await companions.close()


async def test_who_waits_is_told_once_it_listens_and_a_process_that_waits_to_be_wanted_is() -> None:
    companion = a_companion()
    companion.wanted = False
    companions = ManagedProcesses([companion])
    companions.start()
    assert companions.loading == []
    async with asyncio.timeout(60):
        assert await companions.ready(companion)
    assert companion.address is not None
    assert companions.loading == []
    assert await companions.ready(companion)
    await companions.close()


async def test_who_waits_for_a_process_that_cannot_be_started_is_told_so() -> None:
    for broken in ("raise SystemExit(1)", "print('hello', flush=True)"):
        companion = a_companion(broken)
        companions = ManagedProcesses([companion])
        companions.start()
        assert companions.loading == ["m"]
        async with asyncio.timeout(60):
            assert not await companions.ready(companion)
        await companions.close()


async def test_one_can_be_added_and_ended_while_the_others_run() -> None:
    first, second = a_companion(), a_companion()
    companions = ManagedProcesses([first])
    companions.start()
    companions.add([first, second])
    await until(lambda: first.address and second.address)
    pids = pid_of(first), pid_of(second)
    assert len(set(pids)) == 2
    await companions.end([second])
    assert [alive(pid) for pid in pids] == [True, False]
    assert await companions.ready(first)
    await companions.close()
    assert not alive(pids[0])
