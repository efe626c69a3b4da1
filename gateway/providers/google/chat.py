"""Gemini's OpenAI-compatible endpoint: https://ai.google.dev/gemini-api/docs/openai."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect

PLACEHOLDER: Final = "skip_thought_signature_validator"
"""Google's own stand-in for calls that no Gemini signed: those of a turn that another provider
served before a fallback."""

_SIGNING = re.compile(r"gemini-(?:[3-9]|\d\d)")
"""Gemini 3 and later refuse a call in the history without its signature."""


def sign(body: dict[str, Any], model: str) -> None:
    """Put the placeholder where a required signature is missing: on the first call of a turn."""
    if not _SIGNING.search(model):
        return
    messages = []
    for message in body["messages"]:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list) and calls and isinstance(calls[0], dict):
            first, *others = calls
            extra = first.get("extra_content")
            google = extra.get("google") if isinstance(extra, dict) else None
            if not (isinstance(google, dict) and google.get("thought_signature")):
                signed = {"google": {"thought_signature": PLACEHOLDER}}
                message = {**message, "tool_calls": [{**first, "extra_content": signed}, *others]}
        messages.append(message)
    body["messages"] = messages


DIALECT: Final = Dialect(
    # an unknown field at the top is a 400: 'Unknown name "store": Cannot find field'
    drop=OPENAI_ONLY
    | {"metadata", "frequency_penalty", "presence_penalty", "logit_bias", "service_tier", "user",
       "top_k", "reasoning", "parallel_tool_calls", "logprobs", "top_logprobs"},
    developer="system",
    extras=frozenset({"google"}),
    adapt=sign,
)  # fmt: skip
