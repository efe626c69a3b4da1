"""What each chat vendor is asked, and how OpenAI's parameters are put for it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers._openai.byte_relay import StreamRelay, WholeRelay
from gateway.providers._openai.stream_reader import EventReader
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import find, type_names
from tests.providers.chats import HELLO, SIGNED, a_request, asked, turn, upstream

DIALECTS = [n for n in type_names() if find(n).chat is not None and n != "anthropic"]


@pytest.mark.parametrize("vendor", DIALECTS)
def test_everybody_is_asked_for_their_model_as_a_stream_with_the_tools_as_they_are(
    vendor: str,
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}]
    sent = asked(vendor, tools=tools, temperature=0.5, max_completion_tokens=9)
    assert sent["model"] == "m-1"
    assert sent["stream"] is True
    assert sent["tools"] == tools
    assert sent.get("max_completion_tokens", sent.get("max_tokens")) == 9


STRIPPED = {
    "google": "store metadata prompt_cache_key frequency_penalty service_tier user verbosity",
    "groq": "store metadata logprobs logit_bias prompt_cache_key",
    "cerebras": "frequency_penalty presence_penalty prompt_cache_key",
    "deepseek": "seed service_tier parallel_tool_calls max_completion_tokens reasoning_effort",
    "moonshot": "max_completion_tokens functions",
    "zai": "frequency_penalty seed logprobs max_completion_tokens",
    "xai": "max_completion_tokens presence_penalty stop",
    "together": "store metadata service_tier parallel_tool_calls",
    "fireworks": "seed max_completion_tokens stream_options",
    "baseten": "max_completion_tokens",
    "ollama": "max_completion_tokens logit_bias user",
    "mistral": "max_completion_tokens seed logprobs stream_options",
}


@pytest.mark.parametrize(
    ("vendor", "name"), [(v, name) for v, names in STRIPPED.items() for name in names.split()]
)
def test_what_a_vendor_refuses_is_left_out_or_renamed(vendor: str, name: str) -> None:
    everything: dict[str, Any] = {one: 1 for names in STRIPPED.values() for one in names.split()}
    everything |= {"stream_options": {"include_usage": True}, "reasoning_effort": "low"}
    assert name not in asked(vendor, **everything)


def test_what_the_operator_sets_for_a_deployment_is_not_dropped() -> None:
    assert asked("fireworks", options={"seed": 4})["seed"] == 4


@pytest.mark.parametrize("vendor", ["deepseek", "zai", "together", "baseten", "openrouter"])
def test_a_developer_is_the_system_to_those_who_know_no_developer(vendor: str) -> None:
    messages = [{"role": "developer", "content": "x"}, *HELLO]
    assert asked(vendor, messages=messages)["messages"][0]["role"] == "system"


def test_a_developer_stays_one_at_openai() -> None:
    messages = [{"role": "developer", "content": "x"}, *HELLO]
    assert asked("openai", messages=messages)["messages"] == messages


@pytest.mark.parametrize("vendor", ["groq", "xai"])
def test_names_of_messages_are_left_out(vendor: str) -> None:
    messages = [{"role": "user", "name": "Ann", "content": "x"}]
    assert "name" not in asked(vendor, messages=messages)["messages"][0]


@pytest.mark.parametrize("vendor", DIALECTS)
def test_state_of_one_vendor_never_reaches_another(vendor: str) -> None:
    sent = asked(vendor, "gemini-2", messages=turn(extra_content=SIGNED))
    (made,) = sent["messages"][1]["tool_calls"]
    kept = made.get("extra_content", {})
    assert "livekit" not in kept
    may_lead_to_google = vendor in ("google", "openai-compatible", "azure-openai")
    assert ("google" in kept) is may_lead_to_google


@pytest.mark.parametrize("vendor", ["deepseek", "moonshot"])
def test_thoughts_go_back_to_those_who_want_them(vendor: str) -> None:
    sent = asked(vendor, messages=turn(extra_content=SIGNED))
    assert sent["messages"][1]["reasoning_content"] == "hm"


def test_the_clients_own_messages_are_never_changed() -> None:
    messages = turn(extra_content=SIGNED)
    before = orjson.dumps(messages)
    for vendor in DIALECTS:
        asked(vendor, "gemini-3-flash", messages=messages)
    assert orjson.dumps(messages) == before


@pytest.mark.parametrize("vendor", ["deepseek", "ollama", "moonshot"])
def test_a_turn_of_calls_alone_has_a_content_where_one_is_wanted(vendor: str) -> None:
    assert asked(vendor, messages=turn())["messages"][1]["content"] == ""


def test_cache_breakpoints_reach_only_those_who_know_them() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    messages = [{"role": "user", "content": [part]}]
    for vendor, model, kept in (
        ("openai", "gpt-5.6-sol", True),
        ("openai", "gpt-4.1", False),
        ("groq", "x", False),
    ):
        (said,) = asked(vendor, model, messages=messages)["messages"][0]["content"]
        assert ("prompt_cache_breakpoint" in said) is kept


@pytest.mark.parametrize("vendor", ["deepseek", "moonshot", "zai"])
def test_effort_is_a_switch_where_thinking_is_one(vendor: str) -> None:
    assert asked(vendor, reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert asked(vendor, reasoning_effort="high")["thinking"] == {"type": "enabled"}
    assert vendor == "deepseek" or "thinking" not in asked(vendor)


# -- clean streams stay bytes


def test_only_clean_streams_are_relayed_as_bytes() -> None:
    attempt = Attempt("x", "m")
    assert isinstance(upstream("openai").reader(a_request(), attempt), StreamRelay)
    assert isinstance(upstream("openai").reader(a_request(stream=False), attempt), WholeRelay)
    assert isinstance(upstream("google").reader(a_request(), attempt), EventReader)
    own = upstream("openai-compatible", clean=True)
    assert isinstance(own.reader(a_request(), attempt), StreamRelay)
    assert isinstance(upstream("openai-compatible").reader(a_request(), attempt), EventReader)


def test_usage_is_always_asked_for_and_withheld_from_who_did_not_ask() -> None:
    request = a_request(usage=False)
    dial = upstream("openai").dial(request, Attempt("x", "m"))
    assert orjson.loads(dial.body)["stream_options"] == {"include_usage": True}
    assert isinstance(upstream("openai").reader(request, Attempt("x", "m")), EventReader)
