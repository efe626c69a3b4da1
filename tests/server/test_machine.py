"""Workers of one machine count together, and alone when the supervisor is away."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.routing.breaker import Breaker
from gateway.server import machine as machine_module
from gateway.server.counters import Add, Claim
from gateway.server.machine import Machine, MachineError, MachineState
from gateway.server.quota import Quota
from gateway.settings.quota import QuotaConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would count for itself where this process has to wait for its turn."""
    monkeypatch.setattr(machine_module, "ANSWER_S", 60.0)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[MachineState]:
    made = MachineState(tmp_path / "machine")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def workers(
    state: MachineState, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Machine, Machine, Counter[str]]]:
    be_patient(monkeypatch)
    one, other = Machine(state.path), Machine(state.path)
    held: Counter[str] = Counter()
    await one.start(held)
    await other.start({})
    await until(lambda: one._writer is not None and other._writer is not None)
    yield one, other, held
    await one.close()
    await other.close()


Workers = tuple[Machine, Machine, Counter[str]]


async def look(machine: Machine, name: str) -> int:
    answer = await machine.transact([], [Claim(name, 1 << 50, 0, 60)], force=True)
    return answer.used[0]


async def test_a_limit_holds_over_all_workers(workers: Workers) -> None:
    one, other, _ = workers
    claim = Claim("k", 3, 1, 60, sliding=True)
    answers = [await w.transact([], [claim], force=True) for w in (one, other, one, other)]
    assert [(one.taken, *one.used) for one in answers] == [
        (True, 1), (True, 2), (True, 3), (False, 3),
    ]  # fmt: skip


async def test_what_is_spent_at_one_is_known_at_the_other(workers: Workers) -> None:
    one, other, _ = workers
    await one.transact([Add("tokens", 40, 60)], [], force=True)
    await other.transact([Add("tokens", 2, 60)], [], force=True)
    assert await look(one, "tokens") == 42


async def test_what_was_used_before_is_told_by_the_first_worker_for_all(workers: Workers) -> None:
    one, other, _ = workers
    assert not (await one.transact([], [], force=False)).filled
    await one.fill({"balance": (70, 0)})
    answer = await other.transact([], [Claim("balance", 100, 1, 0)], force=False)
    assert (answer.filled, *answer.used) == (True, 71)


async def test_sessions_of_the_others_are_known_and_those_of_a_dead_worker_free(
    workers: Workers,
) -> None:
    one, other, held = workers
    held["APIx"] = 5
    await until(lambda: other.elsewhere("APIx") == 5)
    assert one.elsewhere("APIx") == 0
    await one.close()
    await until(lambda: other.elsewhere("APIx") == 0)


async def test_a_rest_that_begins_at_one_is_told_to_the_other_alone(workers: Workers) -> None:
    one, other, _ = workers
    heard: list[tuple[str, str, float]] = []
    other.on_rest = lambda *rest: heard.append(rest)
    one.on_rest = lambda *rest: heard.append(("myself", *rest[1:]))
    one.rests("openai", "*", 300.0)
    await until(lambda: bool(heard))
    assert heard == [("openai", "*", 300.0)]
    assert await look(one, "nothing") == 0  # answers are still matched


async def test_without_its_supervisor_a_worker_is_told_so_at_once(state: MachineState) -> None:
    worker = Machine(state.path.with_name("nobody"))
    with pytest.raises(MachineError):
        await look(worker, "k")


async def test_a_supervisor_that_comes_back_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine"
    worker = Machine(path)
    await worker.start({})
    be_patient(monkeypatch)
    state = MachineState(path)
    await state.start()
    await until(lambda: worker._writer is not None)
    assert await look(worker, "k") == 0
    await worker.close()
    await state.close()


async def test_the_sessions_of_all_keys_at_the_others_are_known(workers: Workers) -> None:
    one, other, held = workers
    held.update({"a": 2, "b": 3})
    await until(lambda: other.elsewhere_open() == 5)
    assert one.elsewhere_open() == 0


async def may_enter(quota: Quota) -> bool:
    return not isinstance(await quota.purse("k", "chat").enter("m", ()), Failure)


async def test_quotas_are_exact_over_all_workers(workers: Workers) -> None:
    one, other, _ = workers
    config = QuotaConfig(keys={"k": {"requests_per_minute": 5}})
    quotas = [Quota(config, machine=machine) for machine in (one, other)]
    assert [await may_enter(quotas[i % 2]) for i in range(12)] == [True] * 5 + [False] * 7


async def test_without_its_supervisor_a_worker_counts_quotas_for_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "nobody")
    await machine.start({})
    quota = Quota(QuotaConfig(keys={"k": {"requests_per_minute": 2}}), machine=machine)
    assert [await may_enter(quota) for _ in range(3)] == [True, True, False]
    await machine.close()


async def test_a_breaker_hears_of_rests_and_recoveries_at_another_worker(workers: Workers) -> None:
    one, other, _ = workers
    attempt = Attempt("acme", "a-1")
    here, there = Breaker({attempt.deployment}), Breaker({attempt.deployment})
    here.on_rest = one.rests
    other.on_rest = lambda provider, part, seconds: there.hear(provider, part, seconds, 0.0)
    here.failed(attempt, Failure(Kind.UPSTREAM_AUTH, "refused"), 0.0)
    await until(lambda: there.resting(attempt, 1.0))
    here.worked(attempt)
    await until(lambda: not there.resting(attempt, 1.0))


async def test_what_an_agent_says_is_told_to_the_other_workers(workers: Workers) -> None:
    one, other, _ = workers
    told: list[tuple[str, float, bytes]] = []
    other.on_voice = lambda *voice: told.append(voice)
    one.on_voice = lambda *voice: pytest.fail("it knows")

    await asyncio.to_thread(one.voice, "key\njob", 12.5, bytes(range(32)))
    await until(lambda: bool(told))

    assert told == [("key\njob", 12.5, bytes(range(32)))]


async def test_what_followed_in_a_call_is_told_to_the_other_workers(workers: Workers) -> None:
    one, other, _ = workers
    told: list[tuple[str, str, float, float]] = []
    other.on_followed = lambda *what: told.append(what)
    one.on_followed = lambda *what: pytest.fail("it knows")

    one.followed("key\njob", "sentence", 12.5, 13.0)
    await until(lambda: bool(told))

    assert told == [("key\njob", "sentence", 12.5, 13.0)]


async def test_what_one_worker_keeps_the_others_are_told_unless_it_is_too_long(
    workers: Workers,
) -> None:
    one, other, _ = workers
    told: list[object] = []
    other.on_kept = told.append
    one.kept(["a", {"id": "x" * (1 << 20)}, []])
    one.kept(["a", {"id": "r1"}, [{"role": "user"}]])
    await until(lambda: bool(told))
    assert told == [["a", {"id": "r1"}, [{"role": "user"}]]]
    assert await look(one, "k") == 0  # answers are still in order


async def test_that_a_caller_says_something_is_told_to_the_other_workers(workers: Workers) -> None:
    one, other, _ = workers
    told: list[tuple[str, float, float, int]] = []
    other.on_words = lambda *words: told.append(words)
    one.on_words = lambda *words: pytest.fail("it knows")

    one.words("key\njob", 12.5, 13.0, 4)
    await until(lambda: bool(told))

    assert told == [("key\njob", 12.5, 13.0, 4)]


async def test_what_becomes_of_an_avatar_is_told_to_the_others(workers: Workers) -> None:
    one, other, _ = workers
    told: list[object] = []
    other.on_avatar = told.append
    one.avatar(["ended", "lemonslice", "ls_1"])
    await until(lambda: bool(told))
    assert told == [["ended", "lemonslice", "ls_1"]]


async def test_an_error_over_what_another_says_costs_a_worker_no_answers(workers: Workers) -> None:
    one, other, _ = workers
    told = asyncio.Event()

    def fails(provider: str, model: str, seconds: float) -> None:
        told.set()
        raise KeyError(provider)

    other.on_rest = fails
    one.rests("p", "m", 1.0)
    async with asyncio.timeout(60):
        await told.wait()
        assert await look(other, "k") == 0
