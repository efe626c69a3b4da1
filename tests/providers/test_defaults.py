"""Defaults that differ between chat completions and what a request is translated to are said aloud.

Each row: what the caller leaves out, and what the other protocol is told in its place, because its
own default is another.
"""

from typing import Any

import pytest

from gateway.providers._openai.responses import to_responses
from gateway.providers.anthropic import to_messages

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


def at(made: Any, place: str) -> Any:
    for name in place.split("."):
        made = made[int(name)] if name.isdecimal() else made[name]
    return made


@pytest.mark.parametrize(
    ("left_out", "body", "place", "said"),
    [
        ("store is false here, true there", {}, "store", False),
        ("a tool is loose here, strict there", {"tools": [TOOL]}, "tools.0.strict", False),
        ("a schema is loose here", {"response_format": SCHEMA}, "text.format.strict", False),
        (
            "an image has a detail there",
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "input.0.content.0.detail",
            "auto",
        ),
    ],
)
def test_responses_is_told(left_out: str, body: dict[str, Any], place: str, said: object) -> None:
    made = to_responses({"model": "m", "messages": [{"role": "user", "content": "x"}], **body})
    assert at(made, place) == said, left_out


def test_what_a_caller_says_is_not_replaced() -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [strict], "store": True}
    made = to_responses(body)
    assert made["tools"][0]["strict"] is True
    assert made["store"] is True


@pytest.mark.parametrize(
    ("left_out", "body", "place", "said"),
    [
        ("a limit is wanted there", {}, "max_tokens", 4096),
        ("a tool needs a schema there", {"tools": [{"function": {"name": "f"}}]},
         "tools.0.input_schema.type", "object"),
        ("calls in parallel are switched off inside the choice there",
         {"tools": [TOOL], "parallel_tool_calls": False},
         "tool_choice.disable_parallel_tool_use", True),
    ],
)  # fmt: skip
def test_messages_is_told(left_out: str, body: dict[str, Any], place: str, said: object) -> None:
    made = to_messages({"messages": [{"role": "user", "content": "x"}], **body}, "m", 4096)
    assert at(made, place) == said, left_out
