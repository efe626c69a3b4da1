"""Whom to ask, in which order, and who is left after a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.upstreams.errors import Failure, FailureScope


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: a provider by its configured name, and what to ask it for.

    `model` is the provider's own name of the model. `options` are merged over what the client
    asked (a deployment's fixed parameters, a fallback's `extra`). `voice` and `language` are
    speech's. `context_tokens` is the model's window where it is known.
    """

    provider: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    voice: str | None = None
    language: str | None = None
    context_tokens: int | None = None


Plan = tuple[Attempt, ...]
"""Attempts in order. A retry is the same attempt twice."""


def after(failure: Failure, plan: Plan) -> Plan:
    """What is left of `plan` once its first attempt ended in `failure`."""
    if not plan:
        return ()
    failed, *rest = plan
    match failure.reach:
        case FailureScope.REQUEST:
            return ()
        case FailureScope.PROVIDER:
            return tuple(attempt for attempt in rest if attempt.provider != failed.provider)
        case FailureScope.ATTEMPT:
            return tuple(rest)


def only(provider: str, plan: Plan) -> Plan:
    """The attempts at one provider (`X-LiveKit-Inference-Provider`)."""
    return tuple(attempt for attempt in plan if attempt.provider == provider)
