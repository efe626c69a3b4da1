"""A server with what it stands on, and a caller who notes what becomes of each request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import FakeOpenAI

PATIENCE_S = 60.0
SETTLE_S = 5.0
POLL_S = 0.05
PAIR = ("APIchaos", "chaos-secret-chaos-secret-chaos-secret")


@dataclass(frozen=True)
class Told:
    """What became of one request: its status, the error's code and message, how long it took."""

    status: int
    code: str
    message: str
    seconds: float


@dataclass
class Row:
    """What one case showed. `wrong`: what did not hold."""

    case: str
    works: str = ""
    refused: str = ""
    recovers: str = ""
    lost: str = ""
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)


def summed(told: Iterable[Told]) -> str:
    """How often each status came, and the slowest answer: `3 x 200, slowest 12 ms`."""
    told = list(told)
    if not told:
        return "-"
    counts = Counter(one.status for one in told)
    slowest_ms = 1000 * max(one.seconds for one in told)
    text = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
    return f"{text}, slowest {slowest_ms:.0f} ms"


def words(told: Iterable[Told]) -> str:
    """What the refused ones were told, each once."""
    found = {f"{one.status} {one.code}: {one.message}": None for one in told if one.status != 200}
    return "; ".join(found) or "nothing"


class Rig:
    """A running server, and who calls it."""

    def __init__(self, server: Server, store: Path) -> None:
        self.server = server
        self.served = 0
        """Requests that were answered with 200."""

        self._store = store

    async def recorded(self) -> int:
        """Those of them of which there is a record, once they are written; also when the server has
        ended."""
        began = time.monotonic()
        while (found := recorded(self._store)) < self.served:
            if time.monotonic() - began > SETTLE_S:
                break
            await asyncio.sleep(POLL_S)
        return found

    async def ask(self, model: str = "m", shift_s: float = 0.0) -> Told:
        """One request, on a connection of its own. `shift_s`: by which the caller's clock is wrong,
        or right."""
        now = int(time.time() + shift_s)
        token = mint(*PAIR, identity="chaos", ttl_s=300, now=now)
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        began = time.monotonic()
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
            http.post(f"{self.server.url}/v1/chat/completions", json=body) as answer,
        ):
            told = await answer.json()
            took = time.monotonic() - began
            error = told.get("error") or {}
            self.served += answer.status == 200
            return Told(answer.status, error.get("code") or "", error.get("message") or "", took)

    async def asks(self, count: int, model: str = "m", pause_s: float = 0.0) -> list[Told]:
        """One after the other."""
        told = []
        for _ in range(count):
            told.append(await self.ask(model))
            await asyncio.sleep(pause_s)
        return told

    async def together(self, count: int, model: str = "m") -> list[Told]:
        return list(await asyncio.gather(*(self.ask(model) for _ in range(count))))

    async def metric(self, name: str, **labels: str) -> float:
        return await asyncio.to_thread(self.server.metric, name, **labels)

    async def ready(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((await asyncio.to_thread(self.server.get, "/readyz"))[1])
        return told


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """Wait until it holds: how long that took, in seconds. Raises TimeoutError."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(what)
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began


@asynccontextmanager
async def rig(
    folder: Path,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> AsyncIterator[Rig]:
    """A server that serves the model `m` by a sound provider; `config` is added to that, with SOUND
    for the address of that provider."""
    folder.mkdir(parents=True, exist_ok=True)
    with FakeOpenAI() as llm:
        sections: dict[str, dict[str, Any]] = {
            "eot": {"enabled": False},
            "bargein": {"threads": 1},
            "usage": {"url": f"sqlite:{folder}/usage.db", "flush_s": 0.1},
            "providers": {
                "sound": {"type": "openai-compatible", "base_url": "SOUND", "api_key": "k"}
            },
            "models": {"m": [{"provider": "sound", "model": "m"}]},
        }
        for name, given in (config or {}).items():
            sections[name] = {**sections.get(name, {}), **given}
        text = yaml.safe_dump(sections).replace("SOUND", llm.base_url)
        with running(folder, text, environment, PAIR, prefix) as server:
            yield Rig(server, folder / "usage.db")


def recorded(file: Path) -> int:
    """Requests in a usage store of SQLite that were served."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        found = database.execute("SELECT count(*) FROM parley_usage WHERE outcome = 'ok'")
        return int(found.fetchone()[0])
