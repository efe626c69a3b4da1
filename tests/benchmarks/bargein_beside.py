"""How soon interruption windows are answered while other work wants the whole machine.

100 WebSocket sessions as in `bargein`, which run at a higher priority where they may, so that it is
the gateway's delay that is measured. Nothing is pinned: beside the gateway there are as many busy
processes as cores, first as important as it is (nice 0), then as unimportant as the engines of this
machine are (nice 10, as `engines/whisper.py` and the local voice and language model have it), then
nice 0 again with the gateway at nice -5 (`Nice=` of a systemd unit; needs the right to).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import uvloop

from tests.benchmarks.bargein import KEY, SECRET, Caller, load, noise
from tests.benchmarks.tools import cpu_s, free_port, other_model, percentile, process, table

SESSIONS = 100
CASES: tuple[tuple[str, int | None, int], ...] = (
    ("alone", None, 0),
    ("busy processes, nice 0", 0, 0),
    ("busy processes, nice 10", 10, 0),
    ("busy processes, nice 0; gateway nice -5", 0, -5),
)
"""What is beside it; niceness of that, None for nothing; niceness of the gateway."""


@contextmanager
def busy(niceness: int | None) -> Iterator[None]:
    """One process that never sleeps for each core."""
    count = 0 if niceness is None else len(os.sched_getaffinity(0))
    spin = "x = 0\nwhile True: x += 1"
    command = ["nice", "-n", str(niceness), sys.executable, "-c", spin]
    started = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


@contextmanager
def preferred() -> Iterator[None]:
    """This process before all others, where it may be; what it starts later is as usual."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


def measured(
    name: str, niceness: int | None, own: int, seconds: float, audio: bytes
) -> Sequence[object]:
    """One row of the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        config = folder / "gateway.yaml"
        config.write_text(f"keys: {{{KEY}: {SECRET}}}\n" + other_model())
        command = [
            *(["nice", "-n", str(own)] if own else []),
            *(sys.executable, "-m", "gateway", "serve", "--admin-port=0"),
            *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        ]
        ready = f"http://127.0.0.1:{port}/readyz"
        gateway = stack.enter_context(process(command, ready, log=folder / "gateway.log"))
        stack.enter_context(busy(niceness))
        before = cpu_s(gateway.pid)
        with preferred():
            callers = uvloop.run(load(Caller, port, SESSIONS, seconds, audio))
        delays = [delay for caller in callers for delay in caller.delays]
        return (
            name,
            1000 * (cpu_s(gateway.pid) - before) / max(1, len(delays)),
            1000 * percentile(delays, 0.5),
            1000 * percentile(delays, 0.99),
            1000 * max(delays, default=float("nan")),
            f"{100 * sum(caller.stale for caller in callers) / max(1, len(delays)):.1f}",
            sum(len(caller.sent) for caller in callers),
        )


def main(*, quick: bool = False) -> None:
    """Print the table."""
    audio, seconds = noise(), 4.0 if quick else 20.0
    rows = [measured(*case, seconds, audio) for case in CASES]
    table(
        f"bargein: {SESSIONS} WebSocket sessions beside other work, nothing pinned, "
        f"{len(os.sched_getaffinity(0))} cores",
        ("beside", "CPU ms/window", "p50 ms", "p99 ms", "max ms", "stale %", "unanswered"),
        rows,
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
