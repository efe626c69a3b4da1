"""Providers with protocols of their own, through the real server, to OpenAI's SDK and LiveKit's
client; quotas and usage records of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.server.auth import mint
from tests import services
from tests.end_to_end.clients import Client
from tests.end_to_end.server import Server, running
from tests.fakes import anthropic_messages, openai_responses
from tests.fakes.anthropic_messages import FakeAnthropic
from tests.fakes.openai_chat import WORDS, FakeOpenAI
from tests.fakes.openai_responses import FakeResponses

CLAUDE = "anthropic/claude-haiku-4-5"
REASONING = "openai/gpt-6.1-sol"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("get_time", "get_weather")
]


@dataclass
class Place:
    """A server, the providers behind it and where its usage is kept."""

    server: Server
    claude: FakeAnthropic
    responses: FakeResponses
    good: FakeOpenAI
    config: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("chat_providers")
    with ExitStack() as stack:
        claude = stack.enter_context(FakeAnthropic())
        responses = stack.enter_context(FakeResponses())
        good = stack.enter_context(FakeOpenAI())
        database = stack.enter_context(services.postgres())
        redis = stack.enter_context(services.redis(folder))
        config = f"""
providers:
  anthropic: {{api_key: k, base_url: "{claude.base_url}"}}
  openai: {{api_key: k, base_url: "{responses.base_url}"}}
  good: {{type: openai-compatible, base_url: "{good.base_url}", api_key: k}}
models:
  test/claude: [anthropic/claude-haiku-4-5, {{provider: good, model: m}}]
  test/limited: [{{provider: good, model: m}}]
quota:
  redis_url: {redis.url}
  models: {{test/limited: {{requests_per_minute: 1}}}}
prices:
  anthropic/*: {{input: 1000000, cached_input: 0, output: 1000000}}
usage: {{url: "{database.url}", flush_s: 0.1}}
"""
        server = stack.enter_context(running(folder, config))
        yield Place(server, claude, responses, good, folder / "gateway.yaml")


@pytest.fixture(autouse=True)
def nothing_scripted(place: Place) -> None:
    for fake in (place.claude, place.responses, place.good):
        fake.forget()


@pytest.fixture
async def sdk(place: Place) -> AsyncIterator[openai.AsyncOpenAI]:
    token = mint(place.server.api_key, place.server.api_secret, identity="agent", ttl_s=600)
    async with openai.AsyncOpenAI(
        base_url=f"{place.server.url}/v1", api_key=token, max_retries=0, timeout=60
    ) as made:
        yield made


async def answer(sdk: openai.AsyncOpenAI, model: str, messages: Any, **more: Any) -> Any:
    """The whole answer as the SDK puts it together from its stream."""
    async with sdk.chat.completions.stream(
        model=model, messages=messages, stream_options={"include_usage": True}, **more
    ) as stream:
        return await stream.get_final_completion()


def say(text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


async def test_claude_speaks_openais_protocol(sdk: openai.AsyncOpenAI, place: Place) -> None:
    made = await answer(sdk, CLAUDE, say("say: text"))
    (choice,) = made.choices
    assert choice.message.content == "".join(anthropic_messages.WORDS)
    assert choice.finish_reason == "stop"
    assert made.usage.prompt_tokens == 17
    assert made.usage.prompt_tokens_details.cached_tokens == 4
    sent = place.claude.received[-1].body
    assert sent["system"] == "Be brief."
    assert sent["model"] == "claude-haiku-4-5"


async def test_an_answer_of_claudes_that_is_wanted_whole_comes_whole(
    sdk: openai.AsyncOpenAI,
) -> None:
    messages: Any = say("say: text")
    made = await sdk.chat.completions.create(model=CLAUDE, messages=messages)
    assert made.choices[0].message.content == "".join(anthropic_messages.WORDS)


async def test_claude_calls_tools_and_takes_their_results(
    sdk: openai.AsyncOpenAI, place: Place
) -> None:
    messages = say("say: tools")
    first = (await answer(sdk, CLAUDE, messages, tools=TOOLS)).choices[0]
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls
    assert [call.function.name for call in calls] == ["get_time", "get_weather"]
    assert json.loads(calls[1].function.arguments) == {"city": "Oslo"}
    messages.append(
        {
            "role": "assistant",
            "content": first.message.content,
            "tool_calls": [call.model_dump(include={"id", "type", "function"}) for call in calls],
        }
    )
    messages += [{"role": "tool", "tool_call_id": c.id, "content": "noon"} for c in calls]
    second = (await answer(sdk, CLAUDE, messages, tools=TOOLS)).choices[0]
    assert second.message.content == "It is noon."


async def test_claude_sees_images(sdk: openai.AsyncOpenAI, place: Place) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}]
    await answer(sdk, CLAUDE, [{"role": "user", "content": parts}])
    source = place.claude.received[-1].body["messages"][0]["content"][1]["source"]
    assert source == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


@pytest.mark.parametrize(
    "scenario",
    ["error-first", "error:overloaded_error", "error:api_error", "cut-before-content"],
)
async def test_when_claude_fails_another_answers(
    sdk: openai.AsyncOpenAI, place: Place, scenario: str
) -> None:
    place.claude.script(scenario)
    made = await answer(sdk, "test/claude", say("Hello"))
    assert made.choices[0].message.content == "".join(WORDS)


async def test_when_claude_breaks_off_the_client_is_told(
    sdk: openai.AsyncOpenAI, place: Place
) -> None:
    with pytest.raises(openai.APIError):
        await answer(sdk, CLAUDE, say("say: error-after-content"))
    with pytest.raises(openai.APIError):
        await answer(sdk, CLAUDE, say("say: ends-early"))


async def test_tools_with_reasoning_go_by_the_responses_api_and_back(
    sdk: openai.AsyncOpenAI, place: Place
) -> None:
    messages = say("What time is it?")
    first = (await answer(sdk, REASONING, messages, tools=TOOLS, reasoning_effort="low")).choices[0]
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls
    assert [call.id for call in calls] == ["call_0", "call_1"]
    messages.append(
        {
            "role": "assistant",
            "tool_calls": [
                {**c.model_dump(include={"id", "type", "function"}), **(c.model_extra or {})}
                for c in calls
            ],
        }
    )
    messages += [{"role": "tool", "tool_call_id": c.id, "content": "noon"} for c in calls]
    second = await answer(sdk, REASONING, messages, tools=TOOLS, reasoning_effort="low")
    assert second.choices[0].message.content == "".join(openai_responses.WORDS)
    assert second.usage.completion_tokens_details.reasoning_tokens == 5
    one, two = place.responses.received
    assert one.path == two.path == "/v1/responses"
    assert one.body["reasoning"] == {"effort": "low"}
    kinds = [item.get("type") for item in two.body["input"]]
    assert kinds[2:] == ["reasoning", *["function_call"] * 2, *["function_call_output"] * 2]


async def test_asking_for_the_models_warms_the_connections(
    sdk: openai.AsyncOpenAI, place: Place
) -> None:
    assert "test/claude" in [one.id async for one in sdk.models.list()]
    assert place.good.wait_until(lambda: [r for r in place.good.received if r.method == "GET"])


async def test_a_quota_answers_in_openais_form_with_headers(
    sdk: openai.AsyncOpenAI, place: Place
) -> None:
    await answer(sdk, "test/limited", say("Hello"))
    with pytest.raises(openai.RateLimitError) as caught:
        await answer(sdk, "test/limited", say("Hello"))
    error = caught.value
    body: Any = error.body
    assert body["type"] == "inference_quota_exceeded"
    assert body["quota_type"] == "rpm"
    assert body["hint"]
    assert int(error.response.headers["retry-after"]) >= 1
    assert error.response.headers["x-livekit-inference-rpm-limit"] == "1"


async def test_usage_is_recorded_and_shown(sdk: openai.AsyncOpenAI, place: Place) -> None:
    await answer(sdk, CLAUDE, say("say: text"), extra_headers={"X-LiveKit-Room-ID": "RM_usage"})

    def shown() -> str:
        command = [sys.executable, "-m", "gateway", "usage", "--config", str(place.config)]
        command += ["--by", "room,model", "--since", "1h", "--format", "csv"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found: list[str] = []

    def appeared() -> bool:
        found[:] = [line for line in shown().splitlines() if line.startswith("RM_usage,")]
        return bool(found)

    services.wait_until(appeared)
    (line,) = found
    cells = line.split(",")
    assert cells[1:4] == [CLAUDE, "1", "0"]
    assert cells[5:8] == ["17", "4", "17"]
    assert float(cells[-1]) == pytest.approx(13 + 17)


def test_livekits_client_falls_back_from_claude_with_tools_and_a_schema(
    current_client: Client, place: Place
) -> None:
    place.claude.script(*["error:overloaded_error"] * 8)
    chats = [
        {"name": "tools", "text": "say: tools", "model": "test/claude"},
        {"name": "schema", "text": "say: structured", "model": "test/claude", "structured": True,
         "tools": False},
    ]  # fmt: skip
    events = current_client.drive(
        "drive_llm", "--tools", "--follow-up", *map(json.dumps, chats),
        environment=place.server.agent_environment(),
    )  # fmt: skip
    calls = [e for e in events if e.get("chat") == "tools" and e["event"] == "tool_call"]
    assert {call["name"] for call in calls} == {"get_time", "get_weather"}
    said = [e for e in events if e.get("chat") == "schema" and e["event"] == "content"]
    text = "".join(str(e.get("text", "")) for e in said)
    assert set(json.loads(text)) == {"city", "floor"}
