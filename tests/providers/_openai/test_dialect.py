"""What each chat vendor is asked, and how OpenAI's parameters are put for it."""

from typing import Any

import orjson
import pytest

from gateway.providers._openai.byte_relay import StreamRelay, WholeRelay
from gateway.providers._openai.dialect import OpenAIChat
from gateway.providers._openai.stream_reader import EventReader
from gateway.upstreams.chat import MARKS, ChatRequest
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import find, type_names

DIALECTS = [n for n in type_names() if find(n).chat is not None and n != "anthropic"]
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


def asked(vendor: str, model: str = "m-1", options: dict | None = None, **body: Any) -> dict:
    dial = upstream(vendor).dial(a_request(**body), Attempt(vendor, model, options or {}))
    sent: dict = orjson.loads(dial.body)
    return sent


@pytest.mark.parametrize("vendor", DIALECTS)
def test_everybody_is_asked_for_their_model_as_a_stream_with_the_tools_as_they_are(vendor: str):
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
def test_what_a_vendor_refuses_is_left_out_or_renamed(vendor: str, name: str):
    everything = {one: 1 for names in STRIPPED.values() for one in names.split()}
    everything |= {"stream_options": {"include_usage": True}, "reasoning_effort": "low"}
    assert name not in asked(vendor, **everything)


def test_what_the_operator_sets_for_a_deployment_is_not_dropped():
    assert asked("fireworks", options={"seed": 4})["seed"] == 4


@pytest.mark.parametrize("vendor", ["deepseek", "zai", "together", "baseten", "openrouter"])
def test_a_developer_is_the_system_to_those_who_know_no_developer(vendor: str):
    messages = [{"role": "developer", "content": "x"}, *HELLO]
    assert asked(vendor, messages=messages)["messages"][0]["role"] == "system"


def test_a_developer_stays_one_at_openai():
    messages = [{"role": "developer", "content": "x"}, *HELLO]
    assert asked("openai", messages=messages)["messages"] == messages


@pytest.mark.parametrize("vendor", ["groq", "xai"])
def test_names_of_messages_are_left_out(vendor: str):
    messages = [{"role": "user", "name": "Ann", "content": "x"}]
    assert "name" not in asked(vendor, messages=messages)["messages"][0]


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED = {"google": {"thought_signature": "s"}, "livekit": {"reasoning_content": "hm"}}


def turn(**extra: Any) -> list[dict]:
    return [
        *HELLO,
        {"role": "assistant", "tool_calls": [CALL | extra]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]


@pytest.mark.parametrize("vendor", DIALECTS)
def test_state_of_one_vendor_never_reaches_another(vendor: str):
    sent = asked(vendor, "gemini-2", messages=turn(extra_content=SIGNED))
    (made,) = sent["messages"][1]["tool_calls"]
    kept = made.get("extra_content", {})
    assert "livekit" not in kept
    may_lead_to_google = vendor in ("google", "openai-compatible", "azure-openai")
    assert ("google" in kept) is may_lead_to_google


@pytest.mark.parametrize("vendor", ["deepseek", "moonshot"])
def test_thoughts_go_back_to_those_who_want_them(vendor: str):
    sent = asked(vendor, messages=turn(extra_content=SIGNED))
    assert sent["messages"][1]["reasoning_content"] == "hm"


def test_the_clients_own_messages_are_never_changed():
    messages = turn(extra_content=SIGNED)
    before = orjson.dumps(messages)
    for vendor in DIALECTS:
        asked(vendor, "gemini-3-flash", messages=messages)
    assert orjson.dumps(messages) == before


def test_a_call_that_no_gemini_signed_gets_googles_placeholder():
    sent = asked("google", "gemini-3-flash", messages=turn())
    (made,) = sent["messages"][1]["tool_calls"]
    assert made["extra_content"]["google"]["thought_signature"].startswith("skip_")
    sent = asked("google", "gemini-3-flash", messages=turn(extra_content=SIGNED))
    (made,) = sent["messages"][1]["tool_calls"]
    assert made["extra_content"] == {"google": {"thought_signature": "s"}}
    assert "extra_content" not in str(asked("google", "gemini-2.5-flash", messages=turn()))


@pytest.mark.parametrize("vendor", ["deepseek", "ollama", "moonshot"])
def test_a_turn_of_calls_alone_has_a_content_where_one_is_wanted(vendor: str):
    assert asked(vendor, messages=turn())["messages"][1]["content"] == ""


def test_mistral_gets_ids_it_takes_the_same_for_call_and_result():
    messages = asked("mistral", messages=turn())["messages"]
    call_id = messages[1]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert messages[2]["tool_call_id"] == call_id


def test_cache_breakpoints_reach_only_those_who_know_them():
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    messages = [{"role": "user", "content": [part]}]
    for vendor, model, kept in (
        ("openai", "gpt-5.6-sol", True),
        ("openai", "gpt-4.1", False),
        ("groq", "x", False),
    ):
        (said,) = asked(vendor, model, messages=messages)["messages"][0]["content"]
        assert ("prompt_cache_breakpoint" in said) is kept


def test_a_schema_becomes_words_where_there_are_no_schemas():
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}}
    sent = asked("deepseek", response_format=wanted)
    assert sent["response_format"] == {"type": "json_object"}
    assert '{"a":1}' in sent["messages"][-1]["content"]


@pytest.mark.parametrize("vendor", ["deepseek", "moonshot", "zai"])
def test_effort_is_a_switch_where_thinking_is_one(vendor: str):
    assert asked(vendor, reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert asked(vendor, reasoning_effort="high")["thinking"] == {"type": "enabled"}
    assert "thinking" not in asked(vendor)


# -- clean streams stay bytes


def test_only_clean_streams_are_relayed_as_bytes():
    attempt = Attempt("x", "m")
    assert isinstance(upstream("openai").reader(a_request(), attempt), StreamRelay)
    assert isinstance(upstream("openai").reader(a_request(stream=False), attempt), WholeRelay)
    assert isinstance(upstream("google").reader(a_request(), attempt), EventReader)
    own = upstream("openai-compatible", clean=True)
    assert isinstance(own.reader(a_request(), attempt), StreamRelay)
    assert isinstance(upstream("openai-compatible").reader(a_request(), attempt), EventReader)


def test_usage_is_always_asked_for_and_withheld_from_who_did_not_ask():
    request = a_request(usage=False)
    dial = upstream("openai").dial(request, Attempt("x", "m"))
    assert orjson.loads(dial.body)["stream_options"] == {"include_usage": True}
    assert isinstance(upstream("openai").reader(request, Attempt("x", "m")), EventReader)


# -- OpenAI's own models

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}]


@pytest.mark.parametrize(
    ("model", "effort", "way", "sent_effort"),
    [
        ("gpt-4.1", None, "chat", None),
        ("gpt-5", "low", "chat", "low"),
        ("gpt-5.2", None, "chat", None),
        ("gpt-5.4", "none", "chat", "none"),
        ("gpt-5.4", "low", "responses", "low"),
        ("gpt-5.6-sol", None, "chat", "none"),
        ("gpt-5.6-sol", "none", "chat", "none"),
        ("gpt-5.6-sol", "low", "responses", "low"),
        ("gpt-6-luna", None, "chat", "none"),
        ("gpt-6-luna", "high", "responses", "high"),
        ("gpt-6.1-sol", None, "responses", None),
        ("gpt-6.1-sol", "none", "responses", "low"),
        ("gpt-6-astra", None, "responses", None),
    ],
)
def test_tools_with_reasoning_go_where_they_are_served(model, effort, way, sent_effort):
    body = {} if effort is None else {"reasoning_effort": effort}
    request, attempt = a_request(tools=TOOLS, **body), Attempt("openai", model)
    of = upstream("openai")
    dial = of.dial(request, attempt)
    sent = orjson.loads(dial.body)
    if way == "chat":
        assert dial.url.endswith("/chat/completions")
        assert sent.get("reasoning_effort") == sent_effort
        assert isinstance(of.reader(request, attempt), StreamRelay)
    else:
        assert dial.url.endswith("/v1/responses")
        assert sent.get("reasoning", {}).get("effort") == sent_effort
        assert isinstance(of.reader(request, attempt), EventReader)


def test_without_tools_nothing_changes_the_way():
    dial = upstream("openai").dial(a_request(reasoning_effort="high"), Attempt("x", "gpt-6.1-sol"))
    assert dial.url.endswith("/chat/completions")


def test_the_table_is_the_operators():
    own = upstream("openai", tools={"gpt-9": "responses"})
    assert own.dial(a_request(tools=TOOLS), Attempt("x", "gpt-9-sol")).url.endswith("/responses")
    assert own.dial(a_request(tools=TOOLS), Attempt("x", "gpt-6.1")).url.endswith("completions")


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        ("gpt-4.1", None, {"temperature", "stop", "top_p", "presence_penalty"}),
        ("o3-mini", None, {"stop"}),
        ("gpt-5", None, {"stop"}),
        ("gpt-5.1", "none", {"stop", "temperature", "top_p"}),
        ("gpt-5.1-chat-latest", None, {"temperature", "stop", "top_p", "presence_penalty"}),
        ("gpt-6-sol", "low", set()),
        ("gpt-6-sol", "none", {"temperature", "stop", "top_p", "presence_penalty"}),
    ],
)
def test_reasoning_models_are_spared_what_they_refuse(model: str, effort: str | None, kept: set):
    given = {"temperature": 1, "stop": ["x"], "top_p": 1, "presence_penalty": 1}
    body = given if effort is None else given | {"reasoning_effort": effort}
    assert set(asked("openai", model, **body)) & set(given) == kept


def test_reasoning_models_get_the_newer_name_of_the_limit():
    sent = asked("openai", "gpt-5", max_tokens=9)
    assert "max_tokens" not in sent
    assert sent["max_completion_tokens"] == 9


# -- Azure


def test_azure_has_the_key_in_its_own_header_and_openais_paths():
    azure = upstream("azure-openai", base_url="https://r.openai.azure.com")
    dial = azure.dial(a_request(), Attempt("a", "dep"))
    assert dial.url == "https://r.openai.azure.com/openai/v1/chat/completions"
    assert dial.headers["api-key"] == "k"
    assert "authorization" not in dial.headers


def test_a_dated_azure_api_has_the_deployment_in_the_path():
    azure = upstream(
        "azure-openai",
        base_url="https://r.openai.azure.com",
        api_version="2024-10-21",
        bearer=True,
    )
    dial = azure.dial(a_request(), Attempt("a", "dep"))
    path = "/openai/deployments/dep/chat/completions?api-version=2024-10-21"
    assert dial.url == "https://r.openai.azure.com" + path
    assert dial.headers["authorization"] == "Bearer k"
