"""The real server as a process of its own, on a loopback port."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from tests.ports import Port

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.05
OPERATORS = ("/metrics", "/healthz", "/readyz")
"""Routes of the operator's port."""
QUICK = {"drain_delay_s": 0}
"""Options of `server` where a test says nothing: no load balancer has to notice anything."""
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


class ServerError(Exception):
    """The server did not start or stop as it should; carries its log."""


@dataclass
class Server:
    """A running gateway."""

    port: int
    api_key: str
    api_secret: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    admin_url: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def agent_environment(self, path: str = "/v1") -> dict[str, str]:
        """All that an agent must be told."""
        return {
            "LIVEKIT_INFERENCE_URL": self.url + path,
            "LIVEKIT_REMOTE_EOT_URL": self.url + path,
            "LIVEKIT_API_KEY": self.api_key,
            "LIVEKIT_API_SECRET": self.api_secret,
        }

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a plain GET, of the operator's port for the operator's routes."""
        is_operators = path.partition("?")[0] in OPERATORS
        return self.fetch((self.admin_url if is_operators else self.url) + path)

    def fetch(self, url: str) -> tuple[int, str]:
        """Status and body of a plain GET."""
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def logged(self, awaited: str) -> str:
        """The log's whole lines, once this stands in them: a thread writes it, some lines at a
        time."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while awaited not in (text := self.log.read_text().rpartition("\n")[0]):
            if time.monotonic() > deadline:
                raise ServerError(f"{awaited!r} did not come:\n{text[-8000:]}")
            time.sleep(POLL_S)
        return text

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            has_labels = all(f'{key}="{wanted}"' in sample for key, wanted in labels.items())
            if sample.partition("{")[0] == name and has_labels:
                total += float(value)
        return total


@contextmanager
def running(
    folder: Path,
    config: str | None = None,
    environment: Mapping[str, str] | None = None,
    pair: tuple[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """Start with a configuration (YAML) or with environment variables alone; stop at the end.

    `keys:` is added to the configuration; without one the pair stands in the environment. Models
    that were fetched are not there, unless `environment` names a PARLEY_CACHE. `pair`: API key and
    secret, where several servers share them. `prefix`: a program, with its arguments, that runs the
    server.
    """
    api_key, api_secret = pair or ("APItest" + secrets.token_hex(4), secrets.token_hex(24))
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    variables = {**kept, "PARLEY_CACHE": str(folder / "cache"), **(environment or {})}
    command = [*prefix, sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1"]
    command += ["--admin-port", "0"]
    if config is None:
        variables |= {"LIVEKIT_API_KEY": api_key, "LIVEKIT_API_SECRET": api_secret}
    else:
        written = folder / "gateway.yaml"
        written.write_text(yaml.safe_dump(_completed(config, {api_key: api_secret})))
        command += ["--config", str(written)]
    log = folder / "gateway.log"
    with Port() as port, log.open("wb") as output:
        process = _started([*command, "--port", str(port.number)], variables, output)
        server = Server(port.number, api_key, api_secret, log, process)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            _stop(server)


def _completed(config: str, keys: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load(config) or {}
    server = QUICK | (given.get("server") or {})
    return {**given, "keys": dict(keys), "server": server}


def _started(
    command: list[str], variables: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(f"the server ended:\n{server.log.read_text()[-8000:]}")
        found = re.search(r'admin_address"?[:=] ?"?(http://[^\s",]+)', server.log.read_text())
        server.admin_url = found[1] if found else ""
        try:
            if server.admin_url and server.get("/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise ServerError(f"the server was not ready in time:\n{server.log.read_text()[-8000:]}")


def _stop(server: Server) -> None:
    process = server.process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(f"no end after SIGTERM:\n{server.log.read_text()[-8000:]}") from None
