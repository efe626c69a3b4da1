"""A client's wish -> plan: which provider speaks a text, in which voice, and who comes after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.conversations.tts.protocol import Style
from gateway.routing.catalogue import Catalogue
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, Plan, stand_ins_last


class TtsPlanner:
    """Plans for /tts. `types` are the types of the providers; `voices` tells of those that know
    their voices whether they have one."""

    def __init__(
        self,
        catalogue: Catalogue,
        types: Mapping[str, str],
        voices: Mapping[str, Callable[[str], bool]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._types = types
        self._voices = voices or {}

    def plan(self, style: Style, fallback: tuple[Style, ...]) -> Plan | Failure:
        """The deployments of the model, then the client's fallbacks. A voice is kept within one
        vendor; elsewhere its name means nothing, so the deployment's own or the vendor's default
        is taken."""
        first = self._deployments(style)
        if isinstance(first, Failure):
            return first
        attempts = list(first)
        for other in fallback:
            # a fallback that is not served here must not spoil the rest
            deployments = self._deployments(
                replace(other, language=other.language or style.language)
            )
            if not isinstance(deployments, Failure):
                attempts += [a for a in deployments if a not in attempts]
        return stand_ins_last(tuple(attempts))

    def _deployments(self, style: Style) -> list[Attempt] | Failure:
        plan = self._catalogue.plan(style.model)
        if isinstance(plan, Failure):
            # `provider/model:voice`, as older fallback lists write it
            model, colon, voice = style.model.rpartition(":")
            if not colon or style.voice is not None:
                return plan
            shorter = self._catalogue.plan(model)
            if isinstance(shorter, Failure):
                return plan
            plan, style = shorter, replace(style, voice=voice)
        attempts = []
        for attempt in plan:
            # the options of an absent vendor mean nothing to what stands in for it
            extra = style.extra if attempt.stand_in is None else {}
            options: dict[str, Any] = {**extra, **attempt.options}
            own_voice: str | None = options.pop("voice", None) or attempt.voice
            language: str | None = options.pop("language", None) or attempt.language
            if own_voice is None and self._types.get(attempt.provider) == self._types.get(
                plan[0].provider
            ):
                own_voice = self._voice(style, attempt)
            attempts.append(
                Attempt(
                    attempt.provider,
                    attempt.model,
                    {name: value for name, value in options.items() if value is not None},
                    own_voice,
                    language or style.language,
                    stand_in=attempt.stand_in,
                )
            )
        return attempts

    def _voice(self, style: Style, attempt: Attempt) -> str | None:
        """The client's voice; None where it is another vendor's and this one does not have it."""
        has = self._voices.get(attempt.provider)
        vendor, slash, _ = style.model.partition("/")
        foreign = slash and vendor not in (attempt.provider, self._types.get(attempt.provider))
        if style.voice is None or has is None or not foreign or has(style.voice):
            return style.voice
        return None
