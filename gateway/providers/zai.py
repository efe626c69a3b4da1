"""Z.ai: GLM. https://docs.z.ai/api-reference."""

from __future__ import annotations

from typing import Any

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, in_dialect
from gateway.upstreams.provider import Provider


def adapt(body: dict[str, Any], model: str) -> None:
    """Thinking is a switch; the model alone decides whether it calls a tool."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "thinking" not in body:
        body["thinking"] = {"type": "disabled" if effort in ("none", "minimal") else "enabled"}
    if body.get("tool_choice") not in (None, "auto"):
        body["tool_choice"] = "auto"


PROVIDER = Provider(
    title="Z.ai",
    base_url="https://api.z.ai/api/paas/v4",
    key_variable="ZAI_API_KEY",
    chat=in_dialect(
        Dialect(
            drop=OPENAI_ONLY
            | {"frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs",
               "logit_bias", "n", "metadata", "service_tier", "parallel_tool_calls", "user"},
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
            adapt=adapt,
        )
    ),
    chat_models={"zai/glm-5.1": "glm-5.1"},
)  # fmt: skip
