"""A client's wish -> plan: which provider speaks a text, in which voice, and who comes after."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter

from gateway.conversations.messages import Name, validated
from gateway.conversations.tts.protocol import Style
from gateway.routing.catalogue import Catalogue
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan, stand_ins_last
from gateway.upstreams.tts import Capabilities, OptionsRead

_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)

SAME_VOICES: Final = {"openai-compatible": "openai"}
"""Vendors whose names of voices and options are another's: most such servers take OpenAI's."""

_SUFFIX: Final = re.compile(r":([^:/]+)$")


def split_voice(model: str) -> tuple[str, str | None]:
    """`deepgram/aura-2:thalia` as ("deepgram/aura-2", "thalia")."""
    found = _SUFFIX.search(model)
    return (model[: found.start()], found.group(1)) if found else (model, None)


def asked_name(model: str, plan: Plan) -> str:
    """The name under which a plan was found for what a client asked."""
    name, _ = split_voice(model)
    return name if any(name in attempt.names for attempt in plan) else model


class TtsPlanner:
    """Plans for /tts. `types` are the types of the providers, `capabilities` what each can do,
    `vendors` all types that a model's name may begin with; `voices` tells of those providers that
    know their voices whether they have one."""

    def __init__(
        self,
        catalogue: Catalogue,
        types: Mapping[str, str],
        capabilities: Mapping[str, Capabilities] | None = None,
        vendors: Iterable[str] = (),
        voices: Mapping[str, Callable[[str], bool]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._types = types
        self._capabilities = capabilities or {}
        self._vendors = frozenset(vendors)
        self._voices = voices or {}

    def within(self, catalogue: Catalogue) -> TtsPlanner:
        """The same with another catalogue."""
        if catalogue is self._catalogue:
            return self
        new = copy.copy(self)
        new._catalogue = catalogue
        return new

    def plan(self, style: Style, fallback: tuple[Style, ...]) -> Plan | Failure:
        """The deployments of the model, then the client's fallbacks. Voice and options are those
        of the vendor that the client asked for. Elsewhere a voice's name means nothing, so the
        deployment's own or the vendor's default is taken, and options are translated."""
        # what the model demands holds for its fallbacks too
        return self.within(self._catalogue.for_model(style.model))._plan(style, fallback)

    def _plan(self, style: Style, fallback: tuple[Style, ...]) -> Plan | Failure:
        first = self._deployments(style)
        if isinstance(first, Failure):
            if first.kind is not Kind.OUTSIDE_REGION:
                return first
            attempts = []
        else:
            attempts = list(first)
        for other in fallback:
            # a fallback that is not served here must not spoil the rest
            deployments = self._deployments(
                replace(other, language=other.language or style.language)
            )
            if not isinstance(deployments, Failure):
                attempts += [a for a in deployments if a not in attempts]
        if isinstance(first, Failure) and not attempts:
            return first
        return stand_ins_last(tuple(attempts))

    def _found(self, style: Style) -> tuple[Plan | Failure, Style]:
        """The deployments of the model, and the style with its voice: a voice behind the model's
        name (`provider/model:voice`) wins, for a client that changes both sends the voice from
        before as well. A name that is configured with a colon in it is that model."""
        model, voice = split_voice(style.model)
        if voice is None or self._catalogue.model_label(style.model) == style.model:
            return self._catalogue.plan(style.model), style
        plan = self._catalogue.plan(model)
        if isinstance(plan, Failure):
            whole = self._catalogue.plan(style.model)
            return (plan if isinstance(whole, Failure) else whole), style
        return plan, replace(style, model=model, voice=voice)

    def _asked(self, model: str, plan: Plan) -> str:
        """The vendor that a client means by `model`: the one its name begins with; for a name of
        the operator's own, the first that serves it."""
        prefix, slash, _ = model.partition("/")
        if slash and prefix in self._types:
            return self._types[prefix]
        if prefix in self._vendors:
            return prefix
        return self._types.get(plan[0].provider, "")

    def _deployments(self, style: Style) -> list[Attempt] | Failure:
        plan, style = self._found(style)
        if isinstance(plan, Failure):
            return plan
        asked = self._asked(style.model, plan)
        return [self._attempt(attempt, style, asked) for attempt in plan]

    def _attempt(self, attempt: Attempt, style: Style, asked: str) -> Attempt:
        vendor = self._types.get(attempt.provider, "")
        kept = SAME_VOICES.get(vendor, vendor) == SAME_VOICES.get(asked, asked)
        extra = dict(style.extra)
        # some clients say these two among the options
        named = {name: _name(extra.pop(name, None)) for name in ("voice", "language")}
        capabilities = self._capabilities.get(attempt.provider)
        reader = capabilities.options if capabilities is not None else None
        if reader is not None:
            read = reader.read(extra, vendor if kept else asked)
        else:
            read = OptionsRead(extra if kept else {})
        options: dict[str, Any] = {**read.options, **attempt.options}
        voice = _text(options.pop("voice", None)) or attempt.voice
        language = _text(options.pop("language", None)) or attempt.language
        wanted = named["voice"] or style.voice
        has = self._voices.get(attempt.provider)
        if voice is None and wanted and (kept or (has is not None and has(wanted))):
            voice = wanted
        return Attempt(
            attempt.provider,
            attempt.model,
            {name: value for name, value in options.items() if value is not None},
            voice,
            language or named["language"] or style.language,
            names=attempt.names,
            left_out=read.left_out,
            stand_in=attempt.stand_in,
        )


def _name(value: Any) -> str | None:
    """A voice or a language among a client's options, where it is one."""
    if value is None:
        return None
    found = validated(value, _NAME)
    return None if isinstance(found, Failure) else found


def _text(value: Any) -> str | None:
    """The same of the operator's, whose YAML takes some ids for numbers."""
    return None if value is None else str(value)
