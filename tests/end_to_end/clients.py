"""Real client packages in environments of their own, made once and kept.

An environment lies under `PARLEY_CACHE` (default `~/.cache/parley`) in a folder named for the hash
of its pinned requirements, so a changed pin makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests import environments
from tests.environments import run

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
DRIVERS = HERE / "drivers"
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
        digest = hashlib.sha256()
        for name in self.requirements:
            digest.update((REQUIREMENTS / name).read_bytes())
        return environments.cache() / f"{self.name}-{digest.hexdigest()[:12]}"

    def command(self, driver: str, arguments: Sequence[str]) -> list[str]:
        if self.kind == "node":
            return ["node", str(DRIVERS / f"{driver}.mjs"), *arguments]
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
        timeout_s: float = 180.0,
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
    node = next(client for client in CLIENTS if client.kind == "node")
    node.ensure()
    events = node.drive("check_messages", kind, environment={}, given="\n".join(messages))
    return [f"{event['message']}: {event['mistakes']}" for event in events if not event["valid"]]


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


def _install_python(folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder)
        run(uv, "pip", "install", "--quiet", "--python", _python(folder), "-r", requirements)
        return
    run(sys.executable, "-m", "venv", folder)
    run(_python(folder), "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements)


def _install_node(folder: Path, requirements: Sequence[str]) -> None:
    if shutil.which("npm") is None:
        raise ClientError("npm was not found; install Node.js 20 or set PARLEY_SKIP_CLIENTS=1")
    for name in requirements:
        shutil.copy(REQUIREMENTS / name, folder)
    run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", cwd=folder)


def main() -> None:
    """Make every environment now, so that a test run need not."""
    for client in CLIENTS:
        client.ensure()
        print(f"{client.name}: {client.folder()}")


if __name__ == "__main__":
    main()
