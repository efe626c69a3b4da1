"""The cases. Each has a server of its own, breaks one thing, mends it, and says what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio
import yaml
from aiohttp import web

from tests import services
from tests.chaos import resolver
from tests.chaos.rig import PATIENCE_S, POLL_S, Rig, Row, recorded, rig, summed, until, words
from tests.end_to_end import stt_caller
from tests.end_to_end.stt_caller import converse
from tests.end_to_end.test_workers import workers_of
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

SHIMS = Path(__file__).parent / "shims"
WORKERS = 2
ASKS = 6
OUTAGE_S = 2.0
RPM = 60
LINES = 8
"""Sessions at once: more than there are threads to look names up."""

WORDS = VOCABULARY[:4]
SPOKEN = hush(0.3) + spoken(WORDS) + hush(1.0)


# -- Redis


async def _redis_away(folder: Path, case: str, breaks: str, mends: str) -> Row:
    """A key with a budget of a day that is counted in Redis, which stops or hangs."""
    row = Row(case)
    with services.redis(folder) as store:
        allowed = 3 * ASKS
        keys = {"*": {"requests_per_minute": 1000, "day": {"requests": allowed}}}
        config = {"quota": {"redis_url": store.url, "keys": keys}}
        async with rig(folder / "server", config) as it:
            before = await it.asks(ASKS)
            await asyncio.to_thread(getattr(store, breaks))
            during = await it.asks(ASKS, pause_s=OUTAGE_S / ASKS)
            failures = await it.metric("parley_quota_store_failures_total")
            logged = "the quota store does not answer" in await asyncio.to_thread(
                it.server.log.read_text
            )
            await asyncio.to_thread(getattr(store, mends))
            back_s = await until(lambda: _counts_there(it, store.url), "nothing is counted there")
            rest = await it.asks(allowed)
            left = it.served - await it.recorded()
        over = [one for one in rest if one.status != 200]
        row.works = f"before: {summed(before)}; during: {summed(during)}"
        row.refused = f"what exceeds the budget of the day: {words(over)}"
        row.recovers = f"counted in Redis again after {back_s:.1f} s, with what came meanwhile"
        row.lost = f"{left} usage records; requests over the budget: {it.served - allowed}"
        row.expect(all(one.status == 200 for one in before + during), "requests were refused")
        row.expect(it.served == allowed, f"{it.served} of {allowed} requests were served")
        row.expect(all(one.code == "inference_quota_exceeded" for one in over), "another code")
        row.expect(failures > 0, "no metric counts it")
        row.expect(logged, "the log says nothing")
        row.expect(left == 0, "usage records are lost")
    return row


async def _counts_there(it: Rig, url: str) -> bool:
    """Whether a request is counted in Redis: by scripts, of which nobody else runs any."""
    async with contextlib.AsyncExitStack() as stack:
        client = redis.asyncio.from_url(url)
        stack.push_async_callback(client.aclose)

        async def scripts() -> int:
            told = await client.info("commandstats")
            return sum(
                one["calls"] for name, one in told.items() if name.startswith("cmdstat_eval")
            )

        before = await scripts()
        await it.ask()
        return await scripts() > before


async def redis_stopped(folder: Path) -> Row:
    return await _redis_away(folder, "Redis stopped, started", "stop", "start")


async def redis_hung(folder: Path) -> Row:
    return await _redis_away(folder, "Redis hangs, goes on", "hang", "go_on")


# -- PostgreSQL


async def _postgres_away(case: str, breaks: str, mends: str, folder: Path) -> Row:
    row = Row(case)
    with services.postgres() as store:
        async with rig(folder / "server", {"usage": {"url": store.url, "flush_s": 0.1}}) as it:
            before = await it.asks(ASKS)
            await asyncio.to_thread(getattr(store, breaks))
            during = await it.asks(ASKS, pause_s=OUTAGE_S / ASKS)
            ready = await it.ready()
            retried = "usage records cannot be written" in it.server.log.read_text()
            await asyncio.to_thread(getattr(store, mends))

            back_s = await until(lambda: _all_written(it, store.url), "records are missing")
            after = await it.asks(ASKS)
            await until(lambda: _all_written(it, store.url), "records are missing")
        left = it.served - await _written(store.url)
        row.works = f"during: {summed(during)}; after: {summed(after)}"
        row.refused = "nothing"
        row.recovers = f"all records written after {back_s:.1f} s"
        row.lost = f"{left} usage records"
        everything = before + during + after
        row.expect(all(one.status == 200 for one in everything), "requests were refused")
        row.expect(ready["ready"] is True, "it was not ready")
        # a store that hangs is known after the time-out of a write
        row.expect(retried or breaks == "hang", "the log says nothing")
        row.expect(left == 0, "usage records are lost")
    return row


async def postgres_stopped(folder: Path) -> Row:
    return await _postgres_away("PostgreSQL stopped, started", "stop", "start", folder)


async def postgres_hung(folder: Path) -> Row:
    return await _postgres_away("PostgreSQL hangs, goes on", "hang", "go_on", folder)


# -- the disk


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own. Raises OSError where nobody may mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=1777", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise OSError("mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(folder: Path) -> Path:
    """Leave no byte."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x"):
            pass
    return path


async def _full(
    folder: Path, case: str, fill: Callable[[Rig, Path], Callable[[], None]], store: Path
) -> Row:
    """`fill` fills the disk of `store`, and gives what empties it."""
    row = Row(case)
    usage = {"url": f"sqlite:{store}/usage.db", "spill": f"{store}/spill.jsonl", "flush_s": 0.1}
    async with rig(folder / "server", {"usage": usage}) as it:
        before = await it.asks(ASKS)
        await until(lambda: _all_recorded(it, store), "records are missing")
        empty = fill(it, store)
        during = await it.asks(ASKS, pause_s=OUTAGE_S / ASKS)
        ready = await it.ready()
        retried = await it.metric("parley_usage_records_total", outcome="retried")
        empty()
        back_s = await until(lambda: _all_recorded(it, store), "records are missing")
        after = await it.asks(ASKS)
        await until(lambda: _all_recorded(it, store), "records are missing")
        lost = await it.metric("parley_usage_records_total", outcome="lost")
    left = it.served - recorded(store / "usage.db")
    row.works = f"during: {summed(during)}; after: {summed(after)}"
    row.refused = "nothing"
    row.recovers = f"all records written {back_s:.1f} s after there was room"
    row.lost = f"{left} usage records"
    row.expect(all(one.status == 200 for one in before + during + after), "requests were refused")
    row.expect(ready["ready"] is True, "it was not ready")
    row.expect(retried > 0, "no metric counts it")
    row.expect(left == 0 and lost == 0, "usage records are lost")
    return row


async def _all_recorded(it: Rig, store: Path) -> bool:
    return recorded(store / "usage.db") == it.served


async def disk_full(folder: Path) -> Row:
    case = "disk of the usage store full"

    def fill(it: Rig, store: Path) -> Callable[[], None]:
        return _fill(store).unlink

    try:
        with _small_disk(folder / "disk") as store:
            return await _full(folder, case, fill, store)
    except OSError as error:
        if str(error) != "mount":
            raise
    # nobody may mount here: no file of the server can grow
    return await no_file_grows(folder / "limited")


async def no_file_grows(folder: Path) -> Row:
    """The disk of the log is full as well."""

    def fill(it: Rig, store: Path) -> Callable[[], None]:
        pid = it.server.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
        return lambda: _set_file_size(pid, hard)

    store = folder / "store"
    store.mkdir(parents=True)
    return await _full(folder, "disks of usage store and log full", fill, store)


def _set_file_size(pid: int, most: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


# -- the network


MISSING = "may not be done here"


def may_have_a_resolver() -> bool:
    """Whether a process may be started here whose names a server of ours looks up."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return tried.returncode == 0 and os.geteuid() == 0


async def _names(folder: Path, case: str, mode: resolver.Mode) -> Row:
    """The first provider's name cannot be looked up; the second's can."""
    row = Row(case)
    names, transport = await resolver.start()
    conf = folder / "resolv.conf"
    conf.write_text(f"nameserver {resolver.ADDRESS}\n")
    bind = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
    prefix = ("unshare", "-m", "--propagation", "private", "sh", "-c", bind, "sh")
    try:
        async with _provider(None) as (port, _), FakeDeepgram() as ears:
            kind = {"type": "openai-compatible", "api_key": "k"}
            heard = {"type": "deepgram", "api_key": KEY}
            config: dict[str, dict[str, Any]] = {
                "providers": {
                    "flaky": {**kind, "base_url": f"http://flaky.test:{port}/v1"},
                    "other": {**kind, "base_url": f"http://other.test:{port}/v1"},
                    "deaf": {**heard, "base_url": f"http://flaky.test:{ears.port}"},
                    "ears": {**heard, "base_url": f"http://ears.test:{ears.port}"},
                },
                "models": {
                    "m": [{"provider": "flaky", "model": "m"}, {"provider": "other", "model": "m"}],
                    "other": [{"provider": "other", "model": "m"}],
                    "alone": [{"provider": "flaky", "model": "m"}],
                    "stt": [
                        {"provider": "deaf", "model": "nova-3"},
                        {"provider": "ears", "model": "nova-3"},
                    ],
                },
                "chat": {"connect_timeout_s": 1, "rounds": 1},
                "stt": {"local_last": False, "open_timeout_s": 2},
            }
            async with rig(folder / "server", config, prefix=prefix) as it:
                before = await it.asks(2, "other")
                names.mode = mode
                first = await it.ask("alone")
                # as many at once as a resolver's threads may not be
                crowd = await asyncio.gather(it.together(ASKS * 3), it.together(ASKS, "other"))
                speech = await asyncio.gather(
                    *(converse(it.server, SPOKEN, model="stt") for _ in range(LINES))
                )
                during = await it.asks(ASKS)
                names.mode = "answers"

                async def back() -> bool:
                    return (await it.ask("alone")).status == 200

                back_s = await until(back, "the name is not looked up again")
                after = await it.asks(2)
    finally:
        transport.close()
    both = [*crowd[0], *crowd[1]]
    well = sum(stt_caller.words(told) == list(WORDS) for told in speech)
    row.works = (
        f"with another provider: {summed([*both, *during])}; "
        f"{well} of {LINES} sessions of /stt at once lost no word"
    )
    row.refused = f"without: {words([first])}"
    row.recovers = f"after {back_s:.1f} s"
    row.lost = "-"
    row.expect(all(one.status == 200 for one in [*before, *both, *during, *after]), words(both))
    row.expect(well == LINES, f"words are lost: {[stt_caller.words(told) for told in speech]}")
    row.expect(first.status in (503, 504), f"without another provider: {first.status}")
    return row


async def dns_fails(folder: Path) -> Row:
    return await _names(folder, "DNS fails", "fails")


async def dns_hangs(folder: Path) -> Row:
    return await _names(folder, "DNS hangs", "hangs")


@asynccontextmanager
async def _provider(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[int, list[str]]]:
    """A chat provider at all addresses of loopback; its port, and who asked it."""
    asked: list[str] = []

    async def complete(request: web.Request) -> web.Response:
        asked.append(request.path)
        message = {"role": "assistant", "content": "Hello."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
             "choices": [choice],
             "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        )  # fmt: skip

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    # no connection is kept: each has its name looked up
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        assert site._server is not None
        yield site._server.sockets[0].getsockname()[1], asked  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


async def wrong_certificate(folder: Path) -> Row:
    row = Row("wrong certificate upstream")
    pem = folder / "wrong.pem"
    subprocess.run(
        [services.needed("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=elsewhere.test", "-keyout", str(pem), "-out", str(folder / "cert.pem")],
        capture_output=True, check=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", pem)
    async with _provider(tls) as (port, asked):
        kind = {"type": "openai-compatible", "api_key": "k"}
        config: dict[str, dict[str, Any]] = {
            "providers": {"wrong": {**kind, "base_url": f"https://127.0.0.1:{port}/v1"}},
            "models": {
                "m": [{"provider": "wrong", "model": "m"}, {"provider": "sound", "model": "m"}],
                "alone": [{"provider": "wrong", "model": "m"}],
            },
            "chat": {"rounds": 1},
        }
        async with rig(folder / "server", config) as it:
            alone = await it.ask("alone")
            during = await it.asks(ASKS)
    row.works = f"with another provider: {summed(during)}"
    row.refused = f"without: {words([alone])}"
    row.recovers = "-"
    row.lost = "-"
    row.expect(all(one.status == 200 for one in during), words(during))
    row.expect(alone.status == 503 and "certificate" in alone.message, "it does not say why")
    row.expect(not asked, "a request, and its key, went there")
    return row


# -- the clock


async def clock_jumps(folder: Path) -> Row:
    """An hour on, and two hours back."""
    row = Row("wall clock jumps 1 h on, 2 h back")
    clock = folder / "clock"
    clock.write_text("0")
    environment = {"PYTHONPATH": f"{SHIMS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["PARLEY_TEST_CLOCK"] = str(clock)
    config = {"quota": {"keys": {"*": {"requests_per_minute": RPM, "day": {"requests": 1000}}}}}
    refused, served = [], []
    async with rig(folder / "server", config, environment) as it:
        served += await it.asks(ASKS)
        for shift_s in (3600.0, -3600.0):
            clock.write_text(str(shift_s))
            refused.append(await it.ask())  # whose own clock is right
            served += [await it.ask(shift_s=shift_s) for _ in range(ASKS)]
        clock.write_text("0")
        served += await it.asks(ASKS)
        # nothing that was counted in another hour counts for ever
        rest = await it.together(RPM - len(served))
    left = it.served - await it.recorded()
    row.works = f"callers with the same clock: {summed([*served, *rest])}"
    row.refused = f"callers with another: {words(refused)}"
    row.recovers = "at once"
    row.lost = f"{left} usage records"
    row.expect(all(one.status == 200 for one in [*served, *rest]), words([*served, *rest]))
    row.expect([one.status for one in refused] == [401, 401], words(refused))
    row.expect(left == 0, "usage records are lost")
    return row


# -- the processes


async def worker_killed(folder: Path) -> Row:
    """One of two, with kill -9, while requests come."""
    row = Row("a worker killed (-9)")
    config = {"server": {"workers": WORKERS}}
    async with rig(folder / "server", config) as it:
        await until(lambda: _workers_are(it, WORKERS), "no two workers")
        before = await it.asks(2 * ASKS)
        killed = workers_of(it.server)[0]
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        during = []
        cut = 0
        while not await _workers_are(it, WORKERS) or killed in workers_of(it.server):
            try:
                during.append(await it.ask())
            except aiohttp.ClientError:
                cut += 1
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError("the worker was not replaced")
        back_s = time.monotonic() - began
        after = await it.asks(2 * ASKS)
        restarts = await it.metric("parley_worker_restarts_total")
    left = it.served - await it.recorded()
    row.works = f"meanwhile: {summed(during)}, {cut} connections cut"
    row.refused = words([*before, *during, *after])
    row.recovers = f"replaced after {back_s:.1f} s"
    row.lost = f"{left} usage records (those of its last usage.flush_s)"
    row.expect(all(one.status == 200 for one in [*before, *during, *after]), row.refused)
    row.expect(restarts == 1, "no metric counts it")
    row.expect(left <= 2 * ASKS, f"{left} usage records are lost")
    return row


async def worker_hangs(folder: Path) -> Row:
    """One of two stops working, with every connection open. Takes half a minute."""
    row = Row("a worker hangs")
    async with rig(folder / "server", {"server": {"workers": WORKERS}}) as it:
        await until(lambda: _workers_are(it, WORKERS), "no two workers")
        hung = workers_of(it.server)[0]
        os.kill(hung, signal.SIGSTOP)
        began = time.monotonic()
        waiting = asyncio.create_task(it.together(2 * ASKS))  # some of them at the one that hangs
        while hung in workers_of(it.server) or not await _workers_are(it, WORKERS):
            if time.monotonic() - began > 2 * PATIENCE_S:
                raise TimeoutError("the worker was not replaced")
            await asyncio.sleep(POLL_S)
        back_s = time.monotonic() - began
        waited = await asyncio.gather(waiting, return_exceptions=True)
        after = await it.asks(2 * ASKS)
        restarts = await it.metric("parley_worker_restarts_total")
    cut = any(isinstance(one, BaseException) for one in waited)
    row.works = f"new connections at the others; after: {summed(after)}"
    row.refused = f"those at it wait, and are cut with it: {'yes' if cut else 'none was there'}"
    row.recovers = f"killed and replaced after {back_s:.0f} s"
    row.lost = "as of a worker that is killed"
    row.expect(all(one.status == 200 for one in after), words(after))
    row.expect(restarts == 1, "no metric counts it")
    return row


async def _workers_are(it: Rig, count: int) -> bool:
    return bool((await it.ready())["workers"]["ready"] == count)


async def starts_without_stores(folder: Path) -> Row:
    """Redis and PostgreSQL are away when the server starts, and come later."""
    row = Row("Redis and PostgreSQL away at the start")
    folder.joinpath("redis").mkdir()
    with services.redis(folder / "redis") as counters, services.postgres() as store:
        await asyncio.gather(asyncio.to_thread(counters.stop), asyncio.to_thread(store.stop))
        config: dict[str, dict[str, Any]] = {
            "usage": {"url": store.url, "flush_s": 0.1},
            "quota": {"redis_url": counters.url, "keys": {"*": {"day": {"requests": 1000}}}},
        }
        async with rig(folder / "server", config) as it:
            during = await it.asks(ASKS)
            ready = await it.ready()
            await asyncio.gather(asyncio.to_thread(counters.start), asyncio.to_thread(store.start))
            back_s = await until(lambda: _all_written(it, store.url), "records are missing")
            counted_s = await until(lambda: _counts_there(it, counters.url), "not counted there")
    row.works = summed(during)
    row.refused = "nothing"
    row.recovers = f"records written after {back_s:.1f} s, counted in Redis {counted_s:.1f} s later"
    row.lost = "0 usage records"
    row.expect(all(one.status == 200 for one in during), words(during))
    row.expect(ready["ready"] is True, "it was not ready")
    return row


async def _written(url: str) -> int:
    """Requests in PostgreSQL that were served."""
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval("SELECT count(*) FROM parley_usage WHERE outcome = 'ok'")
        )
    finally:
        await connection.close()


async def _all_written(it: Rig, url: str) -> bool:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        return await _written(url) == it.served
    return False


async def reload_without_a_worker(folder: Path) -> Row:
    """The configuration is read again while a worker is being replaced."""
    row = Row("reload while a worker is replaced")
    config = {"server": {"workers": WORKERS}}
    async with rig(folder / "server", config) as it:
        await until(lambda: _workers_are(it, WORKERS), "no two workers")
        file = folder / "server" / "gateway.yaml"
        told = yaml.safe_load(file.read_text())
        told["models"]["new"] = told["models"]["m"]
        file.write_text(yaml.safe_dump(told))
        os.kill(workers_of(it.server)[0], signal.SIGKILL)
        began = time.monotonic()
        it.server.process.send_signal(signal.SIGHUP)
        await until(lambda: _applied(it), "the configuration was not taken")
        during = await it.asks(ASKS)
        await until(lambda: _workers_are(it, WORKERS), "no two workers")
        back_s = time.monotonic() - began
        seen = await it.asks(8 * WORKERS, "new")
    row.works = f"meanwhile: {summed(during)}; the new model, at every worker: {summed(seen)}"
    row.refused = words([*during, *seen])
    row.recovers = f"both workers serve by the new file after {back_s:.1f} s"
    row.lost = f"{it.served - await it.recorded()} usage records"
    row.expect(all(one.status == 200 for one in [*during, *seen]), row.refused)
    row.expect(row.lost.startswith("0 "), "usage records are lost")
    return row


async def _applied(it: Rig) -> bool:
    return await it.metric("parley_config_reloads_total", outcome="applied") == 1


CASES: dict[str, Callable[[Path], Coroutine[Any, Any, Row]]] = {
    "redis-stopped": redis_stopped,
    "redis-hung": redis_hung,
    "postgres-stopped": postgres_stopped,
    "postgres-hung": postgres_hung,
    "disk-full": disk_full,
    "no-file-grows": no_file_grows,
    "dns-fails": dns_fails,
    "dns-hangs": dns_hangs,
    "starts-without-stores": starts_without_stores,
    "wrong-certificate": wrong_certificate,
    "clock-jumps": clock_jumps,
    "worker-killed": worker_killed,
    "worker-hangs": worker_hangs,
    "reload-without-a-worker": reload_without_a_worker,
}

LONG = ("worker-hangs",)
"""Not for every run of the tests: what takes long is the patience that is tried."""

NEEDS_A_RESOLVER = ("dns-fails", "dns-hangs")
