"""OpenRouter: https://openrouter.ai/docs/api-reference."""

from __future__ import annotations

from typing import Any

from gateway.providers._openai.dialect import Dialect, openai_chat
from gateway.upstreams.provider import Vendor


def adapt(body: dict[str, Any], model: str) -> None:
    """Effort is part of an object here."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "reasoning" not in body:
        body["reasoning"] = {"enabled": False} if effort == "none" else {"effort": effort}


VENDOR = Vendor(
    title="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    key_variable="OPENROUTER_API_KEY",
    chat=openai_chat(
        Dialect(drop=frozenset({"store", "prediction"}), developer="system", adapt=adapt),
        {"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
    ),
)
