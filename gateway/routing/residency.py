"""Who is inside the regions that a request may be served in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.settings.residency import REGION, ResidencyConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Plan
from gateway.upstreams.provider import Account

HEADER: Final = "X-Parley-Region"

REGIONS_MAX: Final = 16
"""A request names no more."""

Demands = tuple[frozenset[str], ...]
"""Each of them holds; of the regions in one, any will do. None: anywhere."""

_WILD: Final = "*"


class Residency:
    """Where each provider is, and what keys and models demand."""

    def __init__(self, config: ResidencyConfig, accounts: Mapping[str, Account]) -> None:
        self._keys = config.keys
        self._models = config.models
        self._regions = {
            name: account.settings.region
            for name, account in accounts.items()
            if account.settings.region is not None
        }

    def of_request(self, key: str, asked: str | None) -> Demands | Failure:
        """What an API key demands, and a request in its header HEADER."""
        demands: Demands = (self._keys[key],) if key in self._keys else ()
        if asked is None:
            return demands
        regions = [region.strip().lower() for region in asked.split(",")]
        if len(regions) > REGIONS_MAX or not all(map(REGION.fullmatch, regions)):
            return Failure(
                Kind.BAD_REQUEST,
                f"{HEADER}: expected a region such as eu, or at most {REGIONS_MAX} of them "
                "with commas between",
                param=HEADER,
            )
        return (*demands, frozenset(regions))

    def of_model(self, name: str) -> Demands:
        """What a model demands by its name, also with a language or a voice behind it."""
        if not self._models:
            return ()
        shorter = name.rpartition(":")[0]
        return tuple(
            regions
            for model, regions in self._models.items()
            if (name.startswith(model[:-1]) if model.endswith(_WILD) else model in (name, shorter))
        )

    def inside(self, plan: Plan, demands: Demands) -> Plan:
        """Those of `plan` that meet the demands, and those of their own names."""
        if not demands and not self._models:
            return plan
        return tuple(
            attempt
            for attempt in plan
            if self._meets(attempt.provider, (*demands, *self._of_names(attempt.names)))
        )

    def _of_names(self, names: Iterable[str]) -> Demands:
        return tuple(regions for name in names for regions in self.of_model(name))

    def _meets(self, provider: str, demands: Demands) -> bool:
        region = self._regions.get(provider)
        return all(region is not None and region in regions for regions in demands)

    def failure(self, model: str, demands: Demands) -> Failure:
        """That nobody inside serves `model`."""
        regions = " and inside ".join(
            dict.fromkeys(" or ".join(sorted(regions)) for regions in demands)
        )
        where = f"inside {regions}" if regions else "where it may be served"
        return Failure(
            Kind.OUTSIDE_REGION, f"no provider {where} serves {model[:128]!r}", param="model"
        )
