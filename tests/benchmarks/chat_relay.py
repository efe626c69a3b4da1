"""What a streamed reply of 50 tokens costs: through Parley, through the LiteLLM proxy, and bare.

The peer is installed once into a virtual environment of its own under PARLEY_CACHE; set
PARLEY_SKIP_PEERS=1 to leave it out.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.server.auth import mint
from tests.benchmarks.tools import (
    cpu_s,
    free_port,
    other_model,
    percentile,
    process,
    rss_mb,
    table,
)

LITELLM = "litellm[proxy]==1.106.0"
KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
BODY = (
    b'{"model":"%s","stream":true,"stream_options":{"include_usage":true},'
    b'"messages":[{"role":"system","content":"You are a helpful voice agent."},'
    b'{"role":"user","content":"Tell me about the weather in Oslo, please."}]}'
)


@dataclass
class Target:
    """A server to be measured; `pids` are its processes."""

    name: str
    port: int
    token: str
    model: bytes
    pids: list[int]

    def request(self) -> bytes:
        body = BODY % self.model
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            + self.token.encode()
            + b"\r\ncontent-type: application/json\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[float, float]:
    """Seconds to the first token and to the end of one reply. Raises on any other answer."""
    began = time.perf_counter()
    writer.write(request)
    received = b""
    first = 0.0
    while True:
        data = await reader.read(1 << 16)
        if not data:
            raise RuntimeError(f"the connection was closed: {received[-300:]!r}")
        received += data
        if not first and b" token0" in received:
            first = time.perf_counter() - began
        if received.endswith(b"0\r\n\r\n"):
            break
    if not received.startswith(b"HTTP/1.1 200") or b"token49" not in received:
        raise RuntimeError(f"not a whole answer: {received[:300]!r}")
    return first, time.perf_counter() - began


async def _load(target: Target, replies: int, concurrent: int) -> tuple[list[float], float]:
    """First-token times of `replies` replies over `concurrent` connections; total seconds."""
    request = target.request()
    firsts: list[float] = []
    left = replies

    async def caller() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1 << 20)
        while left > 0:
            left -= 1
            firsts.append((await _one(reader, writer, request))[0])
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrent)))
    return firsts, time.perf_counter() - began


def measure(target: Target, replies: int, concurrent: int) -> tuple[float, float, float, float]:
    """CPU ms per reply, replies per second, first token p50 and p99 in ms."""
    uvloop.run(_load(target, max(10, replies // 10), concurrent))  # warm
    before = sum(cpu_s(pid) for pid in target.pids)
    firsts, took_s = uvloop.run(_load(target, replies, concurrent))
    used = sum(cpu_s(pid) for pid in target.pids) - before
    return (
        1000 * used / replies,
        replies / took_s,
        1000 * percentile(firsts, 0.5),
        1000 * percentile(firsts, 0.99),
    )


EVERYTHING = """
quota:
  keys: {%s: {requests_per_minute: 1000000, tokens_per_minute: 1000000000, credits: 1000000}}
prices: {bench/model: {input: 2.0, cached_input: 0.5, output: 8.0}}
chat: {hedge: {enabled: true, after_s: 5}}
usage: {url: "sqlite:%s/usage.db"}
models:
  bench/model:
    - {provider: up, model: bench, weight: 3, concurrency: 500}
    - {provider: up, model: bench-b, weight: 1}
    - {provider: up, model: bench-c}
"""
"""Routing by weight, places, hedging, quotas, prices and usage records."""

PLAIN = """
usage: {enabled: false}
models: {bench/model: [{provider: up, model: bench}]}
"""


def _gateway_config(
    folder: Path, port: int, upstream_port: int, settings: str, *, clean: bool
) -> Path:
    config = folder / f"gateway-{port}.yaml"
    config.write_text(
        f"keys: {{{KEY}: {SECRET}}}\n"
        f"providers: {{up: {{type: openai-compatible, api_key: k, clean: {str(clean).lower()}, "
        f"base_url: 'http://127.0.0.1:{upstream_port}/v1'}}}}\n" + settings + other_model()
    )
    return config


@contextmanager
def parley(
    folder: Path,
    upstream_port: int,
    name: str = "Parley",
    *,
    clean: bool = True,
    everything: bool = False,
    workers: int = 1,
    settings: str | None = None,
) -> Iterator[Target]:
    """The gateway as it is served, with authentication, metrics and logs on; `clean` streams are
    relayed as bytes, `everything` has routing, quotas and usage records on too. `settings` in their
    place: the model `bench/model` and whatever else there is."""
    port, admin_port = free_port(), free_port()
    if settings is None:
        settings = EVERYTHING % (KEY, folder) if everything else PLAIN
    config = _gateway_config(folder, port, upstream_port, settings, clean=clean)
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-port", str(admin_port)]
    command += ["--workers", str(workers)]
    ready = f"http://127.0.0.1:{admin_port}/readyz"
    with process(command, ready, log=config.with_suffix(".log")) as running:
        pids = [running.pid]
        if workers > 1:
            _wait_for(ready, workers)
            pids += _children(running.pid)
        token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
        yield Target(name, port, token, b"bench/model", pids)


def _wait_for(ready: str, workers: int) -> None:
    """Wait until all workers serve: the server is ready when one does."""
    while True:
        with urllib.request.urlopen(ready, timeout=10) as response:
            if json.load(response)["workers"]["ready"] == workers:
                return
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def litellm(folder: Path, upstream_port: int) -> Iterator[Target]:
    """The LiteLLM proxy with one worker and its master key."""
    cache = Path(os.environ.get("PARLEY_CACHE", Path.home() / ".cache" / "parley"))
    home = cache / "bench-litellm"
    program = home / "bin" / "litellm"
    if not program.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", LITELLM], check=True)
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: bench\n    litellm_params:\n"
        f"      model: openai/bench\n      api_base: http://127.0.0.1:{upstream_port}/v1\n"
        "      api_key: k\n"
        "general_settings: {master_key: sk-bench}\n"
    )
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    with process([*command, "--num_workers", "1"], ready, log=folder / "litellm.log") as running:
        yield Target("LiteLLM proxy 1.106.0", port, "sk-bench", b"bench", [running.pid])


def main(*, quick: bool = False) -> None:
    """Print a table for each way in which an upstream may write its tokens."""
    for mode, text in (("joined", "in one write"), ("apart", "in a write each, without pause")):
        _compare(mode, f"chat: one streamed reply of 50 tokens, which come {text}", quick)


def _compare(mode: str, title: str, quick: bool) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream_port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks._upstream", str(upstream_port), mode]
        ready = f"http://127.0.0.1:{upstream_port}/v1/models"
        bare = stack.enter_context(process(command, ready))
        targets = [
            (Target("bare upstream", upstream_port, "k", b"bench", [bare.pid]), 2000),
            (stack.enter_context(parley(folder, upstream_port)), 2000),
            (
                stack.enter_context(
                    parley(folder, upstream_port, "Parley, everything on", everything=True)
                ),
                2000,
            ),
            (
                stack.enter_context(
                    parley(folder, upstream_port, "Parley, stream rewritten", clean=False)
                ),
                2000,
            ),
            (
                stack.enter_context(parley(folder, upstream_port, "Parley, 2 workers", workers=2)),
                2000,
            ),
            (
                stack.enter_context(
                    parley(
                        folder,
                        upstream_port,
                        "Parley, everything on, 2 workers",
                        everything=True,
                        workers=2,
                    )
                ),
                2000,
            ),
        ]
        if os.environ.get("PARLEY_SKIP_PEERS") != "1":
            targets.append((stack.enter_context(litellm(folder, upstream_port)), 200))
        rows = []
        for concurrent in (1, 32):
            floor_ms = 0.0
            for target, replies in targets:
                count = max(64, replies // 5) if quick else replies
                cpu_ms, rate, p50, p99 = measure(target, count, concurrent)
                if target is targets[0][0]:
                    floor_ms = p50
                memory = sum(rss_mb(pid) for pid in target.pids)
                rows.append(
                    (target.name, concurrent, cpu_ms, rate, p50 - floor_ms, p99, f"{memory:.0f}")
                )
        columns = ["server", "concurrent", "CPU ms/reply", "replies/s"]
        table(title, [*columns, "added TTFT p50 ms", "TTFT p99 ms", "RSS MB"], rows)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
