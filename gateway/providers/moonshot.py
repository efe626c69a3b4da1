"""Moonshot: Kimi. https://platform.moonshot.ai/docs/api/chat."""

from __future__ import annotations

from typing import Any

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, in_dialect
from gateway.upstreams.provider import Provider


def adapt(body: dict[str, Any], model: str) -> None:
    """Thinking is a switch; k2.5 and later want no temperature; a call cannot be required."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "thinking" not in body:
        body["thinking"] = {"type": "disabled" if effort in ("none", "minimal") else "enabled"}
    if model.startswith(("kimi-k2.5", "kimi-k2.6")):
        body.pop("temperature", None)
    elif isinstance(temperature := body.get("temperature"), int | float):
        body["temperature"] = min(temperature, 1.0)
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "auto"


PROVIDER = Provider(
    title="Moonshot (Kimi)",
    base_url="https://api.moonshot.ai/v1",
    key_variable="MOONSHOT_API_KEY",
    chat=in_dialect(
        Dialect(
            drop=OPENAI_ONLY
            | {"seed", "service_tier", "metadata", "logit_bias", "user", "functions", "n",
               "logprobs", "top_logprobs", "parallel_tool_calls"},
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
            carry_reasoning=True,
            adapt=adapt,
        )
    ),
    chat_models={f"moonshotai/{name}": name for name in ("kimi-k2.5", "kimi-k2.6", "*")},
)  # fmt: skip
