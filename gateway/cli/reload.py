"""`gateway reload`: asks the running server to read its configuration again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Final

from gateway.cli.operator import NO_PORT, NoServerError, RefusedError, ask, operator_url
from gateway.config import load
from gateway.server.reload_route import HEADER, PATH
from gateway.telemetry.changes import changes_file, read_changes, user

EXIT_TAKEN, EXIT_NO_SERVER, EXIT_WRONG = 0, 1, 2

ANSWER_S: Final = 30.0
"""How long the server may take: its workers have 10 s, one after the other."""


def run(args: argparse.Namespace) -> int:
    """The command; its exit status. Raises ConfigError where the file has mistakes: then the
    server need not be asked."""
    url = operator_url(load(args.config, dev=True).server, args.admin_port)
    if url is None:
        print(f"{NO_PORT}, or send it SIGHUP", file=sys.stderr)
        return EXIT_NO_SERVER
    try:
        told = ask(f"{url}{PATH}", {HEADER: user()}, ANSWER_S, b"")
    except NoServerError as error:
        print(error, file=sys.stderr)
        return EXIT_NO_SERVER
    except RefusedError as error:
        if error.status != 422 or error.body is None:
            print(error, file=sys.stderr)
            return EXIT_NO_SERVER
        told = error.body
    return _show(told)


def changes(args: argparse.Namespace) -> int:
    """`gateway changes`; its exit status."""
    from gateway.telemetry.usage.report import duration_s

    try:
        since_s = duration_s(args.since)
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    path = changes_file(load(args.config, dev=True).usage)
    try:
        for told in read_changes(path, time.time() - since_s):
            if args.json:
                print(json.dumps(told))
                continue
            at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(told.pop("at")))
            what, by = (str(told.pop(name, "")) for name in ("what", "by"))
            rest = ", ".join(f"{name.replace('_', ' ')}: {names}" for name, names in told.items())
            print(f"{at}  {what:8} {by:30} {rest}")
    except OSError as error:
        print(f"{path} cannot be read: {error.strerror}", file=sys.stderr)
        return EXIT_NO_SERVER
    return EXIT_TAKEN


def _show(told: dict[str, Any]) -> int:
    for warning in told["warnings"]:
        print(f"warning: {warning}")
    if not told["applied"]:
        print("the configuration has mistakes, and nothing was changed:", file=sys.stderr)
        for mistake in told["mistakes"]:
            print(f"  {mistake}", file=sys.stderr)
        return EXIT_WRONG
    for what, names in told["changes"].items():
        print(f"{what.replace('_', ' ')}: {names}")
    for option in told["needs_restart"]:
        print(f"{option}: has changed, and stays as it was until a restart")
    print("taken: new requests and sessions are served by it")
    return EXIT_TAKEN
