"""What quotas cost, and whether a server with them grows with its workers.

Replies of 50 tokens over 64 connections, to one key: without quotas, with a quota of a minute, and
with budgets of a day and a balance, which all workers count together. The figures of several
workers need as many idle cores, and two more for the callers and the upstream.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.chat_relay import KEY, measure, parley
from tests.benchmarks.tools import free_port, process, table

CONCURRENT = 64
WORKERS, WORKERS_QUICK = (1, 2, 4), (1, 2)
MODELS = "models: {bench/model: [{provider: up, model: bench}]}\n"
USAGE = "usage: {url: 'sqlite:%s/usage.db'}\n"
QUOTAS = {
    "no quota": "",
    "a minute": "requests_per_minute: 100000000, tokens_per_minute: 100000000000",
    "a day, a balance": "day: {requests: 100000000, cost: 100000000}, credits: 100000000",
}
PRICES = "prices: {bench/model: {input: 2.0, output: 8.0}}\n"


def main(*, quick: bool = False) -> None:
    """Print the table."""
    counts = WORKERS_QUICK if quick else WORKERS
    replies = 1000 if quick else 10_000
    cores = len(os.sched_getaffinity(0))
    rows = []
    for name, allowed in QUOTAS.items():
        alone = 0.0
        for workers in counts:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                upstream = free_port()
                command = [sys.executable, "-m", "tests.benchmarks._upstream", str(upstream)]
                ready = f"http://127.0.0.1:{upstream}/v1/models"
                stack.enter_context(process([*command, "joined"], ready))
                settings = MODELS + PRICES + USAGE % folder
                if allowed:
                    settings += f"quota: {{keys: {{{KEY}: {{{allowed}}}}}}}\n"
                target = stack.enter_context(
                    parley(folder, upstream, settings=settings, workers=workers)
                )
                cpu_ms, rate, p50, p99 = measure(target, replies, CONCURRENT)
            alone = alone or rate
            enough = cores >= workers + 2
            grown = f"{rate / alone:.2f}" if enough else f"{rate / alone:.2f} (too few cores)"
            rows.append((name, workers, cpu_ms, rate, grown, p50, p99))
    table(
        f"chat: quotas and workers, {CONCURRENT} connections, {cores} cores",
        ("quota", "workers", "CPU ms/reply", "replies/s", "of one worker", "TTFT p50 ms", "p99 ms"),
        rows,
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
