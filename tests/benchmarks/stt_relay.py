"""What a frame of relayed speech costs, and how much later its words come.

Sessions send 50 ms frames in real time to a bare recogniser. The same frames go through two bare
relays (two sockets, messages copied) in the same run: what the better one needs is the floor.
Gateway and relays have a core of their own; callers and recogniser share another.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from gateway.server.auth import mint
from tests.benchmarks._ear import FRAMES_A_RESULT
from tests.benchmarks._frames import TEXT, Peer, frame, request
from tests.benchmarks.tools import (
    free_port,
    other_model,
    percentile,
    process,
    rss_mb,
    running_s,
    table,
)

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
GATEWAY = "gateway"
FRAME_S = 0.05
SESSIONS = (1, 200, 1000)
SESSIONS_QUICK = (1, 50, 200)
SECONDS = 10.0

_PCM = (3000 * np.sin(0.2 * np.arange(800))).astype(np.int16).tobytes()
_AUDIO = {"type": "input_audio", "audio": base64.b64encode(_PCM).decode()}
FRAME = frame(TEXT, json.dumps(_AUDIO).encode(), mask=True)
CREATE = b'{"type": "session.create", "model": "bench", "settings": {}}'
TICK_S = 0.001
SETTLE_S = 1.0
JOIN_AT_ONCE = 50


class Crowd:
    """Callers that send a frame every 50 ms, each at its own moment, and read their words."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.delays_s: list[float] = []
        self.frames = 0

    async def join(self, port: int, *, relay: bool) -> None:
        """One more caller; its session is there afterwards."""
        loop = asyncio.get_running_loop()
        caller = Caller(self, relay)
        await loop.create_connection(lambda: caller, "127.0.0.1", port)
        await caller.ready
        self.callers.append(caller)

    async def speak(self, seconds: float) -> None:
        """Send for so long."""
        clock = time.perf_counter
        began, rounds = clock(), round(seconds / FRAME_S)
        count = len(self.callers)
        # or all words would come in the same 50 ms of each second
        first = [n * FRAMES_A_RESULT // count for n in range(count)]
        random.Random(1).shuffle(first)
        turn = 0
        while turn < rounds * count:
            due = min(rounds * count, int((clock() - began) / FRAME_S * count) + 1)
            for n in range(turn, due):
                if n // count >= first[n % count]:
                    self.callers[n % count].speak()
                    self.frames += 1
            turn = due
            await asyncio.sleep(TICK_S)

    def words_due(self) -> int:
        """How many words the recogniser has said."""
        return sum(caller.sent // FRAMES_A_RESULT for caller in self.callers)

    def leave(self) -> None:
        for caller in self.callers:
            caller.transport.abort()


class Caller(Peer):
    """One of a crowd."""

    def __init__(self, crowd: Crowd, relay: bool) -> None:
        super().__init__()
        self._crowd = crowd
        self._relay = relay
        self.sent = self._words = 0
        self._sent_at: dict[int, float] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(request("/relay" if self._relay else "/stt", _token()))

    def shaken(self, head: str) -> bool:
        assert " 101 " in head.partition("\r\n")[0], head
        if self._relay:
            self.ready.set_result(None)
        else:
            self.transport.write(frame(TEXT, CREATE, mask=True))
        return True

    def speak(self) -> None:
        self.sent += 1
        if self.sent % FRAMES_A_RESULT == 0:
            self._sent_at[self.sent // FRAMES_A_RESULT] = time.perf_counter()
        self.transport.write(FRAME)

    def got(self, opcode: int, payload: bytes) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        elif b"word" in payload:
            self._words += 1
            self._crowd.delays_s.append(time.perf_counter() - self._sent_at.pop(self._words))


@cache
def _token() -> dict[str, str]:
    token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
    return {"Authorization": f"Bearer {token}"}


async def _load(port: int, name: str, sessions: int, seconds: float, pid: int) -> list[Any]:
    relay = name != GATEWAY
    crowd = Crowd()
    before_mb = rss_mb(pid)
    for begin in range(0, sessions, JOIN_AT_ONCE):
        count = min(JOIN_AT_ONCE, sessions - begin)
        await asyncio.gather(*(crowd.join(port, relay=relay) for _ in range(count)))
    await asyncio.sleep(SETTLE_S)
    before = running_s(pid)
    await crowd.speak(seconds)
    await asyncio.sleep(SETTLE_S)
    used, memory_mb = running_s(pid) - before, rss_mb(pid)
    crowd.leave()
    return [
        name,
        sessions,
        1e6 * used / crowd.frames,
        used / (seconds + SETTLE_S),
        1e3 * percentile(crowd.delays_s, 0.5),
        1e3 * percentile(crowd.delays_s, 0.99),
        1 - len(crowd.delays_s) / crowd.words_due(),
        1e3 * (memory_mb - before_mb) / sessions,
    ]


def _config(folder: Path, lines: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(f"keys: {{{KEY}: {SECRET}}}\n{other_model()}log: {{level: warning}}\n{lines}")
    return path


def _relay_benchmark(quick: bool) -> None:
    ear, relay, gateway, quick_relay = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = _config(
            Path(folder),
            f"stt: {{local_last: false}}\nproviders:\n  bare: {{type: deepgram, "
            f"base_url: 'http://127.0.0.1:{ear}', api_key: x}}\n"
            "models: {bench: [{provider: bare, model: nova-3}]}\n",
        )
        python = [sys.executable, "-m"]
        run = [*python, "tests.benchmarks._ear"]
        stack.enter_context(process([*run, str(ear)], f"http://127.0.0.1:{ear}/ready", core=0))
        bare = stack.enter_context(
            process([*run, str(relay), str(ear)], f"http://127.0.0.1:{relay}/ready", core=1)
        )
        best = stack.enter_context(
            process(
                [*run, str(quick_relay), str(ear), "picows"],
                f"http://127.0.0.1:{quick_relay}/ready",
                core=1,
            )
        )
        serve = [
            "gateway",
            "serve",
            "--admin-port=0",
            "--host",
            "127.0.0.1",
            "--port",
            str(gateway),
        ]
        ours = stack.enter_context(
            process(
                [*python, *serve, "--config", str(config)],
                f"http://127.0.0.1:{gateway}/readyz",
                core=1,
            )
        )
        rows = []
        seconds = 4.0 if quick else SECONDS
        for sessions in SESSIONS_QUICK if quick else SESSIONS:
            for port, pid, name in (
                (relay, bare.pid, "relay: aiohttp"),
                (quick_relay, best.pid, "relay: picows"),
                (gateway, ours.pid, GATEWAY),
            ):
                rows.append(uvloop.run(_load(port, name, sessions, seconds, pid)))
    table(
        "/stt: 50 ms frames in real time to a bare recogniser",
        (
            "",
            "sessions",
            "CPU us/frame",
            "cores",
            "words p50 ms",
            "p99 ms",
            "words missing",
            "kB/session",
        ),
        rows,
    )


def main(*, quick: bool = False) -> None:
    os.sched_setaffinity(0, {0})
    _relay_benchmark(quick)
