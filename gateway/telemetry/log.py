"""Structured logs on standard error: one JSON object a line, or lines for people.

Lines are written by a thread of their own: a reader that stops reading must not stop the server.
Secrets are struck out by value, and control characters cannot forge a line.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import re
import sys
import threading
import time
from typing import Any, Final, TextIO

import orjson

from gateway.upstreams.secrets import SECRETS

LINES_MAX: Final = 10_000
"""Lines that wait to be written; further ones are dropped and counted."""

GATHER_S: Final = 0.02
"""Lines of so long are written at once: to wake a thread for each costs as much as to make it."""

END_S: Final = 2.0
"""At the end of the process: how long waiting lines are written."""

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {k: v for k, v in record.__dict__.items() if k not in _STANDARD and v is not None}


def printable(text: str) -> str:
    """`text` on one line: control characters as escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class JsonFormatter(logging.Formatter):
    """{"time", "level", "logger", "message", ...extra fields}."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            text = orjson.dumps(line, default=str).decode()
        except TypeError:  # deeper or larger than can be written
            plain = (str, int, float)
            shown = {name: value for name, value in line.items() if isinstance(value, plain)}
            text = orjson.dumps({name: str(value)[:2000] for name, value in shown.items()}).decode()
        return SECRETS.strike(text)


_FIRST: Final = (
    "error",
    "failures",
    "said",
    "provider",
    "providers",
    "deployment",
    "model",
    "first_token_s",
    "first_audio_s",
    "first_word_s",
    "final_s",
    "cost",
    "key",
    "identity",
    "room_id",
)
"""What a person looks for in the line of a call comes first."""

_SAID: Final = frozenset({"route", "outcome", "duration_s"})
"""Fields of the line of a call that stand at its begin without their names."""


class ConsoleFormatter(logging.Formatter):
    """Time, level, message and the extra fields as name=value. The line of a call begins with how
    it ended and how long it took: `chat ok 1.23s provider=openai ...`."""

    def format(self, record: logging.LogRecord) -> str:
        given = _fields(record)
        fields = ""
        if "outcome" in given and "duration_s" in given:
            fields = f" {given['outcome']} {given['duration_s']:.2f}s"
            first = {name: given[name] for name in _FIRST if name in given}
            given = {k: v for k, v in (first | given).items() if k not in _SAID}
        fields += "".join(f" {name}={_value(value)}" for name, value in given.items())
        line = (
            f"{time.strftime('%H:%M:%S', time.localtime(record.created))}.{int(record.msecs):03d} "
            f"{record.levelname.lower():7} {printable(record.getMessage() + fields)}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return SECRETS.strike(line)


def _value(value: Any) -> str:
    """As text; with quotes where it would not be seen where it ends."""
    text = str(value)
    return f'"{text}"' if " " in text else text


class BackgroundHandler(logging.Handler):
    """Formats where a line is logged, and writes in a thread."""

    def __init__(self, stream: TextIO, lines_max: int = LINES_MAX) -> None:
        super().__init__()
        self.stream = stream
        # no Queue: a signal's handler that logs while its thread is in `put` waits for ever
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._lines_max = lines_max
        self._pid: int | None = None
        self.dropped = 0
        """Lines that found no room since the process began."""
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a line that cannot be formatted must not end who logged it
            self.handleError(record)
            return
        if self._pid != os.getpid():  # also after a fork
            self._pid = os.getpid()
            threading.Thread(target=self._write, name="log", daemon=True).start()
        if self._lines.qsize() < self._lines_max:
            self._lines.put(line)
        else:
            self.dropped += 1

    def _write(self) -> None:
        while True:
            waiting = [self._lines.get()]
            time.sleep(GATHER_S)
            with contextlib.suppress(queue.Empty):
                while len(waiting) < self._lines_max:
                    waiting.append(self._lines.get_nowait())
            lines = [line for line in waiting if isinstance(line, str)]
            if self.dropped > self._told:
                missing, self._told = self.dropped - self._told, self.dropped
                lines.append(f"{missing} log lines were dropped: nobody reads them fast enough")
            try:
                self.stream.write("".join(f"{line}\n" for line in lines))
                self.stream.flush()
            except (OSError, ValueError):  # closed: there is nobody to tell
                pass
            for one in waiting:
                if isinstance(one, threading.Event):
                    one.set()

    def flush(self) -> None:
        """Wait until what waits is written, END_S at most."""
        if self._pid == os.getpid():  # there is a writer
            written = threading.Event()
            self._lines.put(written)
            written.wait(END_S)


def configure(level: str, form: str) -> None:
    """Send all logs to standard error at `level`, as "json" or "console"; from now on, if it was
    otherwise."""
    root = logging.getLogger()
    handler = root.handlers[0] if len(root.handlers) == 1 else None
    if not isinstance(handler, BackgroundHandler) or handler.stream is not sys.stderr:
        handler = BackgroundHandler(sys.stderr)
        atexit.register(handler.flush)
        root.handlers = [handler]
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "websockets"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        # their lines about starts, stops and connections say nothing that ours do not
        logger.setLevel(max(logging.WARNING, root.level))
    logging.getLogger("asyncio").setLevel(logging.WARNING)
