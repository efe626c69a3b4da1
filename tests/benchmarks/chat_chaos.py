"""What callers notice of upstreams that die, stall and refuse; and the traps of other gateways.

Four tables: the chaos run with and without hedging, a huge prompt beside fifty small ones, the
relay's fidelity at 64 streams, and memory over many replies.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from gateway.server.auth import mint
from tests.benchmarks._upstream import TOKENS
from tests.benchmarks.tools import (
    free_port,
    other_model,
    percentile,
    process,
    rss_mb,
    table,
)

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
RATE = 50.0
FULL_S, QUICK_S = 60.0, 12.0
REPLY_TIMEOUT_S = 30.0
TOKENS_OF_HUGE = 100_000


@dataclass
class Outcome:
    """What became of the replies."""

    firsts: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def gateway(folder: Path, config: str) -> Iterator[tuple[str, dict[str, str], int]]:
    """A gateway: its URL, headers that let a caller in, and its process."""
    port = free_port()
    file = folder / f"gateway-{port}.yaml"
    file.write_text(f"keys: {{{KEY}: {SECRET}}}\n{config}{other_model()}")
    command = [sys.executable, "-m", "gateway", "serve", "--admin-port=0", "--config", str(file)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    ready = f"http://127.0.0.1:{port}/readyz"
    with process(command, ready, log=file.with_suffix(".log")) as running:
        token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
        headers = {"authorization": f"Bearer {token}"}
        yield f"http://127.0.0.1:{port}/v1/chat/completions", headers, running.pid


@contextmanager
def upstreams(module: str, *kinds: str) -> Iterator[list[int]]:
    """Ports of upstreams, one process each."""
    with ExitStack() as stack:
        ports = []
        for kind in kinds:
            port = free_port()
            command = [sys.executable, "-m", f"tests.benchmarks.{module}", str(port), kind]
            stack.enter_context(process(command, f"http://127.0.0.1:{port}/v1/models"))
            ports.append(port)
        yield ports


def body(text: str = "Tell me about Oslo.", model: str = "bench/model") -> dict[str, object]:
    return {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": text}],
    }


async def reply(
    session: aiohttp.ClientSession, url: str, request: dict[str, object], outcome: Outcome
) -> bytes:
    """Ask once, note the first token's time or the failure; the whole body."""
    began = time.perf_counter()
    received = b""
    first = None
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_S), session.post(url, json=request) as response:
            async for data in response.content.iter_any():
                received += data
                if first is None and b" token0" in received:
                    first = time.perf_counter() - began
            if response.status != 200:
                outcome.failures.append(f"status {response.status}")
                return received
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome.failures.append(type(error).__name__)
        return received
    if first is None or b"[DONE]" not in received or b'"error"' in received:
        outcome.failures.append("an error in the stream" if b'"error"' in received else "cut")
        return received
    outcome.firsts.append(first)
    return received


async def steady(url: str, headers: dict[str, str], duration_s: float) -> Outcome:
    """RATE requests a second for so long, however long each takes."""
    outcome = Outcome()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        tasks = []
        began = time.perf_counter()
        for number in range(int(RATE * duration_s)):
            await asyncio.sleep(began + number / RATE - time.perf_counter())
            tasks.append(asyncio.create_task(reply(session, url, body(), outcome)))
        await asyncio.gather(*tasks)
    return outcome


def chaos(folder: Path, duration_s: float) -> None:
    """One upstream dies after a third of the time, one stalls 20 %, one refuses half."""
    rows = []
    for name, hedge in (
        ("no hedging", "{enabled: false}"),
        ("hedging", "{enabled: true, after_s: 0.3, extra_max: 2, share_max: 0.5}"),
    ):
        kinds = f"dies:{duration_s / 3 + 5}", "stalls:0.2", "limits:0.5"
        with upstreams("_misbehaving", *kinds) as ports:
            providers = ", ".join(
                f"p{i}: {{type: openai-compatible, clean: true, api_key: k, "
                f"base_url: 'http://127.0.0.1:{port}/v1'}}"
                for i, port in enumerate(ports)
            )
            config = (
                f"providers: {{{providers}}}\n"
                "models: {bench/model: ["
                + ", ".join(f"{{provider: p{i}, model: b, weight: 1}}" for i in range(3))
                + f"]}}\nchat: {{first_token_timeout_s: 4, hedge: {hedge}}}\n"
                f"usage: {{url: 'sqlite:{folder}/chaos.db'}}\n"
            )
            with gateway(folder, config) as (url, headers, _):
                outcome = uvloop.run(steady(url, headers, duration_s))
        total = len(outcome.firsts) + len(outcome.failures)
        reasons = ", ".join(sorted(set(outcome.failures))) or "-"
        rows.append(
            (
                name,
                total,
                len(outcome.failures),
                1000 * percentile(outcome.firsts, 0.5),
                1000 * percentile(outcome.firsts, 0.95),
                1000 * percentile(outcome.firsts, 0.99),
                reasons,
            )
        )
    title = (
        f"chat: one upstream dies, one stalls 20 %, one refuses 50 %; {RATE:g}/s, {duration_s:g} s"
    )
    columns = ["", "replies", "failed", "TTFT p50 ms", "p95 ms", "p99 ms", "reasons"]
    table(title, columns, rows)


def _sound(folder: Path, port: int) -> str:
    return (
        f"providers: {{up: {{type: openai-compatible, clean: true, api_key: k, "
        f"base_url: 'http://127.0.0.1:{port}/v1'}}}}\n"
        "models: {bench/model: [{provider: up, model: bench}]}\n"
        f"usage: {{url: 'sqlite:{folder}/sound.db'}}\n"
    )


async def _beside(url: str, headers: dict[str, str], huge: bool, rounds: int) -> list[float]:
    """First tokens of fifty small prompts in each round, with or without a huge one beside."""
    outcome, other = Outcome(), Outcome()
    long_text = "word " * TOKENS_OF_HUGE
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        for _ in range(rounds + 1):
            tasks = [asyncio.create_task(reply(session, url, body(), outcome)) for _ in range(50)]
            if huge:
                tasks.append(asyncio.create_task(reply(session, url, body(long_text), other)))
            await asyncio.gather(*tasks)
            if _ == 0:
                outcome = Outcome()  # the first round opens the connections
    return outcome.firsts


def beside_a_huge_prompt(folder: Path, rounds: int) -> None:
    """One caller's 100 000-token prompt beside fifty small ones."""
    rows = []
    with (
        upstreams("_upstream", "20") as (port,),
        gateway(folder, _sound(folder, port)) as (url, headers, _),
    ):
        for name, huge in (("fifty small prompts", False), ("beside a huge one", True)):
            firsts = uvloop.run(_beside(url, headers, huge, rounds))
            p50, p99 = percentile(firsts, 0.5), percentile(firsts, 0.99)
            rows.append((name, len(firsts), 1000 * p50, 1000 * p99))
    table(
        f"chat: fifty small prompts beside one of {TOKENS_OF_HUGE} tokens",
        ["", "replies", "TTFT p50 ms", "p99 ms"],
        rows,
    )


async def _fidelity(upstream_url: str, url: str, headers: dict[str, str]) -> tuple[int, int, int]:
    """Streams that were the same bytes as the upstream's own, of how many; chunks in each."""
    outcome = Outcome()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        truth = await reply(session, upstream_url, body(), outcome)
        made = await asyncio.gather(*(reply(session, url, body(), outcome) for _ in range(64)))
    chunks = sum(1 for line in truth.splitlines() if line.startswith(b"data: {"))
    return sum(one == truth for one in made), len(made), chunks


def fidelity(folder: Path) -> None:
    """Whether every chunk comes out as it went in, at 64 streams at a time."""
    with (
        upstreams("_upstream", "5") as (port,),
        gateway(folder, _sound(folder, port)) as (url, headers, _),
    ):
        upstream_url = f"http://127.0.0.1:{port}/v1/chat/completions"
        same, total, chunks = uvloop.run(_fidelity(upstream_url, url, headers))
    table(
        "chat: the relay's fidelity at 64 streams at a time",
        ["", "streams", "identical", "chunks each"],
        [("byte for byte", total, same, chunks)],
    )
    assert chunks >= TOKENS


async def _many(url: str, headers: dict[str, str], count: int) -> Outcome:
    outcome = Outcome()
    left = count
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await reply(session, url, body(), outcome)

        await asyncio.gather(*(caller() for _ in range(32)))
    return outcome


def memory(folder: Path, replies: int) -> None:
    """Resident memory over many replies."""
    rows = []
    with (
        upstreams("_upstream", "joined") as (port,),
        gateway(folder, _sound(folder, port)) as (url, headers, pid),
    ):
        rows.append(("at the start", 0, rss_mb(pid)))
        done = 0
        for share in (0.1, 0.45, 0.45):
            outcome = uvloop.run(_many(url, headers, int(replies * share)))
            assert not outcome.failures, outcome.failures[:3]
            done += int(replies * share)
            rows.append((f"after {done} replies", done, rss_mb(pid)))
    table("chat: memory", ["", "replies", "RSS MB"], rows)


def main(*, quick: bool = False) -> None:
    """Print the four tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chaos(folder, QUICK_S if quick else FULL_S)
        beside_a_huge_prompt(folder, 3 if quick else 20)
        fidelity(folder)
        memory(folder, 1_000 if quick else 10_000)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
