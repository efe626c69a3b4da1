"""Mistral's chat endpoint: https://docs.mistral.ai/api."""

from __future__ import annotations

from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect
from gateway.providers._shared.history import MISTRAL


def adapt(body: dict[str, Any], model: str) -> None:
    """`tool_choice` by Mistral's name."""
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"


DIALECT: Final = Dialect(
    drop=OPENAI_ONLY
    | {"logprobs", "top_logprobs", "logit_bias", "user", "service_tier", "reasoning_effort"},
    rename={**MAX_TOKENS, "seed": "random_seed"},
    developer="system",
    call_content="",
    history=MISTRAL,
    stream_options=False,  # usage comes with the last chunk in any case
    adapt=adapt,
)
