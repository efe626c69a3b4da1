"""Who changed what: a line for each start, each reload and each visit of the page, kept beside the
usage records.

One JSON object a line: `at` (Unix seconds), `what` (start, applied, refused, page), `by`,
`version`, and the names of what is different since the line before. No value of an option, which
may be a secret: what was changed while no server ran is known by a keyed digest of each.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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

STATE_NAME: Final = "changes.state.json"
"""What the options were when they were last taken: {"key": hex, "options": {name: digest}}."""

DIGEST_BYTES: Final = 16

NAMED: Final = ("keys", "providers")
"""Sections whose entries are told apart: added, removed, changed."""

TEXT_CHARS_MAX: Final = 2000
"""Longest list of names."""


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

    def started(self, by: str, options: Mapping[str, str]) -> None:
        """Keep that a server started with these options, and what of them is new since they were
        remembered last; the first time, which keys and providers there are."""
        self.note("start", by, self._since_last(options))
        self.remember(options)

    def remember(self, options: Mapping[str, str]) -> None:
        """These are the options now. Values are not kept, and cannot be told from what is: a
        digest of each, by a key of this file, which this user alone reads."""
        key = secrets.token_bytes(32)
        state = {
            "key": key.hex(),
            "options": {name: _digest(key, text) for name, text in options.items()},
        }
        path = self._path.with_name(STATE_NAME)
        written = path.with_name(f"{STATE_NAME}.{os.getpid()}")
        try:
            written.unlink(missing_ok=True)
            with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(orjson.dumps(state))
            written.replace(path)
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the reason says it all
                "what the configuration is now is not kept", extra={"reason": str(error)}
            )

    def _since_last(self, options: Mapping[str, str]) -> dict[str, str]:
        try:
            state = orjson.loads(self._path.with_name(STATE_NAME).read_bytes())
            key = bytes.fromhex(state["key"])
            before = {str(name): str(digest) for name, digest in state["options"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or no such file
            there = {section: _entries(section, options) for section in NAMED}
            return {section: listed(names) for section, names in there.items() if names}
        return difference(before, {name: _digest(key, text) for name, text in options.items()})


def _entries(section: str, options: Iterable[str]) -> list[str]:
    """Names of the entries of a section among names of options, sorted."""
    begin = f"{section}."
    return sorted(one.removeprefix(begin) for one in options if one.startswith(begin))


def _digest(key: bytes, text: str) -> str:
    return hashlib.blake2b(text.encode(), key=key, digest_size=DIGEST_BYTES).hexdigest()


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What is different between options by their names ("keys.APIx", "limits.sessions"), as lists
    of names: `keys_added`, `keys_removed`, `keys_changed`, the same of providers, `options`."""
    changed = {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}
    found: dict[str, str] = {}
    for section in NAMED:
        entries = {one for one in changed if one.startswith(f"{section}.")}
        changed -= entries
        for what, names in (
            ("added", entries - before.keys()),
            ("removed", entries - now.keys()),
            ("changed", entries & before.keys() & now.keys()),
        ):
            if names:
                found[f"{section}_{what}"] = listed(_entries(section, names))
    if changed:
        found["options"] = listed(sorted(changed))
    return found


def listed(names: Iterable[str]) -> str:
    """Names for a line, TEXT_CHARS_MAX at most."""
    text = "; ".join(names)
    return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "..."


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
