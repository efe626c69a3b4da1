"""The outcome of a speech-to-text session, for logs and metrics. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.upstreams.errors import Failure


@dataclass(slots=True)
class Try:
    """One connection; `failure` is None while it runs and if it ended well. `hedge`: it was opened
    beside a doubted one; `lost`: that one spoke first, or none did."""

    provider: str
    model: str
    began: float
    ready: float | None = None
    failure: Failure | None = None
    hedge: bool = False
    lost: bool = False


@dataclass(slots=True)
class Report:
    """Filled while the session runs. Times are of the session's clock."""

    tries: list[Try] = field(default_factory=list)
    audio_s: float = 0.0
    finals: int = 0
    failovers: int = 0
    failure: Failure | None = None
    left: bool = False
    model: str | None = None


TRIES_MAX: Final = 200
"""Connections listed in a report; later ones are left out."""
