"""`gateway top`: what the page /ui shows, live in a terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from gateway.cli.operator import NO_PORT, NoServerError, RefusedError, ask, operator_url
from gateway.cli.top_view import Line, frame, painted
from gateway.config import load

EXIT_DONE, EXIT_NO_SERVER, EXIT_WRONG = 0, 1, 2

ANSWER_S: Final = 5.0
"""How long the server may take."""

EVERY_S_MIN: Final = 0.5
"""The server is asked no more often."""

TOKEN_VARIABLE: Final = "GATEWAY_PAGE_TOKEN"  # noqa: S105 - the name of a variable
"""Has the page's token where the configuration does not: of a server elsewhere. Never an argument:
those are seen by every user of a machine."""

PATH: Final = "/ui/api/now"

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the other screen of a terminal, without a cursor, and back."""

_HOME, _LINE_END, _REST = "\x1b[H", "\x1b[K\n", "\x1b[K\x1b[J"
"""To the upper left corner; the rest of a line is empty, and so is that of the screen."""

_LEAVES: Final = frozenset(b"qQ\x03\x04")


@dataclass(frozen=True, slots=True)
class Source:
    """Where it is asked what happens."""

    url: str
    token: str

    def now(self) -> Any:
        """What /ui/api/now tells. Raises NoServerError or RefusedError."""
        return ask(self.url, {"authorization": f"Bearer {self.token}"}, ANSWER_S)


def run(args: argparse.Namespace) -> int:
    """The command; its exit status. Raises ConfigError."""
    config = load(args.config, dev=True)
    base = args.url or operator_url(config.server, args.admin_port)
    token = os.environ.get(TOKEN_VARIABLE)
    if not token and config.page.token is not None:
        token = config.page.token.get_secret_value()
    if base is None or not token:
        print(f"{NO_PORT}, or --url" if base is None else _NO_TOKEN, file=sys.stderr)
        return EXIT_WRONG
    filters = {name: getattr(args, name) for name in ("key", "room", "provider")}
    asked = urlencode({name: value for name, value in filters.items() if value})
    source = Source(base.rstrip("/") + PATH + (f"?{asked}" if asked else ""), token)
    try:
        if args.json or args.once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            return _once(source, as_json=args.json)
        return _live(source, max(EVERY_S_MIN, args.every))
    except NoServerError as error:
        print(error, file=sys.stderr)
    except RefusedError as error:
        print(_told(error), file=sys.stderr)
    return EXIT_NO_SERVER


_NO_TOKEN: Final = (
    "what happens is shown to who has the page's token: set page.token in the configuration (16 "
    f"characters or more; the server has to be started again), or ${TOKEN_VARIABLE} for a server "
    "elsewhere"
)


def _told(error: RefusedError) -> str:
    if error.status == 401:
        return f"{error}: this is not its page.token, or wrong ones came too often; try again later"
    if error.status == 404:
        return f"{error}: the page is off there (page.token), or this is not the operator's port"
    return str(error)


def _once(source: Source, *, as_json: bool) -> int:
    now = source.now()
    if as_json:
        print(json.dumps(now))
        return EXIT_DONE
    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    for line in frame(now, width):
        print(_shown(line))
    return EXIT_DONE


def _shown(line: Line) -> str:
    has_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return painted(line) if has_colour else line.text


class _Asker(threading.Thread):
    """Asks now and then, beside the terminal: a server that is slow does not hold up the keys."""

    def __init__(self, source: Source, every_s: float, wake: socket.socket) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._every_s = every_s
        self._wake = wake
        self.stopping = threading.Event()
        self.now: Mapping[str, Any] = {}
        """What was told last."""
        self.note = "asking ..."
        self.refused: RefusedError | None = None

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.now, self.note = self._source.now(), ""
            except NoServerError:
                self.note = "no answer; trying again"
            except RefusedError as error:
                if error.status in (401, 404):
                    self.refused = error
                self.note = f"status {error.status}; trying again"
            with contextlib.suppress(OSError):  # nobody looks any more
                self._wake.send(b".")
            self.stopping.wait(self._every_s)


def _live(source: Source, every_s: float) -> int:
    """Draw until `q`. Raises RefusedError where the token is wrong."""
    with _woken() as (woken, wake), _terminal():
        asker = _Asker(source, every_s, wake)
        asker.start()
        try:
            while asker.refused is None:
                _draw(asker)
                ready, _, _ = select.select((sys.stdin, woken), (), ())
                if woken in ready:
                    woken.recv(4096)
                if sys.stdin in ready:
                    keys = os.read(sys.stdin.fileno(), 4096)
                    if not keys or not _LEAVES.isdisjoint(keys):
                        return EXIT_DONE
        finally:
            asker.stopping.set()
    raise asker.refused


def _draw(asker: _Asker) -> None:
    size = os.get_terminal_size(sys.stdout.fileno())
    lines = frame(asker.now, size.columns, size.lines - 1, asker.note)
    body = _LINE_END.join(_shown(line) for line in lines)
    # one write: half a frame flickers
    sys.stdout.write(f"{_HOME}{body}{_REST}")
    sys.stdout.flush()


@contextlib.contextmanager
def _woken() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of sockets: what is written to the second wakes who waits for the first. A change of
    the terminal's size writes there."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    with woken, wake:
        before = signal.signal(signal.SIGWINCH, lambda number, stack: None)
        told = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            yield woken, wake
        finally:
            signal.set_wakeup_fd(told)
            signal.signal(signal.SIGWINCH, before)


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Keys come one by one and are not shown; the screen is as before at the end, also where the
    process is told to end."""
    import termios  # not on every system that has the other commands
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def leave(number: int, stack: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell's background jobs begin with it ignored
    before_of = {one: signal.signal(one, leave) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        for one, handler in before_of.items():
            signal.signal(one, handler)
