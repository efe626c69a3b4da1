"""Names are looked up once at a time, each in a thread of its own, and old answers are kept."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from gateway.runtime import names
from gateway.runtime.names import FRESH_S, KEPT_S, AddrInfo, Names


def info(address: str) -> AddrInfo:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    more = (0, 0) if ":" in address else ()
    return (family, socket.SOCK_STREAM, 6, "", (address, 0, *more))


class System:
    """What looks names up. Those that have no answer hang, until `release`."""

    def __init__(self) -> None:
        self.answers: dict[str, Sequence[AddrInfo] | Exception] = {}
        self.asked: list[str] = []
        self._released = threading.Event()

    def look_up(self, host: str) -> Sequence[AddrInfo]:
        self.asked.append(host)
        if host not in self.answers:
            self._released.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "released")
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def system() -> Iterator[System]:
    made = System()
    yield made
    made.release()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_an_address_is_asked_for_once_while_it_is_fresh(system: System) -> None:
    clock = Clock()
    of = Names(system.look_up, clock)
    system.answers["a"] = [info("10.0.0.1"), info("fe80::1")]

    assert await of.addresses("a", 443) == [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 443, 0, 0)),
    ]
    clock.now = FRESH_S - 1
    assert len(await of.addresses("a", 80)) == 2
    assert system.asked == ["a"]
    clock.now = FRESH_S
    await of.addresses("a", 80)
    assert system.asked == ["a", "a"]


async def test_what_is_an_address_already_is_not_looked_up(system: System) -> None:
    of = Names(system.look_up)
    assert [one[4] for one in await of.addresses("127.0.0.1", 80)] == [("127.0.0.1", 80)]
    assert [one[4][:2] for one in await of.addresses("::1", 80)] == [("::1", 80)]
    assert system.asked == []


async def test_names_that_hang_keep_no_other_from_being_looked_up(system: System) -> None:
    of = Names(system.look_up)
    hanging = [asyncio.create_task(of.addresses(f"hangs{i}", 80)) for i in range(20)]
    hanging += [asyncio.create_task(of.addresses("hangs1", 80)) for _ in range(20)]
    system.answers["a"] = [info("10.0.0.1")]
    await asyncio.sleep(0)

    assert len(await of.addresses("a", 80)) == 1
    assert system.asked.count("hangs1") == 1

    system.release()
    told = await asyncio.gather(*hanging, return_exceptions=True)
    assert {type(one) for one in told} == {socket.gaierror}


async def test_who_gives_up_keeps_nobody_else_from_the_answer(system: System) -> None:
    of = Names(system.look_up)
    first = asyncio.create_task(of.addresses("a", 80))
    second = asyncio.create_task(of.addresses("a", 80))
    await asyncio.sleep(0)
    first.cancel()
    system.release()
    with pytest.raises(socket.gaierror):
        await second


async def test_an_old_address_is_good_while_there_is_no_new_one(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(names, "PATIENCE_S", 0.01)
    clock = Clock()
    of = Names(system.look_up, clock)
    system.answers["a"] = [info("10.0.0.1")]
    await of.addresses("a", 80)
    clock.now = KEPT_S - 1
    with caplog.at_level(logging.WARNING):
        system.answers["a"] = socket.gaierror(socket.EAI_AGAIN, "no answer")
        assert len(await of.addresses("a", 80)) == 1
        del system.answers["a"]  # now it hangs
        assert len(await of.addresses("a", 80)) == 1
    assert [one.message for one in caplog.records] == [
        "a provider's name is not looked up; its last address is used"
    ]
    clock.now = KEPT_S
    system.release()
    with pytest.raises(socket.gaierror):
        await of.addresses("a", 80)


async def test_names_that_are_looked_up_at_the_same_time_are_bounded(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "TOGETHER_MAX", 2)
    of = Names(system.look_up)
    hanging = [asyncio.create_task(of.addresses(f"hangs{i}", 80)) for i in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(socket.gaierror):
        await of.addresses("a", 80)
    system.release()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_aiohttp_is_told_addresses_of_the_family_that_it_wants(system: System) -> None:
    of = Names(system.look_up)
    system.answers["a"] = [info("10.0.0.1"), info("fe80::1")]
    told = await of.resolve("a", 443, socket.AF_INET)
    assert [(one["host"], one["port"], one["hostname"]) for one in told] == [("10.0.0.1", 443, "a")]
    assert len(await of.resolve("a")) == 2


async def test_a_connection_goes_to_an_address_that_answers(system: System) -> None:
    of = Names(system.look_up)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # nobody listens at the first
        system.answers["a"] = [info("127.0.0.2"), info("127.0.0.1")]
        with await of.connect("a", port, 0.01) as connected:
            assert connected.getpeername() == ("127.0.0.1", port)


async def test_a_name_for_which_there_was_no_thread_is_looked_up_again(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    of = Names(system.look_up, clock)
    system.answers["a"] = [info("10.0.0.1")]

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(socket.gaierror):
            await of.addresses("a", 80)
    assert len(await asyncio.wait_for(of.addresses("a", 80), 5)) == 1
    clock.now = FRESH_S
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        assert len(await of.addresses("a", 80)) == 1  # the old one
