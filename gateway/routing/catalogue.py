"""Model name + configuration -> plan: which provider serves what, in which order."""

from __future__ import annotations

import copy
import difflib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.routing.capacity import Limits
from gateway.routing.residency import Demands, Residency
from gateway.routing.stand_in import StandIns
from gateway.settings.models import Deployment
from gateway.settings.residency import ResidencyConfig
from gateway.upstreams import provider as vendors
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.listing import (
    modalities_of_deployment,
    modalities_of_name,
    named_models,
)
from gateway.upstreams.plan import Attempt, Plan, only, stand_ins_last
from gateway.upstreams.provider import Account, Ended, Modality

NAME_CHARS_MAX: Final = 256
"""A longer model name is nobody's."""

ATTEMPTS_MAX: Final = 32
"""Deployments in one plan; fallbacks upon fallbacks end here."""

_WILD: Final = "*"


class Catalogue:
    """Plans for the models of one modality, made once for each name.

    A name of `models:` in the configuration has the deployments given there; so has one that
    begins like a name there that ends in `*` (the longest such). Another name goes to every
    provider whose catalogue has it, in the configuration's order; else to the provider whose
    configured name it starts with; else to `stand_ins`, if it is the name of an absent vendor.
    A name that its vendor has ended goes to what took its place with `successors`, else nowhere.
    """

    def __init__(
        self,
        models: Mapping[str, Sequence[Deployment]],
        accounts: Mapping[str, Account],
        modality: Modality,
        chance: random.Random | None = None,
        stand_ins: StandIns | None = None,
        *,
        successors: bool = False,
        residency: ResidencyConfig | None = None,
    ) -> None:
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._stand_ins = stand_ins
        self._residency = Residency(residency or ResidencyConfig(), accounts)
        self._demands: Demands = ()
        self._accounts: dict[str, Account] = {}
        self._wild: list[tuple[str, Plan, tuple[float | None, ...]]] = []
        self._ended: dict[str, dict[str, Ended]] = {}  # by name, then by provider
        catalogue: dict[str, Plan] = {}
        for name, account in accounts.items():
            offer = vendors.find(account.type).offers.get(modality)
            if offer is None:
                continue
            self._accounts[name] = account
            for model, upstream_model in offer.models.items():
                attempt = Attempt(name, upstream_model)
                if model.endswith(_WILD):
                    self._wild.append((model[:-1], (attempt,), (None,)))
                    continue
                catalogue[model] = (*catalogue.get(model, ()), attempt)
            for model, ended in offer.ended.items():
                if successors and ended.successor is not None:
                    taken_over = Attempt(name, ended.successor)
                    catalogue[model] = (*catalogue.get(model, ()), taken_over)
                else:
                    self._ended.setdefault(model, {})[name] = ended
            for model in named_models(account, modality):
                catalogue.setdefault(f"{name}/{model}", (Attempt(name, model),))
        self._configured = models
        self._modality: Modality = modality
        self._catalogue = catalogue
        self._plans: dict[str, Plan] = {
            name: _named(plan, name) for name, plan in catalogue.items()
        }
        self._weights: dict[str, tuple[float | None, ...]] = {}
        for model in models:
            self._add(model)
        self._wild.sort(key=lambda one: -len(one[0]))
        self._names = {
            name: plan
            for name, plan in sorted(self._plans.items())
            if name not in models or self._listed(name, plan)
        }
        self.limits = {
            (d.provider, d.model): Limits(d.concurrency, d.requests_per_minute, d.low_share)
            for deployments in models.values()
            for d in deployments
            if d.provider is not None and (d.concurrency or d.requests_per_minute)
        }
        """What each limited deployment takes."""

    def _add(self, model: str) -> None:
        expanded = self._expand(self._configured[model])
        plan = _named(tuple(attempt for attempt, _ in expanded), model)
        weights = tuple(weight for _, weight in expanded)
        self._plans.pop(model, None)  # a built-in name that the configuration has taken over
        if not plan:
            return
        if model.endswith(_WILD):
            self._wild.insert(0, (model[:-1], plan, weights))  # before a catalogue's
            return
        self._plans[model] = plan
        if any(weights):
            self._weights[model] = weights

    def _expand(self, deployments: Iterable[Deployment]) -> list[tuple[Attempt, float | None]]:
        """The attempts that deployments stand for; aliases are followed (config: no circles)."""
        expanded: list[tuple[Attempt, float | None]] = []
        for d in deployments:
            if d.provider in self._accounts:
                attempt = Attempt(
                    d.provider,
                    d.model,
                    d.options,
                    context_tokens=d.context_tokens,
                    abilities=None if d.abilities is None else frozenset(d.abilities),
                )
                expanded.append((attempt, d.weight))
            elif d.provider is None:
                expanded += [
                    (
                        replace(
                            attempt,
                            options={**attempt.options, **d.options},
                            names=attempt.names | {d.model},
                        ),
                        d.weight,
                    )
                    for attempt in self.aliased(d.model)
                ]
        return expanded

    def aliased(self, model: str) -> Plan:
        """The attempts that an alias of `model` stands for; none if it leads nowhere."""
        if model in self._configured:
            return tuple(attempt for attempt, _ in self._expand(self._configured[model]))
        return self._catalogue.get(model) or self._by_prefix(model) or ()

    def for_request(self, key: str, region: str | None) -> Catalogue | Failure:
        """The same for a caller with this API key, and what its request says of a region
        (residency.HEADER): plans inside what they demand."""
        demands = self._residency.of_request(key, region)
        return demands if isinstance(demands, Failure) else self._with(demands)

    def for_model(self, model: str | None) -> Catalogue:
        """The same for a request about `model`, whatever else is tried for it: plans inside what
        it demands."""
        return self if model is None else self._with(self._residency.of_model(model))

    def outside(self, model: str) -> Failure | None:
        """That nobody inside the demanded regions serves `model`; None where none is demanded."""
        return self._residency.failure(model, self._demands) if self._demands else None

    def _with(self, demands: Demands) -> Catalogue:
        if not demands:
            return self
        new = copy.copy(self)
        new._demands = (*self._demands, *demands)
        return new

    def names(self) -> dict[str, Plan]:
        """Every model known to be servable, with its plan, sorted by name. A name of the
        configuration is left out where it is known, or sounds, to be for another modality: whoever
        asks for it here is served all the same."""
        found = {name: self._inside(name, plan) for name, plan in self._names.items()}
        return {name: plan for name, plan in found.items() if plan}

    def _inside(self, model: str, plan: Plan) -> Plan:
        demands = (*self._demands, *self._residency.of_model(model))
        return self._residency.inside(plan, demands)

    def patterns(self) -> dict[str, Plan]:
        """Names that end in `*`, with the plan of all that begin so, sorted."""
        return {
            name: plan
            for beginning, plan, _ in sorted(self._wild, key=lambda one: one[0])
            if self._listed(name := f"{beginning}{_WILD}", plan)
        }

    def _listed(self, name: str, plan: Plan) -> bool:
        known = modalities_of_name(name)
        if known:
            return self._modality in known
        return any(
            self._modality
            in modalities_of_deployment(self._accounts[attempt.provider], attempt.model)
            for attempt in plan
        )

    def unlisted(self) -> set[str]:
        """Providers of which no deployment is known; they serve whatever is asked of them. An
        engine of ours serves what is installed."""
        known = {provider for provider, _ in self.deployments()}
        return {
            name
            for name, account in self._accounts.items()
            if name not in known and vendors.find(account.type).available is None
        }

    def deployments(self) -> set[tuple[str, str]]:
        """Every known deployment: provider and its name of the model."""
        return {(a.provider, a.model) for plan in self._plans.values() for a in plan}

    @property
    def providers(self) -> tuple[str, ...]:
        """The configured providers that serve this modality."""
        return tuple(self._accounts)

    def provider_label(self, name: str | None) -> str:
        """`name` as a metric label: a configured provider, or "none"."""
        return name if name in self._accounts else "none"

    def model_label(self, name: str) -> str:
        """`name` as a metric label: a known model, or "other"."""
        known = name in self._plans or (
            self.stand_in is not None and name == self.stand_in.stand_in
        )
        return name if known else "other"

    def plan(
        self,
        model: str,
        pinned_provider: str | None = None,
        fallbacks: Iterable[tuple[str, Mapping[str, Any]]] = (),
    ) -> Plan | Failure:
        """The attempts for `model`, then for each of the client's `fallbacks` (a name, and
        parameters for it alone), or why there are none. None is outside of the regions that are
        demanded."""
        plan = self._planned(model, pinned_provider, fallbacks)
        if isinstance(plan, Failure):
            return plan
        inside = self._inside(model, plan)
        if not inside:
            demands = (*self._demands, *self._residency.of_model(model))
            return self._residency.failure(model, demands)
        return stand_ins_last(inside)[:ATTEMPTS_MAX]

    def _planned(
        self,
        model: str,
        pinned_provider: str | None,
        fallbacks: Iterable[tuple[str, Mapping[str, Any]]],
    ) -> Plan | Failure:
        """The same wherever it is."""
        plan = self._drawn(model)
        if isinstance(plan, Failure):
            if pinned_provider is None or not (
                deployed := self._deployed(model, self._meant_by(pinned_provider))
            ):
                return plan
            plan = deployed
        for name, extra in fallbacks:
            further = self._drawn(name)
            if isinstance(further, Failure):
                return replace(further, param="fallback")
            # what the operator has set for a deployment stays
            plan += tuple(replace(a, options={**extra, **a.options}) for a in further)
        if pinned_provider is not None:
            meant = self._meant_by(pinned_provider)
            plan = only(meant, plan) or self._deployed(model, meant)
            if not plan:
                return Failure(
                    Kind.BAD_REQUEST,
                    f"X-LiveKit-Inference-Provider: {pinned_provider[:64]!r} "
                    f"does not serve {model[:128]!r}",
                    param="X-LiveKit-Inference-Provider",
                )
        return plan

    def _meant_by(self, pinned: str) -> frozenset[str]:
        """The providers that a caller means by `pinned`: one by its name, else those of a vendor
        by its type, or by what LiveKit calls it."""
        if pinned in self._accounts:
            return frozenset({pinned})
        return frozenset(
            name
            for name, account in self._accounts.items()
            if pinned == account.type or pinned in vendors.find(account.type).pinned_as
        )

    def _deployed(self, model: str, providers: Iterable[str]) -> Plan:
        """Deployments that `providers` may have under the model's own name."""
        attempts = []
        for name, account in self._accounts.items():
            offer = vendors.find(account.type).offers[self._modality]
            beginning = offer.deployed_as
            if name in providers and beginning is not None and model.startswith(beginning):
                attempts.append(Attempt(name, model[len(beginning) : NAME_CHARS_MAX]))
        return tuple(attempts)

    def ended(self) -> dict[str, Ended]:
        """Names that clients list and that nothing here serves, since every configured vendor of
        them has ended them; sorted by name."""
        return {
            name: next(iter(by_provider.values()))
            for name, by_provider in sorted(self._ended.items())
            if isinstance(self._drawn(name), Failure)
        }

    def _drawn(self, model: str) -> Plan | Failure:
        """The plan for one name, in the order drawn for this request."""
        plan = self._plans.get(model)
        if plan is not None:
            weights = self._weights.get(model)
            return plan if weights is None else self._draw(plan, weights)
        ended = self._ended.get(model, {})
        if len(model) <= NAME_CHARS_MAX:
            for beginning, wild, wild_weights in self._wild:
                if model.startswith(beginning) and len(model) > len(beginning):
                    if all(attempt.provider in ended for attempt in wild):
                        continue
                    rest = model[len(beginning) :]
                    named = tuple(
                        replace(a, model=a.model.replace(_WILD, rest), names=a.names | {model})
                        for a in wild
                    )
                    return self._draw(named, wild_weights)
            plan = self._by_prefix(model) or self._stood_in(model)
            if plan is not None and not all(attempt.provider in ended for attempt in plan):
                return _named(plan, model)
        for name, end in ended.items():
            title = vendors.find(self._accounts[name].type).title
            day = f" on {end.day}" if end.day else ""
            instead = f"; {end.successor!r} took its place" if end.successor else ""
            return Failure(Kind.NOT_FOUND, f"{title} ended {model!r}{day}{instead}", param="model")
        close = difflib.get_close_matches(model[:NAME_CHARS_MAX], self._plans, n=1, cutoff=0.7)
        hint = f"; did you mean {close[0]!r}?" if close else "; GET /models lists what is"
        return Failure(
            Kind.NOT_FOUND, f"the model {model[:128]!r} is not served here{hint}", param="model"
        )

    @property
    def stand_in(self) -> Attempt | None:
        """What serves the names of absent vendors."""
        return None if self._stand_ins is None else self._stand_ins.attempt

    def _stood_in(self, model: str) -> Plan | None:
        if self._stand_ins is None or model in self._configured:
            return None
        return self._stand_ins.plan(model)

    def stand_in_name(self, model: str, provider: str | None) -> str | None:
        """What served where `provider` did not serve `model` itself but stood in for it."""
        if model in self._plans or provider is None:
            return None
        plan = self._drawn(model)
        if isinstance(plan, Failure):
            return None
        return next((a.stand_in for a in plan if a.provider == provider), None)

    def _draw(self, plan: Plan, weights: tuple[float | None, ...]) -> Plan:
        """Those with a weight first, in random order by weight (Efraimidis and Spirakis: the
        largest of u^(1/w) leads), then the others as they stand."""
        if not any(weights):
            return plan
        pairs = tuple(zip(plan, weights, strict=True))
        drawn = sorted(
            ((self._chance.random() ** (1.0 / w), i) for i, (_, w) in enumerate(pairs) if w),
            reverse=True,
        )
        return (*(plan[i] for _, i in drawn), *(a for a, w in pairs if not w))

    def _by_prefix(self, model: str) -> Plan | None:
        name, slash, rest = model.partition("/")
        if slash and rest and name in self._accounts:
            return (Attempt(name, rest),)
        return None


def _named(plan: Plan, name: str) -> Plan:
    """`plan`, which is known by `name`."""
    if name.endswith(_WILD):
        return plan  # what it stands for this time is known when somebody asks
    return tuple(replace(attempt, names=attempt.names | {name}) for attempt in plan)
