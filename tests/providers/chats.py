"""Requests of chat clients, and what a vendor of chat is asked for them."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.providers._openai.dialect import OpenAIChat
from gateway.upstreams.chat import MARKS, ChatRequest
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import find

HELLO = [{"role": "user", "content": "hi"}]


def a_request(*, stream: bool = True, usage: bool = True, **body: Any) -> ChatRequest:
    whole = {"model": "m", "messages": HELLO, "stream": stream, **body}
    text = orjson.dumps(whole).decode()
    return ChatRequest(
        whole, "m", stream, usage=usage, marks=frozenset(m for m in MARKS if m in text)
    )


def upstream(vendor: str, **settings: Any) -> OpenAIChat:
    found = find(vendor)
    if found.base_url is None:
        settings.setdefault("base_url", "http://127.0.0.1:9/v1")
    made = found.settings(type=vendor, api_key="k", **settings)
    assert found.chat is not None
    adapter = found.chat.adapter(found.account(vendor, made))
    assert isinstance(adapter, OpenAIChat)
    return adapter


def asked(
    vendor: str, model: str = "m-1", options: dict[str, Any] | None = None, **body: Any
) -> dict[str, Any]:
    dial = upstream(vendor).dial(a_request(**body), Attempt(vendor, model, options or {}))
    sent: dict[str, Any] = orjson.loads(dial.body)
    return sent


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED = {"google": {"thought_signature": "s"}, "livekit": {"reasoning_content": "hm"}}


def turn(**extra: Any) -> list[dict[str, Any]]:
    """A history with one tool call, which has these further fields, and its result."""
    return [
        *HELLO,
        {"role": "assistant", "tool_calls": [CALL | extra]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
