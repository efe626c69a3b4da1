"""xAI's chat endpoint: https://docs.x.ai/docs/api-reference."""

from __future__ import annotations

from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect


def adapt(body: dict[str, Any], model: str) -> None:
    """Reasoning models refuse penalties and stop sequences."""
    if "non-reasoning" not in model:
        for name in ("presence_penalty", "frequency_penalty", "stop"):
            body.pop(name, None)


DIALECT: Final = Dialect(
    drop=OPENAI_ONLY | {"metadata", "service_tier", "logit_bias"},
    rename=MAX_TOKENS,
    developer="system",
    message_names=False,
    extras=frozenset({"xai"}),
    adapt=adapt,
)
