"""What the operator's page shows, gathered from those who know it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import orjson

from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.telemetry.outcome import NANO
from gateway.telemetry.usage.store import StoreError
from gateway.telemetry.watch import Wanted, Watch, together
from gateway.upstreams.provider import Modality

COST_S: Final = 30.0
"""What it costs is asked of the store no more often: other people wait for it too."""

COSTS_SHOWN_MAX: Final = 50
"""Lines of the table of costs, the dearest."""

MODELS_SHOWN_MAX: Final = 500
"""Names of models of one modality that can be chosen."""

Summary = Callable[[Sequence[str], float], Awaitable[list[tuple[Any, ...]]]]
"""Of the usage store: rows by some dimensions, since a Unix time."""


TOLD, COSTS, MODELS = "/page/told", "/page/costs", "/page/models"
"""Where a worker tells the supervisor, on its private socket, what the page shows."""

Ask = Callable[[str], Awaitable[list[bytes]]]
"""A path, asked of workers; the bodies of those that answer with 200."""


def shown(
    told: Sequence[Mapping[str, Any]], costs: Mapping[str, Any], workers: int | None = None
) -> dict[str, Any]:
    """What the page shows of one process, or of those of so many configured `workers` that have
    told something."""
    rests: dict[tuple[str, str], dict[str, Any]] = {}
    for one in (rest for process in told for rest in process["resting"]):
        known = rests.setdefault((one["provider"], one["model"]), one)
        # a worker that was told by another one does not know why
        known["why"] = known["why"] or one["why"]
        known["seconds"] = max(known["seconds"], one["seconds"])
    readiness = [process["readiness"] for process in told]
    ready = [one for one in readiness if one["ready"]]
    first = dict(next(iter(ready or readiness), {"ready": False, "draining": False}))
    if workers is not None:
        first["workers"] = {"configured": workers, "ready": len(ready)}
    return {
        "at": time.time(),
        "readiness": first,
        **together(told),
        "resting": sorted(rests.values(), key=lambda one: -one["seconds"]),
        "costs": costs,
    }


@dataclass(slots=True)
class WorkersOverview:
    """Of all `workers` of one server. `every` asks all of them, `some` the first that answers."""

    every: Ask
    some: Ask
    workers: int

    async def now(self, wanted: Wanted) -> dict[str, Any]:
        """Everything, as JSON has it."""
        told = await self.every(f"{TOLD}?{urlencode(asdict(wanted))}")
        costs = await self.some(COSTS)
        cost = orjson.loads(costs[0]) if costs else {}
        return shown([orjson.loads(one) for one in told], cost, self.workers)

    async def models(self) -> dict[str, Any]:
        """Names that can be tried, by modality."""
        models = await self.some(MODELS)
        return dict(orjson.loads(models[0])) if models else {}


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
    time_zone: str = "UTC"
    """Where days and months begin, as in `gateway usage`."""
    currency: str = "USD"
    _costs: dict[str, Any] = field(default_factory=dict)
    _costs_until: float = 0.0

    def told(self, wanted: Wanted) -> dict[str, Any]:
        """What this process knows of the calls."""
        return {
            **self.watch.told(wanted),
            "readiness": self.readiness(),
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
        }

    async def now(self, wanted: Wanted) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return shown([self.told(wanted)], await self.costs())

    async def models(self) -> dict[str, Any]:
        """Names that can be tried, by modality."""
        return {
            modality: list(catalogue.names())[:MODELS_SHOWN_MAX]
            for modality, catalogue in self.catalogues().items()
        }

    async def costs(self) -> dict[str, Any]:
        """Sums of today and of this month, and this month's by key and model."""
        now = time.monotonic()
        if now < self._costs_until:
            return self._costs
        self._costs_until = now + COST_S
        zone = ZoneInfo(self.time_zone)
        today = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        month = today.replace(day=1)
        by = ("key", "model")
        try:
            rows = await self.summary(by, month.timestamp())
            self._costs = {
                "currency": self.currency,
                "today": self._sums(await self.summary((), today.timestamp())),
                "month": self._sums(await self.summary((), month.timestamp())),
                "rows": sorted(
                    (
                        dict(zip(by, row, strict=False)) | self._sums([row[len(by) :]])
                        for row in rows
                    ),
                    key=lambda shown: (-shown["cost"], -shown["requests"]),
                )[:COSTS_SHOWN_MAX],
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
