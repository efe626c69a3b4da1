"""`gateway reload`: asks the running server to read its configuration again."""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Final

from gateway.config import load
from gateway.server.reload_route import HEADER, PATH
from gateway.settings.server import EVERYWHERE
from gateway.telemetry.changes import changes_file, read_changes, user

EXIT_TAKEN, EXIT_NO_SERVER, EXIT_WRONG = 0, 1, 2

ANSWER_S: Final = 30.0
"""How long the server may take: its workers have 10 s, one after the other."""


def run(args: argparse.Namespace) -> int:
    """The command; its exit status. Raises ConfigError where the file has mistakes: then the
    server need not be asked."""
    server = load(args.config, dev=True).server
    port = args.admin_port if args.admin_port is not None else server.admin_port
    if not port:
        print(
            "the server has no fixed port for the operator (server.admin_port): name the one that "
            "its log says with --admin-port, or send it SIGHUP",
            file=sys.stderr,
        )
        return EXIT_NO_SERVER
    host = server.admin_host
    if host in EVERYWHERE:
        host = "::1" if ":" in host else "127.0.0.1"
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
    request = urllib.request.Request(url, b"", {HEADER: user()}, method="POST")
    # a proxy of the environment's is for the way to providers
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_S) as answer:
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 422:
                print(f"{url} answers with status {error.code}", file=sys.stderr)
                return EXIT_NO_SERVER
            told = json.load(error)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(f"no server answers at {url}: {reason}", file=sys.stderr)
        return EXIT_NO_SERVER
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
