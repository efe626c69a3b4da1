"""What a second of relayed speech costs, how much later it begins, and what a failover costs.

Sessions say two texts each, which a bare voice answers in real time. The same load goes through a
bare relay (two sockets, messages copied) in the same run: what it needs is the floor. Then 200
utterances whose provider is killed at a random moment: what was said is read from the samples.
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

import aiohttp
import uvloop

from gateway.server.auth import mint
from tests.benchmarks._voice import AUDIO_S
from tests.benchmarks.tools import cpu_s, free_port, other_model, percentile, process, rss_mb, table
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.voices import render

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
SESSIONS = (1, 100, 400)
UTTERANCES = 200
AT_A_TIME = 8
SPREAD_S = 2.0
SENTENCES = (
    "The first of them is here. ",
    "Then comes a second sentence. ",
    "A third one follows it. ",
    "And this is how it ends. ",
)
RATE = 24000


@dataclass
class Load:
    """What the callers saw."""

    firsts_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0


def _url(port: int, name: str) -> tuple[str, dict[str, str]]:
    if name == "relay":
        return f"http://127.0.0.1:{port}/tts/websocket", {}
    token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
    return f"http://127.0.0.1:{port}/tts?model=bench", {"Authorization": f"Bearer {token}"}


async def _by_gateway(socket: aiohttp.ClientWebSocketResponse, load: Load) -> None:
    """One utterance in the clients' protocol."""
    began = time.perf_counter()
    text = {"type": "input_transcript", "transcript": "One sentence. ", "extra": {}}
    await socket.send_str(json.dumps(text))
    await socket.send_str('{"type":"session.flush"}')
    first = True
    async for message in socket:
        if first and message.data.startswith('{"type":"output_audio"'):
            load.firsts_s.append(time.perf_counter() - began)
            first = False
        elif message.data.startswith('{"type":"done"'):
            break
    load.audio_s += AUDIO_S


async def _by_relay(socket: aiohttp.ClientWebSocketResponse, load: Load) -> None:
    """The same in the provider's."""
    began = time.perf_counter()
    asked = {"context_id": f"c{random.random()}", "model_id": "m", "transcript": "One sentence. "}
    await socket.send_str(json.dumps({**asked, "continue": True}))
    await socket.send_str(json.dumps({**asked, "transcript": "", "continue": False}))
    first = True
    async for message in socket:
        if first:
            load.firsts_s.append(time.perf_counter() - began)
            first = False
        if message.data.startswith('{"type": "done"'):
            break
    load.audio_s += AUDIO_S


async def _caller(
    http: aiohttp.ClientSession, name: str, port: int, sessions: int, load: Load, ready: list[int]
) -> None:
    url, headers = _url(port, name)
    async with http.ws_connect(url, headers=headers, max_msg_size=0) as socket:
        if name == "gateway":
            create = {"type": "session.create", "sample_rate": str(RATE), "model": "bench"}
            await socket.send_str(json.dumps(create))
            await socket.receive()
        ready[0] += 1
        while ready[0] < sessions:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3 + random.random() * (SPREAD_S if sessions > 1 else 0))
        for _ in range(2):
            await (_by_gateway if name == "gateway" else _by_relay)(socket, load)


async def _load(name: str, port: int, sessions: int) -> Load:
    load, ready = Load(), [0]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(
            *(_caller(http, name, port, sessions, load, ready) for _ in range(sessions))
        )
    return load


async def _idle_mb(port: int, pid: int, sessions: int) -> float:
    """Memory of one connection that is open and says nothing, in MB."""
    url, headers = _url(port, "gateway")
    before = rss_mb(pid)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        sockets = [await http.ws_connect(url, headers=headers) for _ in range(sessions)]
        for socket in sockets:
            create = {"type": "session.create", "sample_rate": str(RATE), "model": "bench"}
            await socket.send_str(json.dumps(create))
            await socket.receive()
        grown = rss_mb(pid) - before
        for socket in sockets:
            await socket.close()
    return grown / sessions


def relaying(quick: bool) -> None:
    """The table of costs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream, bare, port = free_port(), free_port(), free_port()
        voice = [sys.executable, "-m", "tests.benchmarks._voice"]
        stack.enter_context(
            process([*voice, "upstream", str(upstream)], f"http://127.0.0.1:{upstream}/", core=1)
        )
        relay = stack.enter_context(
            process(
                [*voice, "relay", str(bare), str(upstream)], f"http://127.0.0.1:{bare}/", core=0
            )
        )
        config = folder / "gateway.yaml"
        config.write_text(
            f"keys: {{{KEY}: {SECRET}}}\nlog: {{level: warning}}\n"
            f"providers: {{cartesia: {{api_key: k, base_url: 'http://127.0.0.1:{upstream}'}}}}\n"
            "models: {bench: [{provider: cartesia, model: sonic-3}]}\n"
            "tts: {first_audio_timeout_s: 20, hole_timeout_s: 10, spare_lines: 500}\n"
            + other_model()
        )
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--admin-port=0",
            "--config",
            str(config),
        ]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        gateway = stack.enter_context(
            process(command, f"http://127.0.0.1:{port}/readyz", core=0, log=folder / "log")
        )
        idle_kb = 1000 * uvloop.run(_idle_mb(port, gateway.pid, 100 if quick else 400))
        rows = []
        for sessions in SESSIONS[:2] if quick else SESSIONS:
            floor_s = 0.0
            for name, at, pid in (("relay", bare, relay.pid), ("gateway", port, gateway.pid)):
                before = cpu_s(pid)
                load = uvloop.run(_load(name, at, sessions))
                used = cpu_s(pid) - before
                p50 = percentile(load.firsts_s, 0.5)
                floor_s = p50 if name == "relay" else floor_s
                rows.append(
                    (
                        name,
                        sessions,
                        1000 * used / load.audio_s,
                        1000 * p50,
                        1000 * percentile(load.firsts_s, 0.99),
                        1000 * (p50 - floor_s),
                        f"{rss_mb(pid):.0f}",
                    )
                )
    columns = ["server", "sessions", "CPU ms per s of audio", "first audio p50 ms", "p99 ms"]
    table(
        f"tts: {AUDIO_S:.0f} s of speech in real time, both servers on one core",
        [*columns, "added p50 ms", "RSS MB"],
        rows,
    )
    print(f"  memory of an open, idle connection with its line upstream: {idle_kb:.0f} kB")


@dataclass
class Outcome:
    """What became of one utterance."""

    whole: bool
    twice: int
    pause_s: float
    clean: bool


async def _one(http: aiohttp.ClientSession, port: int, number: int) -> Outcome:
    url, headers = _url(port, "gateway")
    audio, arrivals = b"", []
    async with http.ws_connect(url, headers=headers, max_msg_size=0) as socket:
        model = f"bench-{number}"
        create = {"type": "session.create", "sample_rate": str(RATE), "model": model}
        await socket.send_str(json.dumps(create))
        for text in SENTENCES:
            await socket.send_str(json.dumps({"type": "input_transcript", "transcript": text}))
        await socket.send_str('{"type":"session.flush"}')
        async for message in socket:
            said = json.loads(message.data)
            if said["type"] == "output_audio":
                pcm = base64.b64decode(said["audio"])
                arrivals.append((time.perf_counter(), len(pcm) / 2 / RATE))
                audio += pcm
            elif said["type"] in ("done", "error"):
                if said["type"] == "error":
                    print(f"  error: {said['message']}", file=sys.stderr)
                break
    return judge(audio, arrivals)


def judge(audio: bytes, arrivals: list[tuple[float, float]]) -> Outcome:
    """Which sentences stand in the samples, and whether anything else does but one cut sentence
    and the glide after it; how long a listener who plays at once would have heard nothing."""
    sounds = [render(text).rstrip(b"\0") for text in SENTENCES]  # the silence after may be cut
    whole = all(sound in audio for sound in sounds)
    twice = sum(max(0, audio.count(sound) - 1) for sound in sounds)
    rest, begun, clean = audio, 0, whole
    for sound in sounds if whole else ():
        cut, _, rest = rest.partition(sound)
        cut = cut.lstrip(b"\0")
        if cut:
            begun += 1
            # the beginning of this very sentence, then at most 5 ms of glide
            body = cut[: max(0, len(cut) - 2 * int(RATE * 0.005))]
            begins = sound.lstrip(b"\0")
            clean = clean and begun == 1 and begins.startswith((cut.rstrip(b"\0"), body))
    clean = clean and not rest.strip(b"\0")
    played_until, pause_s = arrivals[0][0] if arrivals else 0.0, 0.0
    for at, length_s in arrivals:
        pause_s = max(pause_s, at - played_until)
        played_until = max(played_until, at) + length_s
    return Outcome(whole, twice, pause_s, clean)


async def _failing(port: int, first: FakeCartesia, count: int) -> list[Outcome]:
    total_s = sum(len(render(text)) for text in SENTENCES) / 2 / RATE
    chance = random.Random(3)
    kinds = ("reset", "close", "hole", "error")
    outcomes: list[Outcome] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        gate = asyncio.Semaphore(AT_A_TIME)

        async def one(number: int) -> None:
            async with gate:
                outcomes.append(await _one(http, port, number))

        for _ in range(count):
            first.utterances(f"{chance.choice(kinds)}:{chance.uniform(0, total_s):.3f}")
        await asyncio.gather(*(one(number) for number in range(count)))
    return outcomes


def failing(quick: bool) -> None:
    """The table of failovers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # three times as fast as it sounds, as hosted voices are
        first, second = (
            stack.enter_context(FakeCartesia(speed=3.0, first_s=0.1)) for _ in range(2)
        )
        port, count = free_port(), 40 if quick else UTTERANCES
        config = folder / "gateway.yaml"
        # a name for each, or a provider that has failed three times would not be asked again
        config.write_text(
            f"keys: {{{KEY}: {SECRET}}}\nlog: {{level: warning}}\nproviders:\n"
            + "".join(
                f"  first-{i}: {{type: cartesia, api_key: k, base_url: '{first.url}'}}\n"
                for i in range(count)
            )
            + f"  second: {{type: cartesia, api_key: k, base_url: '{second.url}'}}\n"
            + "models:\n"
            + "".join(
                f"  bench-{i}:\n    - {{provider: first-{i}, model: m}}\n"
                "    - {provider: second, model: m}\n"
                for i in range(count)
            )
            + "tts: {first_audio_timeout_s: 1, hole_timeout_s: 1}\n"
            + other_model()
        )
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--admin-port=0",
            "--config",
            str(config),
        ]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        ready = f"http://127.0.0.1:{port}/readyz"
        stack.enter_context(process(command, ready, log=folder / "log"))
        outcomes = uvloop.run(_failing(port, first, count))
        tried = len([e for e in first.received if e.heard])
    pauses = [one.pause_s for one in outcomes]
    table(
        f"tts: {count} utterances of {len(SENTENCES)} sentences, each time the provider dies",
        ["outcome", "value"],
        [
            ("utterances without their full text", sum(not one.whole for one in outcomes)),
            ("sentences heard twice in full", sum(one.twice for one in outcomes)),
            ("utterances with samples that belong nowhere", sum(not o.clean for o in outcomes)),
            ("connections that the killed provider had", tried),
            ("pause heard p50 s", percentile(pauses, 0.5)),
            ("pause heard p99 s", percentile(pauses, 0.99)),
        ],
    )


def main(*, quick: bool = False) -> None:
    """Print both tables."""
    relaying(quick)
    failing(quick)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
