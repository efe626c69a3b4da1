"""From what a client asks for to a plan: deployments in order, with their options. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from gateway.conversations.stt.protocol import Asked, Update, split_language
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Deployment, Plan, stand_ins_last
from gateway.upstreams.stt import SPEAKERS, TERMS, SttUpstream

ATTEMPTS_MAX: Final = 16
"""Longest plan."""


def _say_nothing(language: str) -> None:
    """Where nobody listens to warnings."""


class Plans(Protocol):
    """The part of `routing.catalogue.Catalogue` that is needed here."""

    def plan(self, model: str) -> Plan | Failure: ...

    def for_model(self, model: str | None) -> Plans: ...

    def outside(self, model: str) -> Failure | None: ...


@dataclass(frozen=True, slots=True)
class SttPlanner:
    """`automatic`, `last`: models that `auto` stands for where the configuration names none, and
    models that are tried after everything else. `others`: further models of the same provider, by
    the one in `automatic`. `languages`: of deployments (provider, model) that do not speak all.
    `warn` is told where nothing speaks a session's language."""

    catalogue: Plans
    config: SttConfig
    upstreams: Mapping[str, SttUpstream]
    automatic: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    languages: Mapping[Deployment, frozenset[str]] = field(default_factory=dict)
    warn: Callable[[str], None] = _say_nothing

    def within(self, catalogue: Plans) -> SttPlanner:
        """The same with another catalogue."""
        return self if catalogue is self.catalogue else replace(self, catalogue=catalogue)

    def __call__(self, asked: Asked) -> Plan | Failure:
        """The attempts in order, or why there are none."""
        # what the model demands holds for all that is tried in its place
        return self.within(self.catalogue.for_model(asked.model))._plan(asked)

    def _plan(self, asked: Asked) -> Plan | Failure:
        language = asked.language
        plan: Plan = ()
        if asked.model is None:
            plan = self._some(self._automatic(language), asked.extra, language)
        else:
            found = self._named(asked.model, asked.extra, language)
            if not isinstance(found, Failure):
                plan = found
            elif found.kind is not Kind.OUTSIDE_REGION:
                return found
        for attempt in plan[:1]:
            if attempt.stand_in is not None:
                break  # the options are an absent vendor's
            wrong = self.upstreams[attempt.provider].check(asked.extra)
            if wrong is not None:
                return wrong
        for fallback in asked.fallbacks:
            # the fallback's own options, and of the main model's what can be translated
            extra = {**_translatable(asked.extra), **fallback.extra}
            found = self._named(fallback.model, extra, language)
            if not isinstance(found, Failure):  # not served here: the others are
                plan += found
        shared = _translatable(asked.extra)
        plan = stand_ins_last(plan)
        plan += self._some((*self.config.fallback, *self.last), shared, language)
        if not plan:
            return self.catalogue.outside(asked.model or "auto") or Failure(
                Kind.NO_ROUTE,
                "no speech-to-text provider is configured: set a provider's key, or install the "
                "local engine",
                param="model",
            )
        return _unique(plan)[:ATTEMPTS_MAX]

    def standby(self, asked: Asked, key: str) -> Plan:
        """Whom to keep connected beside the recogniser in use, for a caller with this key."""
        config = self.config.standby
        if config.model is None:
            return ()
        name = asked.model or "auto"
        chosen = {name, split_language(name)[0]} & set(config.models)
        if (config.keys or config.models) and key not in config.keys and not chosen:
            return ()
        same = _vendor(config.model) == _vendor(asked.model)
        extra = asked.extra if same else _translatable(asked.extra)
        plan = self._some((config.model,), extra, asked.language)
        return tuple(one for one in plan if one.stand_in is None)

    def _automatic(self, language: str | None) -> Iterable[str]:
        auto = self.config.auto
        for key in (language, (language or "").split("-")[0], "default"):
            if key and key in auto:
                return auto[key]
        return self._speaking(language)

    def _speaking(self, language: str | None) -> Iterable[str]:
        """The models of `automatic`, or others of their providers, that speak the language; what
        does not comes last. A session without a language may be in any."""
        if not self.languages:
            return self.automatic
        speaking: list[str] = []
        mute: list[str] = []
        for model in self.automatic:
            found = (m for m in (model, *self.others.get(model, ())) if self._speaks(m, language))
            able = next(found, None)
            if able is None:
                mute.append(model)
            else:
                speaking.append(able)
        if mute and not speaking:
            self.warn(language or "any")
        return (*speaking, *mute)

    def _speaks(self, model: str, language: str | None) -> bool:
        plan = self.catalogue.plan(model)
        if isinstance(plan, Failure) or not plan:
            return False
        known = self.languages.get(plan[0].deployment)
        return known is None or _primary(language) in known

    def _some(self, models: Iterable[str], extra: Mapping[str, Any], language: str | None) -> Plan:
        plan: Plan = ()
        for model in models:
            found = self._named(model, extra, language)
            if not isinstance(found, Failure):
                plan += found
        return plan

    def _named(self, model: str, extra: Mapping[str, Any], language: str | None) -> Plan | Failure:
        name, suffix = split_language(model)
        found = self.catalogue.plan(name)
        if isinstance(found, Failure) and suffix is not None:
            found, suffix = self.catalogue.plan(model), None
        if isinstance(found, Failure):
            return found
        return tuple(
            replace(
                attempt,
                language=suffix or language,
                options={
                    name: value
                    for name, value in {
                        **self.upstreams[attempt.provider].translate(
                            extra if attempt.stand_in is None else _translatable(extra)
                        ),
                        **attempt.options,
                    }.items()
                    if value is not None
                },
            )
            for attempt in found
        )


def asked_name(asked: Asked, plan: Plan) -> str | None:
    """The name under which a plan was found for what a client asked, None if it asked for none."""
    if asked.model is None:
        return None
    name, _ = split_language(asked.model)
    return name if any(name in attempt.names for attempt in plan) else asked.model


def updated(asked: Asked, update: Update) -> Asked:
    """The client's request after an update."""
    extra = {**asked.extra, **(update.extra or {})}
    if update.model is not None and _vendor(update.model) != _vendor(asked.model):
        # of the options of another provider, those mean something that can be translated
        extra = {**_translatable(asked.extra), **(update.extra or {})}
    model, language = update.model or asked.model, update.language or asked.language
    if model is not None:
        name, suffix = split_language(model)
        if update.model is None and update.language is not None:
            model = name  # the language that stood behind it is not wanted any more
        elif update.model is not None and suffix is not None:
            language = suffix
    return replace(asked, model=model, language=language, extra=extra)


def _primary(language: str | None) -> str:
    """`pt` of `pt-BR`; nothing for no language, and `multi` is one that few models have."""
    return (language or "").partition("-")[0].lower()


def _vendor(model: str | None) -> str:
    return (model or "").partition("/")[0]


def _translatable(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name in (*TERMS, *SPEAKERS)}


def _unique(plan: Plan) -> Plan:
    """`plan` with each deployment once, where it comes first."""
    first: dict[Deployment, Attempt] = {}
    for attempt in plan:
        first.setdefault(attempt.deployment, attempt)
    return tuple(first.values())
