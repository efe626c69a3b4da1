"""What the benchmarks share: processes and what they cost, tables, percentiles."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system) that the process and its threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def running_s(pid: int) -> float:
    """As `cpu_s`, to the nanosecond, of the threads that live now."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def rss_mb(pid: int) -> float:
    """Resident memory of the process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie; nan of nothing."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; floats with three significant digits."""

    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(columns)] + [[text(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for n, row in enumerate(cells):
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join([first, *others]))
        if n == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def other_model() -> str:
    """The line of configuration for another interruption model, where PARLEY_TEST_BARGEIN_MODEL
    names one."""
    path = os.environ.get("PARLEY_TEST_BARGEIN_MODEL")
    return f"bargein: {{model: '{path}'}}\n" if path else ""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: Sequence[str],
    ready_url: str | None = None,
    environment: dict[str, str] | None = None,
    core: int | None = None,
    ready_s: float = 120,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end; waits until `ready_url` answers 200. `core` pins it."""
    output = log.open("wb") if log else subprocess.DEVNULL
    pinned = ["taskset", "-c", str(core), *command] if core is not None else command
    started = subprocess.Popen(
        pinned, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=output, stderr=output
    )
    try:
        if ready_url is not None:
            _wait(started, ready_url, ready_s)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _wait(started: subprocess.Popen[bytes], url: str, ready_s: float) -> None:
    deadline = time.monotonic() + ready_s
    while time.monotonic() < deadline:
        if started.poll() is not None:
            raise RuntimeError(f"{started.args!r} ended with {started.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer in {ready_s} s")
