"""Fireworks: https://docs.fireworks.ai/api-reference."""

from __future__ import annotations

from typing import Any

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor


def adapt(body: dict[str, Any], model: str) -> None:
    """An effort and the thinking switch exclude each other."""
    if "thinking" in body:
        body.pop("reasoning_effort", None)


VENDOR = Vendor(
    title="Fireworks",
    base_url="https://api.fireworks.ai/inference/v1",
    key_variable="FIREWORKS_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=OPENAI_ONLY | {"seed", "metadata", "service_tier"},
            rename=MAX_TOKENS,
            developer="system",
            stream_options=False,  # usage comes with the finish chunk in any case
            adapt=adapt,
        ),
        {"openai/gpt-oss-120b": "accounts/fireworks/models/gpt-oss-120b"},
    ),
)
