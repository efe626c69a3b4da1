"""Whom to ask, in which order, and who is left after a failure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.upstreams.errors import Failure, FailureScope, Kind

Deployment = tuple[str, str]
"""A provider by its configured name, and its own name of the model."""


@dataclass(frozen=True, slots=True)
class FallbackModel:
    """A model that the client wants tried when the one it asked for fails, and options for it
    alone (None removes one)."""

    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: a provider by its configured name, and what to ask it for.

    `model` is the provider's own name of the model. `names` are those by which it came into the
    plan: what the client asked for, its fallback, aliases. Limits may hold for each of them.
    `options` are merged over what the client asked (a deployment's fixed parameters, a fallback's
    `extra`). `voice` and `language` are speech's; `language` is as the client wrote it ("de",
    "pt-BR"), "multi" for several, None where it said nothing: the adapter makes the vendor's form
    of it, or leaves it out. `context_tokens` is the model's window where it is known; `abilities`
    what it can do (see routing/abilities.py), None where nobody has said. `left_out` names the
    client's options that mean nothing to this provider. `stand_in` is the name of a model of our
    own that serves in place of a vendor with no provider.
    """

    provider: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    voice: str | None = None
    language: str | None = None
    context_tokens: int | None = None
    abilities: frozenset[str] | None = None
    names: frozenset[str] = field(default=frozenset(), compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)
    stand_in: str | None = None

    @property
    def deployment(self) -> Deployment:
        """Where it goes, whatever is asked."""
        return self.provider, self.model


Plan = tuple[Attempt, ...]
"""Attempts in order."""


def names_of(attempt: Attempt) -> frozenset[str]:
    """All names of what an attempt asks for: limits may hold for each."""
    stand_in = () if attempt.stand_in is None else (attempt.stand_in,)
    return attempt.names.union((f"{attempt.provider}/{attempt.model}", *stand_in))


def left_after(failure: Failure, failed: Attempt, rest: Plan) -> Plan:
    """Those of `rest` that may serve although `failed` ended in `failure`."""
    match failure.policy.scope:
        case FailureScope.REQUEST:
            return ()
        case FailureScope.PROVIDER:
            return tuple(attempt for attempt in rest if attempt.provider != failed.provider)
        case FailureScope.ATTEMPT:
            pass
    size = failed.context_tokens
    if failure.kind is Kind.CONTEXT_LENGTH and size is not None:
        return tuple(a for a in rest if a.context_tokens is None or a.context_tokens > size)
    return rest


def stand_ins_last(plan: Plan) -> Plan:
    """`plan` with what the caller named before what only stands in for it."""
    return tuple(sorted(plan, key=lambda attempt: attempt.stand_in is not None))


def only(providers: Collection[str], plan: Plan) -> Plan:
    """The attempts at some providers (`X-LiveKit-Inference-Provider`)."""
    return tuple(attempt for attempt in plan if attempt.provider in providers)
