"""Real Redis and PostgreSQL for the tests, each on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import Port
from tests.skips import in_ci

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05

PACKAGES = {
    "redis-server": "redis-server",
    "pg_ctl": "postgresql",
    "initdb": "postgresql",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "nginx": "nginx",
    "caddy": "caddy",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "curl": "curl",
    "systemd-analyze": "systemd",
    "chromium": "chromium",
    "bash": "bash",
}
"""Where Debian has each program."""


def needed(program: str) -> str:
    """The path of `program`. Where it is missing the test is skipped; in CI it fails."""
    found = shutil.which(program)
    if found is None:
        beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        found = str(beside[-1]) if beside else None
    if found is None:
        said = f"{program} is not installed (Debian: apt install {PACKAGES[program]})"
        if in_ci():
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return found


class Redis:
    """A Redis server that can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = needed("redis-server")
        self._port = Port()
        self.port = self._port.number
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [self._program, *arguments, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        wait_until(lambda: _listens(self.port))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def hang(self) -> None:
        """Answer nothing, with every connection open, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def clients(self, *, read_only: bool) -> int:
        """Make it another's replica, as at a failover, or the first again. How many clients it
        has."""
        import redis

        with redis.Redis.from_url(self.url) as own:
            own.replicaof(*(("127.0.0.1", "1") if read_only else ("NO", "ONE")))
            return len(own.client_list()) - 1

    def close(self) -> None:
        self.go_on()
        self.stop()
        self._port.release()


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """A running Redis server."""
    server = Redis(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


class Postgres:
    """A PostgreSQL cluster of its own, that can be stopped and started again."""

    def __init__(self) -> None:
        # not under pytest's folder, which only its owner may enter
        self.folder = Path(tempfile.mkdtemp(prefix="parley-postgres-"))
        self._data = self.folder / "data"
        self._control = needed("pg_ctl")
        self._port = Port()
        self.port = self._port.number
        self.url = f"postgresql://parley@127.0.0.1:{self.port}/postgres"
        # it refuses to run as root
        self._user = "postgres" if os.geteuid() == 0 else None
        self._data.mkdir()
        if self._user is not None:
            shutil.chown(self._data, self._user)
            self.folder.chmod(0o711)
        self._run(needed("initdb"), "-D", str(self._data), "-U", "parley", "-A", "trust", "-N")

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k '' -F"
        log = str(self._data / "log")
        self._run(self._control, "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run(self._control, "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def hang(self) -> None:
        """Answer nothing, with every connection open, until `go_on`."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """Its first process, and those that serve its connections."""
        try:
            first = int((self._data / "postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{first}/task/{first}/children").read_text()
        except FileNotFoundError:  # it does not run
            return []
        return [first, *map(int, children.split())]

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._port.release()

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            user=self._user,
            cwd="/",
            stdout=subprocess.PIPE if "start" not in command else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT_S,
        )
        if done.returncode:
            sys.stderr.write((done.stdout or b"").decode())
            raise RuntimeError(f"{command[0]} failed with status {done.returncode}")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL server with an empty database."""
    server = Postgres()
    try:
        server.start()
        yield server
        server.go_on()
        server.stop()
    finally:
        server.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
