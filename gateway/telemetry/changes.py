"""Who changed what: a line for each start and each reload, kept beside the usage records.

One JSON object a line: `at` (Unix seconds), `what` (start, applied, refused), `by`, `version`, and
the names of what is different. No value of an option, which may be a secret.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway import __version__
from gateway.settings.usage import UsageConfig
from gateway.telemetry.usage.store import state_folder

_logger = logging.getLogger(__name__)

BYTES_MAX: Final = 4 << 20
"""A longer file becomes FILE.1, in place of the one before it."""

NAME: Final = "changes.jsonl"


def changes_file(usage: UsageConfig) -> Path:
    """Where they are kept: beside the spill file."""
    return (Path(usage.spill).parent if usage.spill else state_folder()) / NAME


def user() -> str:
    """Who runs this process, behind sudo too."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            name = str(os.getuid())
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", name)[:64]


class ChangeLog:
    """Appends lines. A disk that takes none is told in the log, and stops nothing."""

    def __init__(self, path: Path, wall_clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall_clock = wall_clock

    def note(self, what: str, by: str, changes: Mapping[str, str]) -> None:
        """Keep one."""
        line = orjson.dumps(
            {"at": self._wall_clock(), "what": what, "by": by, "version": __version__, **changes}
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > BYTES_MAX:
                self._path.replace(_older(self._path))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the reason says it all
                "a change is not kept", extra={"what": what, "reason": str(error)}
            )


def read_changes(path: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """What is kept from a Unix time on, the oldest first. Raises OSError."""
    for file in (_older(path), path):
        if not file.exists():
            continue
        for line in file.read_bytes().splitlines():
            try:
                told = orjson.loads(line)
            except orjson.JSONDecodeError:  # a line that was written half
                continue
            if isinstance(told, dict) and told.get("at", 0) >= since:
                yield told


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
