"""The outcome of a speech-to-text session, for logs and metrics. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Deployment


@dataclass(slots=True)
class Try:
    """One connection; `failure` is None while it runs and if it ended well. `hedge`: it was opened
    beside a doubted one; `standby`: it was kept silent; `lost`: it was not needed. `upstream_id`:
    the provider's own name of it, if it told one. `audio_s` was sent, once it is over;
    `replayed_s` was there when it took over from another."""

    provider: str
    model: str
    began: float
    ready: float | None = None
    ended: float | None = None
    failure: Failure | None = None
    hedge: bool = False
    standby: bool = False
    lost: bool = False
    audio_s: float | None = None
    replayed_s: float | None = None
    upstream_id: str | None = None


class Latency(NamedTuple):
    """How long a recogniser took, in seconds. `kind`: "first_word" of an utterance, since speech
    began (seconds of speech), or "final", since speech ended."""

    kind: str
    provider: str
    model: str
    seconds: float


LATENCIES_MAX: Final = 2048
"""Latencies kept of one session: the latest, those of some hours."""

TRIES_MAX: Final = 200
"""Connections listed in a report; later ones are left out."""


@dataclass(slots=True)
class Report:
    """Filled while the session runs. Times are of the session's clock."""

    tries: list[Try] = field(default_factory=list)
    audio_s: float = 0.0
    standby_s: dict[Deployment, float] = field(default_factory=dict)
    latencies: deque[Latency] = field(default_factory=lambda: deque(maxlen=LATENCIES_MAX))
    finals: int = 0
    failovers: int = 0
    ahead: bool = False
    """The client sent faster than recognisers take it, and was not read for a while."""

    failure: Failure | None = None
    left: bool = False
    model: str | None = None
