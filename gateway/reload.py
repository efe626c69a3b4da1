"""A new configuration for a server that runs: read, checked, and taken whole or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gateway.config import Config, ConfigError, Loaded
from gateway.server.certificates import expires_at
from gateway.server.reload_route import Reloaded
from gateway.telemetry.changes import NAMED, ChangeLog, difference, listed
from gateway.telemetry.metrics import Metrics

_logger = logging.getLogger(__name__)

NEEDS_RESTART: Final = (
    "server.host",
    "server.port",
    "server.workers",
    "server.admin_host",
    "server.admin_port",
    "server.tls",
    "page",
    "traces",
    "bargein.model",
    "bargein.threads",
    "bargein.batch",
    "bargein.own_voice",
    "eot",
    "quota.redis_url",
    "quota.prefix",
    "usage",
)
"""What is opened or loaded once: ports, stores, models inside this server. For `server.tls` only
whether there is any: certificates are read anew, from wherever they are then."""


class Reloader:
    """Reloads on request, one after the other.

    `read` gives the configuration as it is now, or raises ConfigError. `use` has it served: it
    fails with an exception before anything is changed.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Loaded],
        use: Callable[[Config], Awaitable[None]],
        metrics: Metrics,
        kept: ChangeLog | None = None,
    ) -> None:
        """`kept`: where it is noted who changed what."""
        self.config = config
        self._read = read
        self._use = use
        self._metrics = metrics
        self._kept = kept
        self._lock = asyncio.Lock()
        self._tell_taken()

    def _tell_taken(self) -> None:
        self._metrics.config_taken.set(time.time())
        certificate = self.config.server.tls.certificate
        expires = expires_at(certificate) if certificate is not None else None
        self._metrics.certificate.set(expires or 0.0)

    async def reload(self, by: str) -> Reloaded:
        """Serve by the configuration as it is now, or say why not."""
        async with self._lock:
            told = await self._reload()
            self._metrics.reloads.labels("applied" if told.applied else "refused").inc()
            if told.applied:
                self._tell_taken()
                _logger.info("the configuration was read again", extra={"by": by, **told.changes})
            else:
                _logger.error(
                    "the configuration was not taken: it has mistakes, and nothing was changed",
                    extra={"by": by, "mistakes": listed(told.mistakes)},
                )
            if self._kept is not None:
                await asyncio.to_thread(self._keep, self._kept, by, told)
            for warning in told.warnings:
                _logger.warning("configuration", extra={"warning": warning})
            if told.needs_restart:
                _logger.warning(
                    "changes that need a restart", extra={"options": listed(told.needs_restart)}
                )
            return told

    def _keep(self, kept: ChangeLog, by: str, told: Reloaded) -> None:
        waits = {"waits_for_restart": listed(told.needs_restart)} if told.needs_restart else {}
        kept.note("applied" if told.applied else "refused", by, {**told.changes, **waits})
        if told.applied:
            kept.remember(options(self.config))

    async def _reload(self) -> Reloaded:
        try:
            loaded = await asyncio.to_thread(self._read)
        except ConfigError as error:
            return Reloaded(applied=False, mistakes=tuple(error.mistakes))
        new, needs_restart = keep(self.config, loaded.config)
        try:
            await self._use(new)
        except Exception:
            _logger.exception("internal error")
            return Reloaded(applied=False, mistakes=("internal error: see the log",))
        told = changes(self.config, new)
        self.config = new
        return Reloaded(True, (), loaded.warnings, needs_restart, told)


def keep(running: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """`new`, but with what needs a restart as it is in `running`; and which options those are."""
    changed = []
    for option in NEEDS_RESTART:
        section, _, name = option.partition(".")
        old, now = (_at(one, option) for one in (running, new))
        if option == "server.tls":
            if (old.certificate is None) == (now.certificate is None):
                continue
        elif old == now:
            continue
        changed.append(option)
        if name:
            update = {name: old}
            old = getattr(new, section).model_copy(update=update)
        new = new.model_copy(update={section: old})
    return new, tuple(changed)


def changes(old: Config, new: Config) -> dict[str, str]:
    """What is different, by names alone: no value, which may be a secret."""
    return difference(options(old), options(new))


def options(config: Config) -> dict[str, str]:
    """Every option that is not at its default, by its name, and its value as text, secrets among
    them: "limits.sessions", "quota.keys.APIx.day.cost"; a key or a provider is one option."""
    found: dict[str, str] = {}
    for section in type(config).model_fields:
        value = getattr(config, section)
        if section in NAMED:
            found |= {f"{section}.{name}": _text(one) for name, one in value.items()}
        else:
            _flatten(section, value, found)
    return found


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, BaseModel):
        for field, about in type(value).model_fields.items():
            inner = getattr(value, field)
            if inner != about.get_default(call_default_factory=True, validated_data={}):
                _flatten(f"{name}.{field}", inner, found)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, found)
    else:
        found[name] = _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, default=_plain, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value)


def _at(config: Config, option: str) -> Any:
    found: Any = config
    for name in option.split("."):
        found = getattr(found, name)
    return found
