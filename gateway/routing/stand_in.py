"""Which model of our own serves a name whose vendor has no provider here. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.provider import Account, Modality, find, type_names


class StandIns:
    """The local stand-in of one modality, if there is one.

    It serves names of vendors that are known here and have no provider: `deepgram/nova-3` without a
    key for Deepgram. A vendor that has a provider is never replaced, nor is an unknown one: a
    misspelt name stays an error.
    """

    def __init__(self, accounts: Iterable[Account], modality: Modality) -> None:
        self.attempt: Attempt | None = None
        self._absent: frozenset[str] = frozenset()
        configured = set()
        for account in accounts:
            vendor = find(account.type)
            configured.add(account.type)
            if vendor.stand_ins is None or self.attempt is not None:
                continue
            found = vendor.stand_ins(account.settings).get(modality)
            if found is not None:
                name, model = found
                self.attempt = Attempt(account.name, model, stand_in=name)
        if self.attempt is not None:
            names = _names(modality)
            self._absent = frozenset(
                name for name, types in names.items() if not types & configured
            )

    def plan(self, model: str) -> Plan | None:
        """The plan for `model` if its vendor is known and absent."""
        if self.attempt is None:
            return None
        head, slash, _ = model.partition("/")
        absent = model in self._absent or head + slash in self._absent
        return (self.attempt,) if absent else None


@cache
def _names(modality: Modality) -> dict[str, frozenset[str]]:
    """Names of models, and their beginnings up to the slash, each with the vendors that have it."""
    found: dict[str, set[str]] = {}
    for type_name in type_names():
        vendor = find(type_name)
        offer = vendor.offers.get(modality)
        if offer is None or vendor.available is not None:
            continue
        found.setdefault(f"{type_name}/", set()).add(type_name)
        for model in offer.models:
            head, slash, _ = model.partition("/")
            for name in (model, head + slash):
                found.setdefault(name, set()).add(type_name)
    return {name: frozenset(types) for name, types in found.items()}
