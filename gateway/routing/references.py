"""Names in a configuration that lead to nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.routing import cascades
from gateway.routing.catalogue import Catalogue
from gateway.settings import languages
from gateway.settings.bargein import ALL_KEYS, LearnConfig
from gateway.settings.cascades import CascadeConfig
from gateway.settings.mistake import Mistake, Place
from gateway.settings.models import Deployment
from gateway.settings.quota import QuotaConfig
from gateway.settings.residency import ResidencyConfig
from gateway.settings.stt import SttConfig
from gateway.settings.wording import suggestion
from gateway.upstreams import provider as vendors
from gateway.upstreams.errors import Failure
from gateway.upstreams.listing import modalities_of_name, modalities_of_vendor
from gateway.upstreams.provider import Account, Modality, ProviderSettings

_WILD: Final = "*"
_EVERY: Final[tuple[Modality, ...]] = ("chat", "stt", "tts", "realtime", "duplex", "avatar")
_ROUTES: Final[Mapping[Modality, str]] = {
    "chat": "/chat/completions",
    "stt": "/stt",
    "tts": "/tts",
    "realtime": "/realtime",
    "duplex": "/live/sessions",
    "avatar": "/avatar/sessions",
}


@dataclass(frozen=True, slots=True)
class Named:
    """The parts of a configuration that name something. `providers` are all that are configured,
    `accounts` those of them that are on; `keys` is None where keys are not to be looked at."""

    models: Mapping[str, Sequence[Deployment]]
    providers: Mapping[str, ProviderSettings]
    accounts: Mapping[str, Account]
    keys: Collection[str] | None = None
    quota: QuotaConfig = field(default_factory=QuotaConfig)
    prices: Collection[str] = ()
    stt: SttConfig = field(default_factory=SttConfig)
    default_voice: str | None = None
    turn_languages: Collection[str] = ()
    residency: ResidencyConfig = field(default_factory=ResidencyConfig)
    eager_keys: Collection[str] = ()
    learning: LearnConfig = field(default_factory=LearnConfig)
    decision_model: str | None = None
    cascades: Mapping[str, CascadeConfig] = field(default_factory=dict)


def check(named: Named) -> list[Mistake]:
    """Every name that leads nowhere. One that will once a provider is switched on is a warning."""
    found = [*_models(named)]
    if any(mistake.fatal for mistake in found):
        return found  # the catalogues cannot be made, or would lack what is meant
    names = _Names(named)
    found += _aliases(named, names)
    found += _kinds(named)
    found += _speech(named, names)
    found += _quotas(named, names)
    found += _residency(named, names)
    found += _eager(named)
    found += _learning(named)
    found += _cascades(named, names)
    for name in named.prices:
        found += names.matter(("prices", name), name, deployments=True)
    return found


def _models(named: Named) -> Iterator[Mistake]:
    """What is wrong with a name or its deployments by themselves."""
    for model, deployments in named.models.items():
        place = ("models", model)
        if _WILD in model[:-1]:
            yield Mistake(place, "expected `*` at the end of a name alone")
        if not deployments:
            yield Mistake(place, "expected at least one deployment")
        seen: set[tuple[str | None, str]] = set()
        for i, deployment in enumerate(deployments):
            at = (*place, str(i))
            if _WILD in deployment.model:
                if not model.endswith(_WILD):
                    yield Mistake(
                        (*at, "model"),
                        "its `*` is what the `*` of the name stands for, and the name has none",
                    )
                if deployment.concurrency or deployment.requests_per_minute:
                    yield Mistake(
                        at,
                        f"limits are for one model; expected no `*` in {deployment.model!r}",
                    )
            if deployment.provider is None:
                if model in _reachable(named.models, deployment.model):
                    yield Mistake(at, f"the alias leads back to {model!r}")
            elif deployment.provider not in named.providers:
                yield Mistake(
                    (*at, "provider"),
                    f"no provider {deployment.provider!r} is configured"
                    f"{suggestion(deployment.provider, named.providers)}",
                )
            elif deployment.provider not in named.accounts:
                yield Mistake(
                    (*at, "provider"),
                    f"the provider {deployment.provider!r} is switched off",
                    fatal=False,
                )
            if (deployment.provider, deployment.model) in seen:
                text = "stands twice: where it fails, it is asked again at once"
                yield Mistake(at, text, fatal=False)
            seen.add((deployment.provider, deployment.model))


def _reachable(models: Mapping[str, Sequence[Deployment]], model: str) -> set[str]:
    """The names that `model` stands for by way of aliases, itself included."""
    seen: set[str] = set()
    waiting = [model]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [d.model for d in models.get(name, ()) if d.provider is None]
    return seen


def _aliases(named: Named, names: _Names) -> Iterator[Mistake]:
    for model, deployments in named.models.items():
        for i, deployment in enumerate(deployments):
            target = deployment.model
            if deployment.provider is not None or target in named.models:
                continue
            if not names.leads_somewhere(target):
                yield names.unserved(
                    ("models", model, str(i)),
                    target,
                    "; a deployment, other than an alias, names its `provider`",
                )


def _kinds(named: Named) -> Iterator[Mistake]:
    """Deployments at providers that serve nothing of what a model's name stands for."""
    for model, deployments in named.models.items():
        known = modalities_of_name(model)
        for i, deployment in enumerate(deployments):
            account = named.accounts.get(deployment.provider or "")
            if account is None or not known:
                continue
            if not known.isdisjoint(modalities_of_vendor(account.type)):
                continue
            routes = " and ".join(sorted(_ROUTES[one] for one in known))
            yield Mistake(
                ("models", model, str(i), "provider"),
                f"{model!r} is for {routes}, which {account.name!r} does not serve",
                fatal=False,
            )


def _speech(named: Named, names: _Names) -> Iterator[Mistake]:
    for language, models in named.stt.auto.items():
        if language != "default" and (wrong := languages.problem(language)):
            yield Mistake(("stt", "auto", language), f"{wrong}, or default")
        if not models:
            yield Mistake(("stt", "auto", language), "expected at least one model")
        for i, model in enumerate(models):
            yield from names.needed(("stt", "auto", language, str(i)), model, "stt")
    for i, model in enumerate(named.stt.fallback):
        yield from names.needed(("stt", "fallback", str(i)), model, "stt")
    standby = named.stt.standby
    if standby.model is not None:
        yield from names.needed(("stt", "standby", "model"), standby.model, "stt")
    for i, key in enumerate(standby.keys):
        if named.keys is not None and key not in named.keys:
            yield _no_key(("stt", "standby", "keys", str(i)), key, named.keys)
    for i, model in enumerate(standby.models):
        if model != "auto":
            yield from names.needed(("stt", "standby", "models", str(i)), model, "stt")
    if named.decision_model is not None:
        yield from names.needed(("chat", "decision_model"), named.decision_model, "chat")
    if named.default_voice is not None:
        yield from names.needed(("tts", "default_model"), named.default_voice, "tts")
    for language in named.turn_languages:
        if wrong := languages.problem(language):
            yield Mistake(("eot", "thresholds", language), wrong)


def _eager(named: Named) -> Iterator[Mistake]:
    for key in named.eager_keys:
        if named.keys is not None and key not in named.keys:
            place = ("bargein", "eagerness_by_key", key)
            yield Mistake(place, f"no such API key is configured{suggestion(key, named.keys)}")


def _learning(named: Named) -> Iterator[Mistake]:
    learning = named.learning
    for number, key in enumerate(learning.keys):
        if named.keys is not None and key not in named.keys and key != ALL_KEYS:
            place: Place = ("bargein", "learn", "keys", str(number))
            yield Mistake(place, f"no such API key is configured{suggestion(key, named.keys)}")
    if learning.keys and not learning.is_on:
        place = ("bargein", "learn", "secret")
        yield Mistake(place, "missing: nothing is kept to learn from", fatal=False)


def _cascades(named: Named, names: _Names) -> Iterator[Mistake]:
    for name, cascade in named.cascades.items():
        place: Place = ("cascades", name)
        if cascade.stt != "auto":
            yield from names.needed((*place, "stt"), cascade.stt, "stt")
        yield from names.needed((*place, "chat"), cascade.chat, "chat")
        yield from names.needed((*place, "tts"), cascade.tts, "tts")


def _quotas(named: Named, names: _Names) -> Iterator[Mistake]:
    for key, allowance in named.quota.keys.items():
        place: Place = ("quota", "keys", key)
        if named.keys is not None and key != _WILD and key not in named.keys:
            yield _no_key(place, key, named.keys)
        for i, model in enumerate(allowance.allowed_models or ()):
            yield from names.matter((*place, "allowed_models", str(i)), model)
        for model in allowance.models:
            yield from names.matter((*place, "models", model), model)
    for tenant, shared in named.quota.tenants.items():
        if not shared.keys:
            place = ("quota", "tenants", tenant)
            yield Mistake(place, "has no `keys`: it limits nobody", fatal=False)
        for i, key in enumerate(shared.keys):
            if named.keys is not None and key not in named.keys:
                yield Mistake(
                    ("quota", "tenants", tenant, "keys", str(i)),
                    f"no such API key is configured{suggestion(key, named.keys)}",
                )
    for model in named.quota.models:
        yield from names.matter(("quota", "models", model), model)


def _no_key(place: Place, key: str, keys: Iterable[str]) -> Mistake:
    return Mistake(place, f"no such API key is configured{suggestion(key, keys)}")


def _residency(named: Named, names: _Names) -> Iterator[Mistake]:
    known = {one.region for one in named.providers.values() if one.region is not None}
    residency = named.residency
    for section, demands in (("keys", residency.keys), ("models", residency.models)):
        for name, regions in demands.items():
            place = ("residency", section, name)
            if section == "models" and name in names.cascades:
                yield Mistake(
                    place, "a cascade is where its parts are; expected the names of those"
                )
            elif section == "models":
                yield from names.matter(place, name)
            elif named.keys is not None and name not in named.keys:
                yield Mistake(place, f"no such API key is configured{suggestion(name, named.keys)}")
            for region in sorted(regions - known):
                yield Mistake(
                    place,
                    f"no provider says `region: {region}`{suggestion(region, known)}",
                    fatal=regions.isdisjoint(known),  # nobody could be served
                )


class _Names:
    """What is served, by modality."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self.cascades = cascades.served(named.cascades, named.accounts.values())
        """They can be asked for, and have no deployments of their own."""
        self._catalogues = {
            modality: Catalogue(named.models, named.accounts, modality) for modality in _EVERY
        }
        self._served = {
            name for catalogue in self._catalogues.values() for name in catalogue.names()
        }
        self._deployments = {
            f"{provider}:{model}"
            for catalogue in self._catalogues.values()
            for provider, model in catalogue.deployments()
        }
        self._beginnings = {name[:-1] for c in self._catalogues.values() for name in c.patterns()}

    def served(self, name: str, modality: Modality) -> bool:
        """Whether a caller can ask for `name` there, also with a language or a voice behind it."""
        catalogue = self._catalogues[modality]
        if name in self._served and name not in catalogue.names():
            return False  # it is listed, for something else
        if not isinstance(catalogue.plan(name), Failure):
            known = modalities_of_name(name)
            return not known or modality in known
        shorter, colon, _ = name.rpartition(":")
        return bool(colon and modality != "chat") and not isinstance(
            catalogue.plan(shorter), Failure
        )

    def leads_somewhere(self, alias_of: str) -> bool:
        """Whether an alias of this name has a deployment."""
        return any(catalogue.aliased(alias_of) for catalogue in self._catalogues.values())

    def needed(self, place: Place, name: str, modality: Modality) -> Iterator[Mistake]:
        """`name` has to be served for `modality`."""
        if self.served(name, modality):
            return
        others = [_ROUTES[other] for other in _EVERY if self.served(name, other)]
        if others:
            yield Mistake(
                place,
                f"the model {name!r} is for {' and '.join(others)}, not for {_ROUTES[modality]}",
            )
            return
        yield self.unserved(place, name)

    def matter(self, place: Place, name: str, *, deployments: bool = False) -> Iterator[Mistake]:
        """`name` has to stand for something that callers can ask for, or with `deployments` for a
        deployment; a name that ends in `*` for anything."""
        if _WILD in name[:-1]:
            yield Mistake(place, "expected `*` at the end of a name alone")
        elif name.endswith(_WILD):
            if not self._begins(name[:-1], deployments=deployments):
                yield self.unserved(place, name)
        elif not (
            any(self.served(name, modality) for modality in _EVERY)
            or name in self.cascades
            or (deployments and name.partition(":")[0] in self._named.accounts)
        ):
            yield self.unserved(place, name)

    def _begins(self, beginning: str, *, deployments: bool) -> bool:
        known = self._served | self.cascades.keys()
        known |= self._deployments if deployments else set()
        if any(name.startswith(beginning) for name in known):
            return True
        marks = ("/", ":") if deployments else ("/",)
        open_ended = self._beginnings | {
            f"{p}{mark}" for p in self._named.accounts for mark in marks
        }
        return any(one.startswith(beginning) or beginning.startswith(one) for one in open_ended)

    def unserved(self, place: Place, name: str, hint: str = "") -> Mistake:
        """That nothing serves `name`: a warning where a provider would that is not switched on."""
        if (why := self._waits_for(name)) is not None:
            return Mistake(place, f"nothing serves {name!r}: {why}", fatal=False)
        meant = suggestion(name, self._served) or _by_end(name, self._served)
        return Mistake(place, f"nothing serves {name!r}{meant}{hint}")

    def _waits_for(self, name: str) -> str | None:
        beginning = name.removesuffix(_WILD)
        head = beginning.replace(":", "/").partition("/")[0]
        if head in self._named.providers and head not in self._named.accounts:
            return f"the provider {head!r} is switched off"
        for type_name in vendors.type_names():
            vendor = vendors.find(type_name)
            if type_name in self._named.accounts:
                continue
            in_catalogue = any(name in vendor.models(modality) for modality in _EVERY)
            if head != type_name and not in_catalogue:
                continue
            if type_name in self._named.providers:
                return f"the provider {type_name!r} is switched off"
            variable = vendor.key_variable if vendor.key_required else None
            how = f"; set {variable}" if variable else ""
            return f"the provider {type_name!r} is not configured{how}"
        return None


def _by_end(name: str, known: Iterable[str]) -> str:
    """A name that was written without its vendor."""
    found = next((one for one in sorted(known) if one.endswith(f"/{name}")), None)
    if found is None:
        tails = {one.partition("/")[2]: one for one in sorted(known)}
        close = suggestion(name, [tail for tail in tails if tail])
        tail = close.removeprefix("; did you mean '").removesuffix("'?")
        found = tails.get(tail) if close else None
    return f"; did you mean {found!r}?" if found else ""
