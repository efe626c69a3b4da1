"""POST /responses: what a client may send, and what providers are asked."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from gateway.conversations.chat import responses
from gateway.conversations.chat.responses import (
    ORIGINS_MAX,
    Asked,
    Origins,
    chat_body,
    native_body,
    state_item,
    with_options,
)
from gateway.upstreams.errors import Failure

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "12"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
USER = {"role": "user", "content": "hi"}


def asked(before: tuple[Any, ...] = (), **changes: Any) -> Asked:
    found = tried(before, **changes)
    assert isinstance(found, Asked), found
    return found


def tried(before: tuple[Any, ...] = (), **changes: Any) -> Asked | Failure:
    read = responses.read(orjson.dumps({"model": "m", "input": "hi"} | changes))
    return read if isinstance(read, Failure) else responses.asked(*read, before)


def test_a_request_becomes_a_chat_completion() -> None:
    made = chat_body(
        asked(
            instructions="Be brief.",
            input=[
                {"type": "message", "role": "developer", "content": "x"},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "data:x", "detail": "low"},
                        {"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}},
                        {"type": "input_file", "filename": "a", "file_data": "b"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "output_text", "text": "One "}]},
                CALL,
                {**CALL, "call_id": "c2"},
                RESULT,
                {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "13"}]},
            ],
            tools=[TOOL],
            tool_choice={"type": "function", "name": "f"},
            parallel_tool_calls=False,
            text={"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
            reasoning={"effort": "low"},
            max_output_tokens=50,
            temperature=0.5,
            metadata={"a": "b"},
            stream=True,
        )
    )
    assert made == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "x"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}},
                    {"type": "file", "file": {"filename": "a", "file_data": "b"}},
                ],
            },
            {
                "role": "assistant",
                "content": "One ",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "12"},
            {"role": "tool", "tool_call_id": "c2", "content": "13"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "temperature": 0.5,
        "metadata": {"a": "b"},
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input.0"),
        ({"input": [{"role": "user"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [USER] * 5000}, "input"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": "x"}, "tools"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": "yes"}, "store"),
        ({"reasoning": "low"}, "reasoning"),
        ({"text": []}, "text"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], named: str) -> None:
    found = tried(**changes)
    assert isinstance(found, Failure)
    assert found.param == named
    assert named.partition(".")[0] in found.message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools.1: 'web_search'"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input.0: 'web_search_call'"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice: 'mcp'"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [TOOL]}, None),
    ],
)
def test_what_only_the_responses_api_has_is_known(
    changes: dict[str, Any], named: str | None
) -> None:
    found = asked(**changes)
    assert found.native == named
    assert chat_body(found)["messages"]


def test_the_conversation_before_comes_first() -> None:
    found = asked((USER, CALL), input=[RESULT])
    assert [one["role"] for one in chat_body(found)["messages"]] == ["user", "assistant", "tool"]
    assert found.own == 1
    assert native_body(found, "a", lambda item: None, first=True)["input"] == [USER, CALL, RESULT]


def test_a_provider_with_the_api_gets_the_request_as_it_came_and_keeps_nothing() -> None:
    made = native_body(
        asked(store=True, previous_response_id="resp_1", fallback=["x"], reasoning={"a": 1}),
        "a",
        lambda item: None,
        first=True,
    )
    assert made == {
        "model": "m",
        "input": [{"role": "user", "content": "hi"}],
        "reasoning": {"a": 1},
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_options_of_a_deployment_have_the_names_of_a_chat_completion() -> None:
    options = {"reasoning_effort": "low", "max_tokens": 5, "verbosity": None, "user": None}
    made = with_options({"text": {"verbosity": "high"}, "user": "u", "a": 1}, options)
    assert made == {"a": 1, "reasoning": {"effort": "low"}, "max_output_tokens": 5}


@pytest.mark.parametrize(
    ("origin", "provider", "first", "kept"),
    [
        ("openai", "openai", False, True),
        ("openai", "xai", True, False),
        (None, "openai", True, True),
        (None, "xai", False, False),
    ],
)
def test_reasoning_goes_to_the_provider_that_wrote_it(
    origin: str | None, provider: str, first: bool, kept: bool
) -> None:
    found = asked(input=[USER, THOUGHT, CALL, RESULT])
    made = native_body(found, provider, lambda item: origin, first=first)["input"]
    assert (THOUGHT in made) is kept
    # a call's id asks for the reasoning before it
    assert (made[-2].get("id") == "fc_1") is kept


def test_who_wrote_reasoning_is_remembered_for_a_bounded_number() -> None:
    origins = Origins()
    for number in range(ORIGINS_MAX + 1):
        origins.note([{**THOUGHT, "encrypted_content": f"x{number}"}], "openai")
    assert origins.of({**THOUGHT, "encrypted_content": "x0"}) is None
    assert origins.of({**THOUGHT, "encrypted_content": "x1"}) == "openai"
    assert origins.of(THOUGHT) is None
    assert origins.of("nonsense") is None


def test_the_state_of_a_chat_completion_travels_in_a_reasoning_item() -> None:
    extra = {"google": {"thought_signature": "abc"}}
    of_call, of_message = state_item("rs_1", extra, "call"), state_item("rs_2", extra, "message")
    said = {"role": "assistant", "content": "Yes."}
    found = asked(input=[USER, said, of_message, USER, of_call, CALL, RESULT])
    messages = chat_body(found)["messages"]
    assert messages[1]["extra_content"] == extra
    assert messages[3]["tool_calls"][0]["extra_content"] == extra
    # it is nothing to a provider of the Responses API
    assert of_call not in native_body(found, "openai", lambda item: None, first=True)["input"]


def test_state_that_is_too_long_or_broken_is_left_out() -> None:
    assert state_item("rs_1", {"google": "x" * 100_000}, "call") is None
    broken = {"type": "reasoning", "encrypted_content": "parley1.###"}
    assert chat_body(asked(input=[USER, broken, CALL, RESULT]))["messages"][1]["tool_calls"]
    deep = base64.b64encode(b'{"call":' + b'{"a":' * 300 + b"1" + b"}" * 301).decode()
    nested = {"type": "reasoning", "encrypted_content": f"parley1.{deep}"}
    assert orjson.dumps(chat_body(asked(input=[USER, nested, CALL, RESULT])))


def test_an_answer_is_kept_unless_the_client_says_no() -> None:
    assert asked().stored
    assert asked(store=None).stored
    assert not asked(store=False).stored
    assert asked(generate=False).only_kept
