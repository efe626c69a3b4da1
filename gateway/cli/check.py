"""`gateway check`: whether all that the configuration names is there and can serve."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from gateway.config import Config, ConfigError, load_with_warnings
from gateway.settings.urls import shown
from gateway.upstreams.listing import named_models
from gateway.upstreams.plan import Plan
from gateway.upstreams.provider import Account, Modality, find

EXIT_READY, EXIT_NOT_READY, EXIT_WRONG = 0, 1, 2

STORE_S: Final = 4.0
"""How long a store (SQLite, PostgreSQL, Redis) may take to take a write."""

State = Literal["ok", "note", "failed", "not tried"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `failed` means that something cannot serve."""

    name: str
    state: State
    detail: str


@dataclass(slots=True)
class Outcome:
    """All that was found."""

    findings: list[Finding] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    providers: list[dict[str, str]] = field(default_factory=list)
    credentials: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, state: State, detail: str) -> None:
        self.findings.append(Finding(name, state, detail))

    @property
    def ready(self) -> bool:
        return not any(one.state == "failed" for one in self.findings) and not any(
            one["state"] == "failed" for one in self.credentials
        )


def run(args: argparse.Namespace) -> int:
    """The command; its exit status."""
    try:
        loaded = load_with_warnings(args.config)
    except ConfigError as error:
        if not args.json:
            raise
        _print_json({"ready": False, "mistakes": error.mistakes})
        return EXIT_WRONG
    outcome = look(loaded.config, live=args.live)
    outcome.warnings += loaded.warnings
    if args.json:
        _print_json(
            {
                "ready": outcome.ready,
                "warnings": outcome.warnings,
                "checks": [asdict(one) for one in outcome.findings],
                "providers": outcome.providers,
                "models": outcome.models,
                "credentials": outcome.credentials if args.live else None,
            }
        )
    else:
        _print(outcome, live=args.live)
    return EXIT_READY if outcome.ready else EXIT_NOT_READY


def look(config: Config, *, live: bool, store_s: float = STORE_S) -> Outcome:
    """Look at everything; `live` also tries every provider's credentials."""
    outcome = Outcome()
    if config.keys:
        outcome.add("keys", "ok", ", ".join(config.keys))
    else:
        outcome.add("keys", "failed", "none (gateway keys new makes a pair)")
    _server(config, outcome)
    _bargein(config, outcome)
    _eot(config, outcome)
    asyncio.run(_stores(config, outcome, store_s))
    _standby(config, outcome)
    _engines(config, outcome)
    for name, account in config.accounts().items():
        outcome.providers.append(
            {
                "name": name,
                "type": account.type,
                "base_url": shown(account.base_url),
                "region": account.settings.region or "",
            }
        )
    outcome.models = models(config)
    _prices(config, outcome)
    if live:
        outcome.credentials = asyncio.run(_credentials(config))
    return outcome


def models(config: Config) -> list[dict[str, Any]]:
    """Every name that can be asked for, by modality, with its deployments in order. One that ends
    in `*` has an example; one that its vendor has ended has none, and says so."""
    from gateway.routing import cascades
    from gateway.routing.catalogue import Catalogue

    found = []
    accounts = config.accounts()
    for modality in get_args(Modality):
        catalogue = Catalogue(config.models, accounts, modality, successors=config.successors)
        named = catalogue.names()
        for name, plan in {**named, **catalogue.patterns()}.items():
            entry: dict[str, Any] = {
                "modality": modality,
                "name": name,
                "deployments": [{"provider": a.provider, "model": a.model} for a in plan],
            }
            if name.endswith("*"):
                entry["example"] = _example(name, plan, accounts, modality)
            found.append(entry)
        for name, ended in catalogue.ended().items():
            found.append(
                {
                    "modality": modality,
                    "name": name,
                    "deployments": [],
                    "ended": ended.day.isoformat() if ended.day else "",
                    "successor": ended.successor,
                    "source": ended.source,
                }
            )
    for name, cascade in cascades.served(config.cascades, accounts.values()).items():
        parts = (("stt", cascade.stt), ("chat", cascade.chat), ("tts", cascade.tts))
        found.append(
            {
                "modality": "realtime",
                "name": name,
                "deployments": [],
                "parts": dict(parts),
            }
        )
    return found


def _example(pattern: str, plan: Plan, accounts: Mapping[str, Account], modality: Modality) -> str:
    """A name that a pattern stands for: with a model that is known there, if one is."""
    for attempt in plan:
        known = named_models(accounts[attempt.provider], modality)
        if known and attempt.model == "*":
            return pattern[:-1] + known[0]
    return f"{pattern[:-1]}NAME"


def model_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """The models as people read them."""
    for one in found:
        plan = ", then ".join(f"{d['provider']} ({d['model']})" for d in one["deployments"])
        if "parts" in one:
            plan = ", ".join(one["parts"].values())
        example = f", for example {one['example']}" if "example" in one else ""
        if "ended" in one:
            plan = f"not served: ended by its vendor {one['ended']}".rstrip()
            if one["successor"]:
                plan += f"; `successors: true` serves {one['successor']} in its place"
        yield f"  {one['modality']:8}  {one['name']:40} {plan}{example}"
    if not found:
        yield "  none: set a provider's key (for example OPENAI_API_KEY), or list providers"


def _server(config: Config, outcome: Outcome) -> None:
    from gateway.serve import TlsError, check_tls

    server = config.server
    _host("server.host", server.host, outcome)
    if server.admin_port is not None:
        _host("server.admin_host", server.admin_host, outcome)
    try:
        check_tls(server.tls)
    except TlsError as error:
        outcome.add("tls", "failed", str(error))
    else:
        if server.tls.certificate is not None:
            outcome.add("tls", "ok", str(server.tls.certificate))


def _host(option: str, host: str, outcome: Outcome) -> None:
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        family, kind, _, _, address = addresses[0]
        with socket.socket(family, kind) as probe:
            probe.bind((address[0], 0))
    except OSError as error:
        outcome.add(option, "failed", f"cannot listen on {host!r}: {error.strerror}")


def _standby(config: Config, outcome: Outcome) -> None:
    """Whom `stt.standby` keeps connected, for whom, and what keeps the line alive."""
    from gateway.routing.catalogue import Catalogue
    from gateway.upstreams.errors import Failure

    standby, accounts = config.stt.standby, config.accounts()
    if standby.model is None:
        return
    plan = Catalogue(config.models, accounts, "stt").plan(standby.model)
    if isinstance(plan, Failure) or not plan:
        outcome.add("stt.standby", "note", f"none is kept: nothing serves {standby.model}")
        return
    offer = find(accounts[plan[0].provider].type).stt
    assert offer is not None
    traits = offer.adapter(accounts[plan[0].provider]).recognizer(plan[0], 16_000).traits
    if traits.keepalive_s is None:
        kept = "nothing keeps its line alive: it is opened anew when the provider closes it"
    elif traits.keepalive_by == "silence":
        kept = f"kept alive by silence every {traits.keepalive_s:g} s, which is audio"
    else:
        kept = f"kept alive by a message every {traits.keepalive_s:g} s"
    chosen = [*standby.keys, *standby.models]
    whom = f"sessions of {', '.join(chosen)}" if chosen else "every session"
    at_most = f"at most {standby.connections_max} at once in a process"
    outcome.add("stt.standby", "ok", f"{standby.model} for {whom}, {at_most}; {kept}")


def _bargein(config: Config, outcome: Outcome) -> None:
    from gateway.engines.interruption.engine import check_versions, load_model
    from gateway.engines.interruption.learning import learn_folder
    from gateway.engines.types import ModelError

    try:
        card = load_model(config.bargein).card
    except ModelError as error:
        outcome.add("bargein", "failed", str(error))
        return
    detail = f"{card.name} {card.version}, threshold {card.default_threshold:g}"
    outcome.add("bargein", "ok", detail)
    try:
        check_versions(config.bargein)
    except ModelError as error:
        outcome.add("bargein.models", "failed", str(error))
    if config.bargein.learn.is_on:
        _folder("bargein.learn.folder", learn_folder(config.bargein.learn), outcome)


def _eot(config: Config, outcome: Outcome) -> None:
    from gateway.engines.turn_detection.engine import load_model
    from gateway.engines.turn_detection.text import load
    from gateway.engines.types import ModelError
    from gateway.upstreams.errors import Failure

    try:
        model = load_model(config.eot)
    except ModelError as error:
        outcome.add("eot", "failed", str(error))
    else:
        if isinstance(model, Failure):
            outcome.add("eot", "note", f"not served: {model.message}")
        else:
            card = model.card
            detail = f"{card.name} {card.version}, threshold {card.default_threshold:g}"
            outcome.add("eot", "ok", detail)
    try:
        text = load(config.eot.text)
    except ModelError as error:
        outcome.add("eot/multi", "failed", str(error))
    else:
        name = text.name if text is not None else "no text model (eot.text.model)"
        outcome.add("eot/multi", "note" if text is None else "ok", name)


def _engines(config: Config, outcome: Outcome) -> None:
    """What the engines on this machine lack."""
    for name, account in config.accounts().items():
        lacks = find(account.type).lacks
        for option, what in lacks(account.settings) if lacks is not None else ():
            if option:
                outcome.add(f"providers.{name}.{option}", "failed", what)
            else:
                outcome.add(name, "note", what)


UNPRICED_SHOWN_MAX: Final = 12
"""Models without a price that are named; of more their number is told."""


def _prices(config: Config, outcome: Outcome) -> None:
    """Models that cost nothing as far as budgets and bills know."""
    from gateway.routing.catalogue import Catalogue
    from gateway.telemetry.price_list import AS_OF
    from gateway.telemetry.prices import prices_in

    accounts = config.accounts()
    prices = prices_in(config.usage, config.prices, accounts)
    unpriced = {
        f"{attempt.provider}:{attempt.model}": None
        for modality in get_args(Modality)
        for plan in Catalogue(config.models, accounts, modality).names().values()
        for attempt in plan
        # what runs here costs what the machine does
        if find(accounts[attempt.provider].type).available is None
        and prices.of_attempt(attempt) is None
    }
    if not unpriced:
        return
    named = ", ".join(list(unpriced)[:UNPRICED_SHOWN_MAX])
    more = len(unpriced) - UNPRICED_SHOWN_MAX
    detail = f"{named}{f' and {more} more' if more > 0 else ''}: no price, so they cost nothing in "
    detail += f"usage, credits and budgets; give one in `prices` (the shipped list is of {AS_OF}"
    if config.usage.currency != "USD":
        detail += ", in USD, and not used with another currency"
    outcome.add("prices", "note", f"{detail})")


async def _stores(config: Config, outcome: Outcome, store_s: float) -> None:
    if config.usage.enabled:
        await _usage(config, outcome, store_s)
    elif config.quota.keys or config.quota.tenants or config.quota.models:
        text = "usage.enabled is false: balances and budgets are forgotten at each start"
        outcome.add("quota", "note", text)
    if config.quota.redis_url is not None:
        await _redis(config, outcome, store_s)
    cache = config.tts.cache
    if cache.enabled and cache.directory is not None:
        _folder("tts.cache.directory", cache.directory, outcome)


async def _usage(config: Config, outcome: Outcome, store_s: float) -> None:
    from gateway.telemetry.usage.store import StoreError, open_store, state_folder

    url = config.usage.url.get_secret_value() if config.usage.url else ""
    spill = Path(config.usage.spill) if config.usage.spill else state_folder() / "spill"
    if spill.is_dir():
        outcome.add("usage.spill", "failed", f"{spill} is a folder; expected a file")
    else:
        _folder("usage.spill", spill.parent, outcome, quiet=True)
    if url.startswith("postgres"):
        place = shown(url).partition("?")[0]
    else:
        path = url.removeprefix("sqlite:").removeprefix("//")
        file = Path(path) if path else state_folder() / "usage.db"
        place = f"sqlite:{file}"
        if not file.exists():
            # not made here: it would belong to whoever runs this command
            _folder("usage", file.parent, outcome, what=f"{file} will be made")
            return
    started = time.monotonic()
    try:
        async with asyncio.timeout(store_s):
            store = open_store(config.usage)
            try:
                await store.forget(0.0)  # a write that changes nothing
            finally:
                await store.close()
    except TimeoutError:
        outcome.add("usage", "failed", f"{place} does not answer within {store_s:g} s")
    except (StoreError, OSError, ValueError) as error:
        outcome.add("usage", "failed", f"{place} cannot be written: {error}")
    else:
        took_ms = 1000 * (time.monotonic() - started)
        outcome.add("usage", "ok", f"{place} can be written ({took_ms:.0f} ms)")


async def _redis(config: Config, outcome: Outcome, store_s: float) -> None:
    from redis import exceptions
    from redis.asyncio import Redis

    assert config.quota.redis_url is not None
    url = config.quota.redis_url.get_secret_value()
    started = time.monotonic()
    try:
        async with asyncio.timeout(store_s):
            client = Redis.from_url(url.replace("redis+unix://", "unix://", 1))
            try:
                await client.set(f"{config.quota.prefix}/check", "1", ex=1)
            finally:
                await client.aclose()
    except TimeoutError:
        outcome.add("quota", "failed", f"{shown(url)} does not answer within {store_s:g} s")
    except (exceptions.RedisError, OSError, ValueError) as error:
        reason = type(error).__name__ if not str(error) else str(error)
        outcome.add("quota", "failed", f"{shown(url)} cannot be written: {reason}")
    else:
        took_ms = 1000 * (time.monotonic() - started)
        outcome.add("quota", "ok", f"{shown(url)} can be written ({took_ms:.0f} ms)")


def _folder(
    name: str, folder: Path, outcome: Outcome, *, what: str = "", quiet: bool = False
) -> None:
    """Whether files can be made in `folder`, or it itself where it is not there yet."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=there):
                pass
        else:
            with tempfile.TemporaryDirectory(dir=there):
                pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        outcome.add(name, "failed", f"nothing can be written in {folder}: {reason}")
    else:
        if not quiet:
            outcome.add(name, "ok", what or f"files can be made in {folder}")


async def _credentials(config: Config) -> list[dict[str, Any]]:
    from gateway.cli.credentials import try_all
    from gateway.routing.catalogue import Catalogue

    accounts = config.accounts()
    deployments: dict[Modality, list[tuple[str, str]]] = {
        modality: [
            (attempt.provider, attempt.model)
            for name, plan in Catalogue(config.models, accounts, modality).names().items()
            if name in config.models
            for attempt in plan
        ]
        for modality in get_args(Modality)
    }
    return [asdict(trial) for trial in await try_all(accounts.values(), deployments)]


def _print(outcome: Outcome, *, live: bool) -> None:
    for warning in outcome.warnings:
        print(f"warning     {warning}")
    for one in outcome.findings:
        state = "FAILED: " if one.state == "failed" else ""
        print(f"{one.name:11} {state}{one.detail}")
    print(f"providers   {len(outcome.providers)}")
    for provider in outcome.providers:
        region = f", region {provider['region']}" if provider["region"] else ""
        print(f"  {provider['name']:20} {provider['type']:20} {provider['base_url']}{region}")
    print("models")
    for line in model_lines(outcome.models):
        print(line)
    if outcome.providers:
        print("  a further name PROVIDER/MODEL goes to that provider as it is")
    if live:
        print("credentials")
    for trial in outcome.credentials:
        state = "" if trial["state"] == "failed" else f"{trial['state']}: "
        print(f"  {trial['provider']:20} {trial['modality']:8}  {state}{trial['detail']}")
        if trial["unlisted"]:
            print(f"  {'':30}  not in its list: {', '.join(trial['unlisted'])}")
    print("\nready to serve" if outcome.ready else "\nnot ready: see above")


def _print_json(shown: dict[str, Any]) -> None:
    json.dump(shown, sys.stdout, indent=2, default=str)
    sys.stdout.write(os.linesep)
