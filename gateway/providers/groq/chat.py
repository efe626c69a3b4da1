"""Groq's chat endpoint: https://console.groq.com/docs/api-reference."""

from __future__ import annotations

from typing import Any, Final

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect

_TIERS: Final = frozenset({"auto", "on_demand", "flex", "performance"})


def adapt(body: dict[str, Any], model: str) -> None:
    """Groq's tiers have names of their own."""
    if body.get("service_tier") not in (None, *_TIERS):
        del body["service_tier"]


DIALECT: Final = Dialect(
    drop=OPENAI_ONLY | {"n", "metadata", "logprobs", "top_logprobs", "logit_bias"},
    message_names=False,
    adapt=adapt,
)
