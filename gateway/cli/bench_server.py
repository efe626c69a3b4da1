"""The processes of `gateway bench`: a server of its own for each configuration that is measured."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config import Config, Loaded
from gateway.server.auth import mint

READY_S: Final = 120.0
"""How long a server may take to start: it loads its models."""

STOP_S: Final = 10.0
"""How long it may take to end; then it is killed."""

LOG_CHARS: Final = 2000
"""So much of its log is shown where it does not start."""

_POLL_S: Final = 0.05


class BenchError(Exception):
    """It could not be measured; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`; `token` opens it."""

    url: str
    token: str
    pid: int

    def cpu_s(self) -> float | None:
        """CPU seconds of its threads so far; None where the system does not tell."""
        try:
            threads = list(Path(f"/proc/{self.pid}/task").iterdir())
            return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
        except (OSError, ValueError, IndexError):
            return None


@contextmanager
def providers() -> Iterator[str]:
    """The providers of gateway/cli/bench_floor.py: "127.0.0.1:PORT". Raises BenchError."""
    process = subprocess.Popen(
        (sys.executable, "-m", "gateway.cli.bench_floor"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{_port(process, 'its own providers did not start')}"
    finally:
        _stop(process)


@contextmanager
def server(config: Config, folder: Path, identity: str) -> Iterator[Running]:
    """A server of a configuration, on a free port of the loopback interface; `folder` is for its
    log. The token is one of the first key. Raises BenchError."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-c", "from gateway.cli.bench_server import work; work()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=_environment(),
        )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps(config))
            process.stdin.close()
        port = _port(process, "its server did not start", log)
        _wait(process, port, log)
        key, secret = next(iter(config.keys.items()))
        token = mint(key, secret.get_secret_value(), identity=identity, ttl_s=3600)
        yield Running(f"http://127.0.0.1:{port}", token, process.pid)
    finally:
        _stop(process)


def work() -> None:
    """The main function of a server: its configuration comes on standard input, its port goes to
    standard output."""
    from gateway.serve import listen, serve
    from gateway.telemetry import log

    config: Config = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started it
    log.configure(config.log.level, config.log.format)
    with listen("127.0.0.1", 0) as sock:
        print(sock.getsockname()[1], flush=True)
        os.dup2(2, 1)
        serve(config, lambda: Loaded(config), sock)


def _environment() -> dict[str, str]:
    """Ours, but no proxy stands between a server and what runs beside it."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    without = f"{known},127.0.0.1".lstrip(",")
    return {**os.environ, "no_proxy": without, "NO_PROXY": without}


def _port(process: subprocess.Popen[bytes], wrong: str, log: Path | None = None) -> int:
    assert process.stdout is not None
    told = process.stdout.readline().strip()
    if not told:
        raise BenchError(f"{wrong}{_end_of(log)}")
    return int(told)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it listens."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=2.0),
        ):
            return
        if process.poll() is not None:
            raise BenchError(f"its server did not start{_end_of(log)}")
        time.sleep(_POLL_S)
    raise BenchError(f"its server was not ready within {READY_S:.0f} s{_end_of(log)}")


def _end_of(log: Path | None) -> str:
    return "" if log is None else f":\n{log.read_text(errors='replace')[-LOG_CHARS:]}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
