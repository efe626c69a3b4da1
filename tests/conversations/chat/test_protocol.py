"""What a client may ask."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given

from gateway.conversations.chat.protocol import MESSAGES_MAX, TOOLS_MAX, read_request
from gateway.conversations.messages import FALLBACKS_MAX, JSON_DEPTH_MAX
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import FallbackModel
from tests.conversations.hostile import anything, assert_is_a_clear_refusal, nested

REQUEST: dict[str, Any] = {
    "model": "openai/gpt-4.1-mini",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "fallback": {"models": [{"model": "groq/x", "extra": {"seed": 1}}, "xai/y"]},
    "n": 1,
    "stop": ["x"],
    "reasoning_effort": "low",
}


def test_a_request_keeps_what_is_not_known() -> None:
    request = read_request(b'{"model": "m", "messages": [{}], "stream": true, "new_thing": 1}')
    assert isinstance(request, ChatRequest)
    assert request.stream
    assert request.body["new_thing"] == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "model"),
        (b'{"model": 4}', "model"),
        (b'{"model": ""}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": "hello"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [{}], "stream": "yes"}', "stream"),
    ],
)
def test_a_bad_request_hears_which_field_and_what_was_expected(body: bytes, named: str) -> None:
    failure = read_request(body)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    assert named in failure.message


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [{}] * (MESSAGES_MAX + 1)}, "messages"),
        ({"messages": [{}, {"content": [1] * (MESSAGES_MAX + 1)}]}, "messages.1.content"),
        ({"messages": [{"content": [1] * 2100}] * 2}, "messages.1.content"),
        ({"messages": [{"tool_calls": [{}] * 2100}] * 2}, "messages.1.tool_calls"),
        ({"messages": [{}], "tools": [{}] * (TOOLS_MAX + 1)}, "tools"),
    ],
)
def test_more_than_can_be_looked_at_quickly_is_refused(fields: dict[str, Any], place: str) -> None:
    failure = read_request(json.dumps({"model": "m", **fields}).encode())
    assert isinstance(failure, Failure)
    assert (failure.status, failure.param) == (400, place)
    assert "at most" in failure.message or f"1 to {MESSAGES_MAX}" in failure.message


def test_json_inside_of_strings_is_bounded_over_all_messages() -> None:
    arguments = json.dumps({"a": [{}] * 9000})
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "tool_calls": [call]}
    assert isinstance(
        read_request(json.dumps({"model": "m", "messages": [message] * 2}).encode()), ChatRequest
    )
    failure = read_request(json.dumps({"model": "m", "messages": [message] * 3}).encode())
    assert isinstance(failure, Failure)
    assert failure.status == 413
    assert failure.param == "messages.2.tool_calls.0.function.arguments"


@given(anything(REQUEST))
def test_whatever_comes_is_a_request_that_can_be_written_or_a_clear_refusal(text: str) -> None:
    request = read_request(text.encode("utf-8", "surrogatepass"))
    if isinstance(request, Failure):
        assert_is_a_clear_refusal(request)
    else:
        orjson.dumps({"one": [{"deeper": [request.body]}]})
        assert all(one.model for one in request.fallbacks)


def read(**changes: Any) -> ChatRequest | Failure:
    return read_request(json.dumps(REQUEST | changes).encode())


def refused(**changes: Any) -> Failure:
    failure = read(**changes)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    return failure


def test_the_clients_list_of_models_is_not_for_the_provider() -> None:
    request = read()
    assert isinstance(request, ChatRequest)
    assert request.fallbacks == (FallbackModel("groq/x", {"seed": 1}), FallbackModel("xai/y"))
    assert request.body == {key: value for key, value in REQUEST.items() if key != "fallback"}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "up/ok\0"}, "model"),
        ({"model": "up/\x1b[2Jok"}, "model"),
        ({"n": 2}, "n"),
        ({"stream": 1}, "stream"),
        ({"tools": 5}, "tools"),
        ({"stop": 5}, "stop"),
        ({"reasoning_effort": []}, "reasoning_effort"),
        ({"messages": [{"tool_calls": 5}]}, "messages.0.tool_calls"),
        ({"fallback": "x"}, "fallback"),
        ({"fallback": [{"model": "a"}, {}]}, "fallback.1.model"),
        ({"fallback": {"models": ["a\0"]}}, "fallback.models.0.model"),
        ({"models": [{"model": "a", "extra": 5}]}, "models.0.extra"),
        ({"fallbacks": ["a"] * (FALLBACKS_MAX + 1)}, "fallbacks"),
        ({"fallbacks": ["a"] * FALLBACKS_MAX}, "fallback"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], param: str) -> None:
    failure = refused(**changes)
    assert failure.param == param
    assert failure.message.startswith(f"{param}: expected ")


def test_a_whole_number_that_would_become_another_is_refused() -> None:
    failure = refused(seed=1 << 70)
    assert failure.message == "seed: expected a number of at most 64 bits"
    read(seed=(1 << 63) - 1, temperature=0.5)


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "models", "callback"])
def test_a_fallbacks_parameters_do_not_replace_what_was_asked(name: str) -> None:
    failure = refused(fallback=[{"model": "a/b", "extra": {name: None}}])
    assert failure.param == f"fallback.0.extra.{name}"


@pytest.mark.parametrize(
    ("messages", "marks"),
    [
        ([{"role": "user", "content": "the developer has extra_content"}], set()),
        ([{"role": "developer", "content": "x"}], {"developer"}),
        ([{"role": "assistant", "extra_content": {}}], {"extra_content"}),
        ([{"role": "assistant", "tool_calls": [{"extra_content": {}}]}], {"extra_content"}),
        ([{"content": [{"prompt_cache_breakpoint": 1}]}], {"prompt_cache_breakpoint"}),
        (["x", None, {"content": ["x"], "tool_calls": ["x", {"function": 5}]}], set()),
    ],
)
def test_what_only_some_providers_understand_is_noticed(
    messages: list[Any], marks: set[str]
) -> None:
    request = read(messages=messages)
    assert isinstance(request, ChatRequest)
    assert request.marks == marks


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": nested(254)},
        {"messages": [{"role": "user", "content": nested(254)}]},
        {"tools": [nested(254, "{")]},
        {"fallback": [{"model": "a", "extra": {"x": nested(254)}}]},
        {
            "messages": [
                {"tool_calls": [{"function": {"arguments": json.dumps({"x": nested(254)})}}]}
            ]
        },
        {"messages": [{"tool_calls": [{"function": {"arguments": "[" * 2000 + "]" * 2000}}]}]},
    ],
)
def test_what_is_nested_too_deep_to_be_written_is_refused(changes: dict[str, Any]) -> None:
    assert f"{JSON_DEPTH_MAX} levels" in refused(**changes).message


def test_arguments_that_are_no_json_are_left_to_the_provider() -> None:
    calls = [{"function": {"arguments": "{" * 600}}]
    assert isinstance(read(messages=[{"tool_calls": calls}]), ChatRequest)
