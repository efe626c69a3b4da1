"""Which cascades there are: those that are configured, and that of this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.routing.stand_in import StandIns
from gateway.settings.cascades import CascadeConfig
from gateway.upstreams.provider import Account, Modality

BEGINNING: Final = "cascade/"
"""How the names begin that callers ask for."""

LOCAL: Final = "local/cascade"
"""The cascade of the engines on this machine, where there is one of each kind."""


_PARTS: Final[tuple[Modality, ...]] = ("stt", "chat", "tts")


def served(
    configured: Mapping[str, CascadeConfig], accounts: Iterable[Account]
) -> Mapping[str, CascadeConfig]:
    """Every cascade by the name that callers ask for, sorted."""
    found = {f"{BEGINNING}{name}": cascade for name, cascade in configured.items()}
    accounts = tuple(accounts)
    stt, chat, tts = (_engine(accounts, modality) for modality in _PARTS)
    if stt is not None and chat is not None and tts is not None:
        found[LOCAL] = CascadeConfig(stt=stt, chat=chat, tts=tts)
    return dict(sorted(found.items()))


def _engine(accounts: Iterable[Account], modality: Modality) -> str | None:
    """The name of the local model that can serve now."""
    attempt = StandIns(accounts, modality).attempt
    return None if attempt is None else attempt.stand_in
