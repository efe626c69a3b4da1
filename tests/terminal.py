"""A program on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0

_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z])")


class Terminal:
    """What a program writes, and the keys that it is sent."""

    def __init__(self, process: subprocess.Popen[bytes], file: int) -> None:
        self.process = process
        self._file = file
        self.raw = ""
        """All that was written."""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._file, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a window does."""
        _set_size(self._file, columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def until(self, awaited: str, since: int = 0) -> str:
        """The raw output, once `awaited` stands in it behind `since`."""
        deadline = time.monotonic() + PATIENCE_S
        while awaited not in self.raw[since:]:
            if time.monotonic() > deadline or not self._read(0.5):
                raise AssertionError(f"{awaited!r} did not come:\n{self.raw[-4000:]}")
        return self.raw

    def end(self) -> int:
        """Read to the end: the exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(0.5):
            assert time.monotonic() < deadline, f"it goes on:\n{self.raw[-4000:]}"
        return self.process.wait(PATIENCE_S)

    def _read(self, wait_s: float) -> bool:
        """Read what is there; False at the end."""
        ready, _, _ = select.select((self._file,), (), (), wait_s)
        if ready:
            try:
                told = os.read(self._file, 65536)
            except OSError:  # the program has ended
                return False
            self.raw += told.decode("utf-8", "replace")
        return True


def frames(raw: str) -> list[list[str]]:
    """The lines of each frame that begins in the upper left corner, without styles."""
    return [_SEQUENCE.sub("", one).split("\r\n") for one in raw.split("\x1b[H")[1:]]


@contextmanager
def terminal(
    command: Sequence[str],
    columns: int = 80,
    rows: int = 24,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Terminal]:
    """Start a program on a terminal of this size; it is killed at the end."""
    ours, its = pty.openpty()
    _set_size(its, columns, rows)
    process = subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=folder,
        env=None if environment is None else dict(environment),
        start_new_session=True,
        preexec_fn=_own,
    )
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


def _own() -> None:
    """The terminal is the one that this process is controlled by."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(file: int, columns: int, rows: int) -> None:
    fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
