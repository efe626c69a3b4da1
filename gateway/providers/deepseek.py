"""DeepSeek: https://api-docs.deepseek.com."""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

_DROPPED: Final = OPENAI_ONLY | frozenset(
    "seed service_tier parallel_tool_calls metadata logit_bias user n".split()
)


def adapt(body: dict[str, Any], model: str) -> None:
    """Thinking is a switch here; a schema is asked for in words."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "thinking" not in body:
        body["thinking"] = {"type": "disabled" if effort in ("none", "minimal") else "enabled"}
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        body["response_format"] = {"type": "json_object"}
        schema = wanted.get("json_schema")
        body["messages"] = [*body["messages"], _asking_for(schema)]


def _asking_for(schema: Any) -> dict[str, str]:
    inner = schema.get("schema") if isinstance(schema, dict) else None
    text = orjson.dumps(inner or {}).decode()
    return {"role": "system", "content": f"Answer with JSON of this JSON schema: {text}"}


VENDOR = Vendor(
    title="DeepSeek",
    base_url="https://api.deepseek.com/v1",
    key_variable="DEEPSEEK_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=_DROPPED,
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
            carry_reasoning=True,
            adapt=adapt,
        ),
        # the vendor's one name for its current chat model
        {
            "deepseek-ai/deepseek-v3": "deepseek-chat",
            "deepseek-ai/deepseek-v3.2": "deepseek-chat",
            "deepseek-ai/*": "*",
        },
    ),
)
