"""Python environments that tests make once and keep.

They lie under `PARLEY_CACHE` (default `~/.cache/parley`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

INSTALL_TIMEOUT_S = 1800


class InstallError(Exception):
    """A command failed; carries what it wrote."""


def cache() -> Path:
    """The folder of all environments."""
    return Path(os.environ.get("PARLEY_CACHE") or "~/.cache/parley").expanduser()


def ensure(folder: Path, install: Callable[[Path], None]) -> None:
    """Have `install` fill the empty `folder` unless that was done before.

    Several processes may ask at once: one installs, the others wait for it.
    """
    ready = folder / "installed"
    if ready.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.parent / f"{folder.name}.lock"):
        if ready.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        install(folder)
        ready.touch()


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command of an installation to its end, by default with our environment variables."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(str(part) for part in command)
        raise InstallError(
            f"{words}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process is in here with the same file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
