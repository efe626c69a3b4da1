"""What a frame of relayed speech costs, how much later its words come, and what a failover costs.

Sessions send 50 ms frames in real time to a bare recogniser. The same frames go through a bare
relay (two sockets, messages copied) in the same run: what it needs is the floor. Then sessions
whose recogniser is killed at a random moment: the words are read from what the caller was told.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import uvloop

from gateway.auth import mint
from tests.benchmarks._ear import FRAMES_A_RESULT
from tests.benchmarks.tools import cpu_s, free_port, other_model, percentile, process, rss_mb, table
from tests.end_to_end.server import Server
from tests.end_to_end.stt_caller import converse, words
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY as PROVIDER_KEY
from tests.fakes.tones import GAP_S, VOCABULARY, WORD_S, hush, spoken

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
FRAME_S = 0.05
SESSIONS = (1, 200, 1000)
SESSIONS_QUICK = (1, 50, 200)
SECONDS = 10.0
FAILOVERS = 200
FAILOVERS_QUICK = 36
AT_A_TIME = 12

_PCM = (3000 * np.sin(0.2 * np.arange(800))).astype(np.int16).tobytes()
FRAME = json.dumps({"type": "input_audio", "audio": base64.b64encode(_PCM).decode()})


@dataclass
class Load:
    """What the callers saw."""

    delays_s: list[float] = field(default_factory=list)
    frames: int = 0


def _token() -> dict[str, str]:
    token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
    return {"Authorization": f"Bearer {token}"}


async def _session(
    http: aiohttp.ClientSession,
    port: int,
    relay: bool,
    seconds: float,
    load: Load,
    go: asyncio.Event,
) -> None:
    url = f"http://127.0.0.1:{port}" + ("/relay" if relay else "/stt")
    async with http.ws_connect(url, headers={} if relay else _token()) as socket:
        if not relay:
            create = {"type": "session.create", "model": "bench", "settings": {}}
            await socket.send_json(create)
            await socket.receive()
        sent_at: dict[int, float] = {}

        async def listen() -> None:
            number = 0
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT and "word" in message.data:
                    number += 1
                    if number in sent_at:
                        load.delays_s.append(time.perf_counter() - sent_at[number])

        listening = asyncio.create_task(listen())
        await go.wait()
        due = time.perf_counter() + random.random() * FRAME_S
        for n in range(1, round(seconds / FRAME_S) + 1):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += FRAME_S
            if n % FRAMES_A_RESULT == 0:
                sent_at[n // FRAMES_A_RESULT] = time.perf_counter()
            await socket.send_str(FRAME)
            load.frames += 1
        await asyncio.sleep(0.3)
        listening.cancel()


async def _load(port: int, relay: bool, sessions: int, seconds: float, pid: int) -> list[Any]:
    load, go = Load(), asyncio.Event()
    before_mb = rss_mb(pid)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        tasks = [
            asyncio.create_task(_session(http, port, relay, seconds, load, go))
            for _ in range(sessions)
        ]
        await asyncio.sleep(1.0 + sessions / 200)
        before = cpu_s(pid)
        go.set()
        await asyncio.sleep(seconds)
        used, memory_mb = cpu_s(pid) - before, rss_mb(pid)
        await asyncio.gather(*tasks)
    return [
        "bare relay" if relay else "gateway",
        sessions,
        1e6 * used / load.frames,
        1e3 * percentile(load.delays_s, 0.5),
        1e3 * percentile(load.delays_s, 0.99),
        1e3 * (memory_mb - before_mb) / sessions,
    ]


def _config(folder: Path, lines: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(f"keys: {{{KEY}: {SECRET}}}\n{other_model()}log: {{level: warning}}\n{lines}")
    return path


def _relay_benchmark(quick: bool) -> None:
    ear, relay, gateway = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = _config(
            Path(folder),
            f"stt: {{local_last: false}}\nproviders:\n  bare: {{type: deepgram, "
            f"base_url: 'http://127.0.0.1:{ear}', api_key: x}}\n"
            "models: {bench: [{provider: bare, model: nova-3}]}\n",
        )
        python = [sys.executable, "-m"]
        run = [*python, "tests.benchmarks._ear"]
        stack.enter_context(process([*run, str(ear)], f"http://127.0.0.1:{ear}/ready"))
        bare = stack.enter_context(
            process([*run, str(relay), str(ear)], f"http://127.0.0.1:{relay}/ready")
        )
        serve = ["gateway", "serve", "--host", "127.0.0.1", "--port", str(gateway)]
        ours = stack.enter_context(
            process(
                [*python, *serve, "--config", str(config)], f"http://127.0.0.1:{gateway}/readyz"
            )
        )
        rows = []
        seconds = 4.0 if quick else SECONDS
        for sessions in SESSIONS_QUICK if quick else SESSIONS:
            for port, pid, is_relay in ((relay, bare.pid, True), (gateway, ours.pid, False)):
                rows.append(uvloop.run(_load(port, is_relay, sessions, seconds, pid)))
    table(
        "/stt: 50 ms frames in real time to a bare recogniser",
        ("", "sessions", "CPU us/frame", "words p50 ms", "p99 ms", "kB/session"),
        rows,
    )


def _worst_delay_s(told: list[dict[str, Any]], ends: dict[str, float]) -> float:
    """How late the latest word first appeared."""
    first: dict[str, float] = {}
    for one in told:
        for word in str(one.get("transcript", "")).lower().replace(".", "").split():
            first.setdefault(word, one["at"])
    return max((first[word] - end for word, end in ends.items() if word in first), default=0.0)


def _failover_benchmark(quick: bool) -> None:
    chosen = VOCABULARY[:16]
    parts = [chosen[:6], chosen[6:11], chosen[11:]]
    pcm, ends, at = hush(0.3), {}, 0.3
    for part in parts:
        for i, word in enumerate(part):
            ends[word] = at + i * (WORD_S + GAP_S) + WORD_S
        at += len(part) * (WORD_S + GAP_S) + 0.6
        pcm += spoken(part) + hush(0.6)
    rows = []
    for title, faults in (("nothing fails", None), ("killed at a random moment", "drop")):
        lost = doubled = errors = 0
        delays: list[float] = []
        sessions = FAILOVERS_QUICK if quick else FAILOVERS
        with tempfile.TemporaryDirectory() as folder, FakeDeepgram() as bad, FakeDeepgram() as good:
            port = free_port()
            config = _config(
                Path(folder),
                "stt: {local_last: false}\nproviders:\n"
                f"  bad: {{type: deepgram, base_url: '{bad.url}', api_key: {PROVIDER_KEY}}}\n"
                f"  good: {{type: deepgram, base_url: '{good.url}', api_key: {PROVIDER_KEY}}}\n"
                "models:\n  bench:\n    - {provider: bad, model: nova-3}\n"
                "    - {provider: good, model: nova-3}\n",
            )
            command = [sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1"]
            command += ["--port", str(port), "--config", str(config)]
            with process(command, f"http://127.0.0.1:{port}/readyz") as ours:
                server = Server(port, KEY, SECRET, Path(), ours)
                if faults is not None:
                    bad.script(
                        *(f"{faults}:{random.uniform(0.2, at - 0.7):.2f}" for _ in range(sessions))
                    )

                async def run(server: Server = server, sessions: int = sessions) -> list[Any]:
                    places = asyncio.Semaphore(AT_A_TIME)

                    async def one() -> list[dict[str, Any]]:
                        async with places:
                            return await converse(server, pcm, model="bench")

                    return await asyncio.gather(*(one() for _ in range(sessions)))

                for told in asyncio.run(run()):
                    heard = words(told)
                    lost += sum(word not in heard for word in chosen)
                    doubled += len(heard) - len(set(heard))
                    errors += sum(message["type"] == "error" for message in told)
                    delays.append(_worst_delay_s(told, ends))
        p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
        rows.append([title, sessions, lost, doubled, errors, p50, p99])
    table(
        f"/stt: {len(chosen)} words a session, the recogniser's connection reset once",
        ("", "sessions", "lost", "doubled", "errors", "latest word p50 s", "p99 s"),
        rows,
    )


def main(*, quick: bool = False) -> None:
    _relay_benchmark(quick)
    _failover_benchmark(quick)
