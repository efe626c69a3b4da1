"""Z.ai: GLM. https://docs.z.ai/api-reference."""

from __future__ import annotations

from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

_DROPPED: Final = OPENAI_ONLY | frozenset(
    "frequency_penalty presence_penalty seed logprobs top_logprobs logit_bias n metadata "
    "service_tier parallel_tool_calls user".split()
)


def adapt(body: dict[str, Any], model: str) -> None:
    """Thinking is a switch; the model alone decides whether it calls a tool."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "thinking" not in body:
        body["thinking"] = {"type": "disabled" if effort in ("none", "minimal") else "enabled"}
    if body.get("tool_choice") not in (None, "auto"):
        body["tool_choice"] = "auto"


VENDOR = Vendor(
    title="Z.ai",
    base_url="https://api.z.ai/api/paas/v4",
    key_variable="ZAI_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=_DROPPED,
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
            adapt=adapt,
        ),
        {"zai/glm-5.1": "glm-5.1"},
    ),
)
