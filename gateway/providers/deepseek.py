"""DeepSeek: https://api-docs.deepseek.com.

Its names there (read in November 2026): `deepseek-flash`, and `deepseek-v4-pro`, which is the same
model for now. `deepseek-chat` and `deepseek-reasoner` have ended on 2026-07-24.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import orjson

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Ended, Vendor

_DROPPED: Final = OPENAI_ONLY | frozenset(
    "seed service_tier parallel_tool_calls metadata logit_bias user n".split()
)


def adapt(body: dict[str, Any], model: str) -> None:
    """Thinking is a switch here, and on unless it is told; a caller who waits for a voice and says
    nothing of it is answered at once. A schema is asked for in words."""
    effort = body.pop("reasoning_effort", None)
    if "thinking" not in body:
        thinks = effort not in (None, "none", "minimal")
        body["thinking"] = {"type": "enabled" if thinks else "disabled"}
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
        {
            "deepseek-ai/deepseek-flash": "deepseek-flash",
            "deepseek-ai/deepseek-v4-pro": "deepseek-v4-pro",
            "deepseek-ai/*": "*",
        },
        dict.fromkeys(
            ("deepseek-ai/deepseek-v3", "deepseek-ai/deepseek-v3.1", "deepseek-ai/deepseek-v3.2"),
            Ended("deepseek-flash", "https://api-docs.deepseek.com", date(2026, 7, 24)),
        ),
    ),
)
