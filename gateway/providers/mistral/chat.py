"""Mistral's chat endpoint: https://docs.mistral.ai/api."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect

_ID = re.compile(r"[A-Za-z0-9]{9}")
"""What Mistral takes for the id of a tool call."""


def _short(call_id: Any) -> Any:
    """A call's id as Mistral takes it; the same for the call and for its result."""
    if not isinstance(call_id, str) or _ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def adapt(body: dict[str, Any], model: str) -> None:
    """Ids of calls that another provider made, `seed` and `tool_choice` by Mistral's names."""
    messages = []
    for message in body["messages"]:
        if isinstance(message, dict):
            if message.get("tool_call_id"):
                message = {**message, "tool_call_id": _short(message["tool_call_id"])}
            if isinstance(calls := message.get("tool_calls"), list):
                short = [
                    {**call, "id": _short(call.get("id"))} if isinstance(call, dict) else call
                    for call in calls
                ]
                message = {**message, "tool_calls": short}
        messages.append(message)
    body["messages"] = messages
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"


DIALECT: Final = Dialect(
    drop=OPENAI_ONLY
    | {"logprobs", "top_logprobs", "logit_bias", "user", "service_tier", "reasoning_effort"},
    rename={**MAX_TOKENS, "seed": "random_seed"},
    developer="system",
    call_content="",
    stream_options=False,  # usage comes with the last chunk in any case
    adapt=adapt,
)
