"""What OpenAI's own models accept, and where they are asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers._openai.byte_relay import StreamRelay
from gateway.providers._openai.stream_reader import EventReader
from gateway.upstreams.chat import HasResponses
from gateway.upstreams.plan import Attempt
from tests.providers.chats import a_request, asked, upstream

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
def test_tools_with_reasoning_go_where_they_are_served(
    model: str, effort: str | None, way: str, sent_effort: str | None
) -> None:
    body: dict[str, Any] = {} if effort is None else {"reasoning_effort": effort}
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


def test_without_tools_nothing_changes_the_way() -> None:
    dial = upstream("openai").dial(a_request(reasoning_effort="high"), Attempt("x", "gpt-6.1-sol"))
    assert dial.url.endswith("/chat/completions")


def test_the_table_is_the_operators() -> None:
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
def test_reasoning_models_are_spared_what_they_refuse(
    model: str, effort: str | None, kept: set[str]
) -> None:
    given: dict[str, Any] = {"temperature": 1, "stop": ["x"], "top_p": 1, "presence_penalty": 1}
    body = given if effort is None else given | {"reasoning_effort": effort}
    assert set(asked("openai", model, **body)) & set(given) == kept


def test_reasoning_models_get_the_newer_name_of_the_limit() -> None:
    sent = asked("openai", "gpt-5", max_tokens=9)
    assert "max_tokens" not in sent
    assert sent["max_completion_tokens"] == 9


@pytest.mark.parametrize(
    ("vendor", "settings", "url"),
    [
        ("openai", {}, "https://api.openai.com/v1/responses"),
        ("openai", {"base_url": "http://127.0.0.1:9/v1"}, None),
        ("openai", {"base_url": "http://127.0.0.1:9/v1", "responses": True},
         "http://127.0.0.1:9/v1/responses"),
        ("openai", {"responses": False}, None),
        ("azure-openai", {"base_url": "https://x.openai.azure.com"},
         "https://x.openai.azure.com/openai/v1/responses"),
        ("openai-compatible", {"base_url": "http://127.0.0.1:9/v1", "responses": True},
         "http://127.0.0.1:9/v1/responses"),
    ],
)  # fmt: skip
def test_who_has_the_responses_api_is_asked_there(
    vendor: str, settings: dict[str, Any], url: str | None
) -> None:
    of = upstream(vendor, **settings)
    assert isinstance(of, HasResponses)
    dial = of.responses({"model": "m", "input": []}, Attempt("p", "gpt-x"))
    assert (None if dial is None else dial.url) == url
    if dial is not None:
        assert orjson.loads(dial.body) == {"model": "gpt-x", "input": []}
    assert not of.responses_reader(stream=False).streamed


@pytest.mark.parametrize(
    ("vendor", "settings"),
    [("openai-compatible", {}), ("azure-openai", {"api_version": "2024-10-21"}), ("groq", {})],
)
def test_others_have_none(vendor: str, settings: dict[str, Any]) -> None:
    assert not isinstance(upstream(vendor, **settings), HasResponses)
