"""What a request needs of a model, and which deployments have shown that they lack it. Pure.

Facts come from the configuration (`abilities:` of a deployment) and from refusals, which are
remembered for a while: a model without eyes need not be asked about every picture.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Deployment, Plan

REMEMBERED_S: Final = 600.0
"""How long a refusal counts: servers are restarted with other models and options."""

DEPLOYMENTS_MAX: Final = 256
"""Deployments about which something is remembered; the one longest without news is forgotten."""

BYTES_PER_TOKEN: Final = 3.0
"""A cautious estimate for text; tokens of English have four."""

ABILITIES: Final = ("tools", "images", "json_schema")
"""What `abilities:` of a deployment may name."""

_WORDS: Final[Mapping[str, re.Pattern[str]]] = {
    "tools": re.compile(r"\b(tools?|function)", re.IGNORECASE),
    "images": re.compile(r"image|vision|multimodal|mmproj", re.IGNORECASE),
    "json_schema": re.compile(r"json|response_format|schema", re.IGNORECASE),
}
"""How refusals speak of an ability."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs: some of ABILITIES, and a window for so many tokens (estimated)."""

    abilities: frozenset[str] = frozenset()
    tokens: int = 0


@dataclass(slots=True)
class _Facts:
    lacks: dict[str, float]  # ability -> until when that counts
    window: tuple[int, float] | None = None  # tokens that were too many, until when that counts


class Abilities:
    """Orders plans by what deployments can do. One for each process."""

    def __init__(self) -> None:
        self._facts: OrderedDict[Deployment, _Facts] = OrderedDict()

    def order(self, plan: Plan, needs: Needs, now: float) -> Plan | Failure:
        """`plan` with those last that are likely to refuse. What the configuration says a
        deployment cannot do is not asked of it; a failure if nobody is left then."""
        able = tuple(attempt for attempt in plan if not _declared_unable(attempt, needs))
        if not able and plan:
            lacking = ", ".join(sorted(needs.abilities - (plan[0].abilities or frozenset())))
            return Failure(
                Kind.UNABLE, f"no deployment of this model is configured for: {lacking}", "model"
            )
        if not self._facts:
            return able
        likely = [not self._refuses(attempt, needs, now) for attempt in able]
        if all(likely):
            return able
        return tuple(a for a, good in zip(able, likely, strict=True) if good) + tuple(
            a for a, good in zip(able, likely, strict=True) if not good
        )

    def learn(self, attempt: Attempt, failure: Failure, needs: Needs, now: float) -> None:
        """What a refusal says about its deployment."""
        if failure.kind is Kind.CONTEXT_LENGTH and needs.tokens:
            facts = self._of(attempt.deployment)
            facts.window = (needs.tokens, now + REMEMBERED_S)
        elif failure.kind is Kind.UNABLE and failure.upstream_status is not None:
            named = {a for a in needs.abilities if _WORDS[a].search(failure.message)}
            if not named and len(needs.abilities) == 1:
                named = set(needs.abilities)
            for ability in named:
                self._of(attempt.deployment).lacks[ability] = now + REMEMBERED_S

    def _refuses(self, attempt: Attempt, needs: Needs, now: float) -> bool:
        facts = self._facts.get(attempt.deployment)
        if facts is None:
            return False
        if any(facts.lacks.get(ability, now) > now for ability in needs.abilities):
            return True
        return (
            facts.window is not None and now < facts.window[1] and needs.tokens >= facts.window[0]
        )

    def _of(self, deployment: Deployment) -> _Facts:
        facts = self._facts.setdefault(deployment, _Facts({}))
        self._facts.move_to_end(deployment)
        if len(self._facts) > DEPLOYMENTS_MAX:
            self._facts.popitem(last=False)
        return facts


def _declared_unable(attempt: Attempt, needs: Needs) -> bool:
    return attempt.abilities is not None and not needs.abilities <= attempt.abilities


def needs_of(body: Mapping[str, Any], size_bytes: int, *, images: bool) -> Needs:
    """What a chat completions body needs. `size_bytes` is its length; `images`: whether it holds
    any, whose bytes are no tokens."""
    abilities = set()
    if body.get("tools"):
        abilities.add("tools")
    if images:
        abilities.add("images")
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        abilities.add("json_schema")
    return Needs(frozenset(abilities), 0 if images else int(size_bytes / BYTES_PER_TOKEN))
