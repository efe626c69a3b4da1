"""What the operator's page shows, gathered from those who know it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.telemetry.outcome import NANO
from gateway.telemetry.usage.store import StoreError
from gateway.telemetry.watch import Wanted, Watch
from gateway.upstreams.provider import Modality

COST_S: Final = 30.0
"""What it costs is asked of the store no more often: other people wait for it too."""

COSTS_SHOWN_MAX: Final = 50
"""Lines of the table of costs."""

MODELS_SHOWN_MAX: Final = 500
"""Names of models of one modality that can be chosen."""

Summary = Callable[[Sequence[str], float], Awaitable[list[tuple[Any, ...]]]]
"""Of the usage store: rows by some dimensions, since a Unix time."""


@dataclass(slots=True)
class Overview:
    """Of one process."""

    watch: Watch
    breaker: Callable[[], Breaker]
    summary: Summary
    columns: Sequence[str]
    """Names of the sums at the end of a row of `summary`."""
    readiness: Callable[[], Mapping[str, Any]]
    catalogues: Callable[[], Mapping[Modality, Catalogue]]
    _costs: dict[str, Any] = field(default_factory=dict)
    _costs_until: float = 0.0

    async def now(self, wanted: Wanted) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "at": time.time(),
            "readiness": self.readiness(),
            "served": self.watch.served,
            **self.watch.calls(wanted),
            "resting": [
                {
                    "provider": one.provider,
                    "model": one.part,
                    "seconds": round(one.seconds, 1),
                    "why": one.why,
                }
                for one in self.breaker().rests(time.monotonic())
                if wanted.provider in one.provider
            ],
            "latencies": self.watch.latencies(wanted),
            "failures": self.watch.failures(wanted),
            "costs": await self._told_costs(),
        }

    def models(self) -> dict[str, Any]:
        """Names that can be tried, by modality."""
        return {
            modality: list(catalogue.names())[:MODELS_SHOWN_MAX]
            for modality, catalogue in self.catalogues().items()
        }

    async def _told_costs(self) -> dict[str, Any]:
        """Sums of today and of this month (UTC), and this month's by key and model."""
        now = time.monotonic()
        if now < self._costs_until:
            return self._costs
        self._costs_until = now + COST_S
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        month = today.replace(day=1)
        by = ("key", "model")
        try:
            rows = await self.summary(by, month.timestamp())
            self._costs = {
                "today": self._sums(await self.summary((), today.timestamp())),
                "month": self._sums(await self.summary((), month.timestamp())),
                "rows": [
                    dict(zip(by, row, strict=False)) | self._sums([row[len(by) :]])
                    for row in rows[:COSTS_SHOWN_MAX]
                ],
            }
        except StoreError as error:
            self._costs = {"error": f"the usage store cannot be read: {error}"}
        return self._costs

    def _sums(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Sums as the page shows them: seconds and the currency in place of whole parts of them."""
        told = dict(zip(self.columns, rows[0], strict=True)) if rows else {}
        return {
            **told,
            "audio_s": (told.get("audio_ms") or 0) / 1000,
            "cost": (told.get("cost_nano") or 0) / NANO,
        }
