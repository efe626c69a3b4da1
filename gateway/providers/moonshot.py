"""Moonshot: Kimi. https://platform.moonshot.ai/docs/api/chat."""

from __future__ import annotations

from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Ended, Vendor

_DROPPED: Final = OPENAI_ONLY | frozenset(
    "seed service_tier metadata logit_bias user functions n logprobs top_logprobs "
    "parallel_tool_calls".split()
)


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


VENDOR = Vendor(
    title="Moonshot (Kimi)",
    base_url="https://api.moonshot.ai/v1",
    key_variable="MOONSHOT_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=_DROPPED,
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
            carry_reasoning=True,
            adapt=adapt,
        ),
        {f"moonshotai/{name}": name for name in ("kimi-k2.5", "kimi-k2.6", "*")},
        # the vendor has ended every K2 before 2.5 this spring, and never had one of this name
        {"moonshotai/kimi-k2-instruct": Ended("kimi-k2.6", "https://platform.moonshot.ai/docs")},
    ),
)
