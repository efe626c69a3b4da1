"""One run: the server, its providers, its callers, and what is left when they have gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.benchmarks.tools import table
from tests.end_to_end.server import Server, running
from tests.load.callers import NUMBERS, Caller
from tests.load.tally import Held, Kind, held, memory_mb, slope
from tests.load.upstreams import Upstreams, failing

WORKERS = 2
SETTLE_S = 60.0
"""In this time all that the calls held is given back."""
SETTLED_S = 1.0
SAMPLES_MAX = 2000
PATIENCE_S = 60.0


@dataclass
class Result:
    """`start`: after a first round, when everybody had gone. `end`: under load. `after`: when
    everybody has gone again."""

    kinds: dict[str, Kind]
    seconds: float = 0.0
    start: Held | None = None
    end: Held | None = None
    after: Held | None = None
    times_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    tracebacks: int = 0
    fallbacks: int = 0
    """Moves to another provider that the server counted."""
    restarts: int = 0
    """Workers that died."""

    @property
    def leaked(self) -> dict[str, int]:
        assert self.start is not None
        assert self.after is not None
        return self.after.leaked(self.start)

    def findings(self) -> list[str]:
        """What did not hold, in words."""
        found = [
            f"{name}: {kind.failed} calls failed that could have been served: "
            f"{dict(kind.reasons.most_common(5))}"
            for name, kind in self.kinds.items()
            if kind.failed
        ]
        found += [
            f"{name}: {kind.lost} of {kind.words} words lost: {dict(kind.losses.most_common(5))}"
            for name, kind in self.kinds.items()
            if kind.lost
        ]
        if self.leaked:
            found.append(f"leaked: {self.leaked}")
        if self.tracebacks:
            found.append(f"{self.tracebacks} tracebacks in the log")
        if self.restarts:
            found.append(f"{self.restarts} workers died")
        return found

    def show(self) -> None:
        names = ("calls", "served", "failed", "broken", "vanished", "words", "lost")
        rows = [[name, *(getattr(k, one) for one in names)] for name, k in self.kinds.items()]
        table(f"load: {self.seconds:.0f} s, {WORKERS} workers", ("", *names), rows)
        print("  failed: though another provider could have served them")
        print("  broken: their only provider broke off in the middle of an answer")
        print("  words: of bargein and eot questions; lost: never told, or without an answer")
        print(f"  moves to another provider: {self.fallbacks}")
        columns = ("rss_mb", "descriptors", "sockets", "threads", "children", "tasks", "sessions")
        states = {"start": self.start, "under load": self.end, "all have left": self.after}
        table(
            "held by all processes",
            ("", *columns),
            [[name, *(getattr(one, c) for c in columns)] for name, one in states.items() if one],
        )
        grown, error = slope(self.times_s, self.memory_mb)
        samples = len(self.times_s)
        quarters = [self.memory_mb[samples * i // 4 : samples * (i + 1) // 4] for i in range(4)]
        means = ", ".join(f"{sum(one) / len(one):.0f}" for one in quarters if one)
        print(f"  memory: {grown:+.1f} MB/hour, standard error {error:.1f}, {samples} samples")
        print(f"  memory, mean of each quarter of the time: {means} MB")
        for finding in self.findings():
            print(f"  NOT HELD: {finding}")
        for name, kind in self.kinds.items():
            for story in kind.stories:
                print(f"  how {name} lost words:", *story, sep="\n    ")
        sys.stdout.flush()


async def _until_ready(server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told = json.loads((await asyncio.to_thread(server.get, "/readyz"))[1])
            if told["workers"]["ready"] == WORKERS:
                return
            await asyncio.sleep(0.1)


async def _held(server: Server) -> Held:
    text = (await asyncio.to_thread(server.get, "/metrics"))[1]
    values = {"parley_tasks": 0.0, "parley_open_sessions": 0.0}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if (bare := name.partition("{")[0]) in values:
            values[bare] += float(value)
    return await asyncio.to_thread(
        held, server.process.pid, values["parley_tasks"], values["parley_open_sessions"]
    )


async def _all_gone(server: Server, upstreams: Upstreams, before: Held | None) -> Held:
    """What is held once providers have closed what was kept for later, and nothing changes."""
    await upstreams.hang_up()
    ends = time.monotonic() + SETTLE_S
    last = None
    while True:
        now = await _held(server)
        calm = last is not None and not now.leaked(last) and not last.leaked(now)
        good = not now.sessions if before is None else not now.leaked(before)
        if (calm and good) or time.monotonic() > ends:
            await upstreams.listen()
            return now
        last = now
        await asyncio.sleep(SETTLED_S)


@asynccontextmanager
async def _watching(server: Server, upstreams: Upstreams, result: Result) -> AsyncIterator[None]:
    """Samples memory, and keeps that of the fakes small."""
    every_s = max(0.5, result.seconds / SAMPLES_MAX)
    began = time.monotonic()

    async def watch() -> None:
        while True:
            await asyncio.sleep(every_s)
            upstreams.forget()
            result.memory_mb.append(await asyncio.to_thread(memory_mb, server.process.pid))
            result.times_s.append(time.monotonic() - began)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _call(
    server: Server, upstreams: Upstreams, kinds: dict[str, Kind], seconds: float, chance: Random
) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(
            Caller(server, name, kinds[name], chance.getrandbits(32), upstreams=upstreams).run(
                until
            )
            for name, number in NUMBERS.items()
            for _ in range(number)
        )
    )


async def _run(folder: Path, seconds: float, warm_s: float, seed: int) -> Result:
    chance = Random(seed)
    result = Result({name: Kind() for name in NUMBERS}, seconds)
    with (
        failing(folder, seed, WORKERS) as upstreams,
        running(folder, upstreams.config) as server,
    ):
        await _until_ready(server)
        await _call(server, upstreams, {name: Kind() for name in NUMBERS}, warm_s, chance)
        result.start = await _all_gone(server, upstreams, None)
        async with _watching(server, upstreams, result):
            calling = asyncio.create_task(_call(server, upstreams, result.kinds, seconds, chance))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(calling), 0.9 * seconds)
            result.end = await _held(server)
            await calling
        result.fallbacks = int(await asyncio.to_thread(server.metric, "parley_fallbacks_total"))
        result.restarts = int(
            await asyncio.to_thread(server.metric, "parley_worker_restarts_total")
        )
        result.after = await _all_gone(server, upstreams, result.start)
        log = server.log
    result.tracebacks = log.read_text(errors="replace").count("Traceback (most recent call last)")
    return result


def load(seconds: float, warm_s: float, seed: int) -> Result:
    """Load a server of its own for so long, after `warm_s` of the same."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(Path(folder), seconds, warm_s, seed))
