"""The fake is believed by the official SDK, so what it plays is what a provider could say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from tests.fakes import openai_chat
from tests.fakes.openai_chat import ERROR_SHAPES, ERROR_STATUSES, SCENARIOS, FakeOpenAI

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
SAID = "".join(openai_chat.WORDS)


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def fake(provider: FakeOpenAI) -> FakeOpenAI:
    provider.forget()
    return provider


@pytest.fixture
async def client(fake: FakeOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=fake.base_url, api_key="x", max_retries=0, timeout=60
    ) as client:
        yield client


async def chunks(client: openai.AsyncOpenAI, scenario: str, **more: Any) -> list[Any]:
    stream = await client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=[{"role": "user", "content": f"say: {scenario}"}],
        stream=True,
        stream_options={"include_usage": True},
        **more,
    )
    return [chunk async for chunk in stream]


def content(heard: list[Any]) -> str:
    deltas = [choice.delta for chunk in heard for choice in chunk.choices]
    return "".join(delta.content or "" for delta in deltas if delta)


@pytest.mark.parametrize(
    "scenario",
    [
        "text", "reasoning", "reasoning:reasoning", "usage-on-each", "usage-on-finish",
        "usage-in-x-groq", "usage-absent", "without-done", "first-without-choices", "delta-null",
        "comments", "crlf", "slow-first-token:0.2", "slow-headers:0.2", "stall:0.2",
    ],
)  # fmt: skip
async def test_a_good_answer_is_heard_whole(client: openai.AsyncOpenAI, scenario: str) -> None:
    assert content(await chunks(client, scenario)) == SAID


async def test_usage_comes_last_when_it_was_asked_for(client: openai.AsyncOpenAI) -> None:
    heard = await chunks(client, "text")

    assert heard[-1].choices == []
    assert heard[-1].usage.prompt_tokens_details.cached_tokens == 4


async def test_characters_survive_being_split_over_writes(client: openai.AsyncOpenAI) -> None:
    assert content(await chunks(client, "drip")) == "naïve 😀 café"


@pytest.mark.parametrize(
    ("scenario", "entries"),
    [
        ("tools", 5),
        ("tools-two-in-one-chunk", 2),
        ("tools-same-index", 2),
        ("tool-without-id", 1),
        ("tool-without-index", 1),
        ("tool-repeated-name", 3),
        ("tool-finish:eos", 1),
        ("tool-finish:empty", 1),
        ("tool-after-text", 1),
    ],
)
async def test_calls_arrive_in_the_pieces_that_were_sent(
    client: openai.AsyncOpenAI, scenario: str, entries: int
) -> None:
    heard = await chunks(client, scenario, tools=TOOLS)

    deltas = [choice.delta for chunk in heard for choice in chunk.choices]
    assert sum(len(delta.tool_calls or []) for delta in deltas) == entries


async def test_without_a_stream_the_answer_comes_in_one_piece(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "say: tools"}], tools=TOOLS
    )

    made = answer.choices[0].message.tool_calls
    assert made is not None
    assert [one.function.arguments for one in made if one.type == "function"] == [
        '{"city":"Oslo"}',
        '{"city":"Rome"}',
    ]
    assert answer.usage is not None


async def test_a_structured_answer_follows_the_schema(client: openai.AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}

    assert content(await chunks(client, "structured", response_format=wanted)) == '{"city": "x"}'


@pytest.mark.parametrize(
    ("status", "shape"),
    [*((status, "openai") for status in ERROR_STATUSES), *((503, shape) for shape in ERROR_SHAPES)],
)
async def test_a_refusal_has_the_status_and_any_shape(
    client: openai.AsyncOpenAI, status: int, shape: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        await chunks(client, f"status:{status}:{shape}")

    assert raised.value.status_code == status


@pytest.mark.parametrize(
    ("hint", "header"),
    [("seconds", "retry-after"), ("ms", "retry-after-ms"), ("date", "retry-after")],
)
async def test_a_rate_limit_says_when_to_come_back(
    client: openai.AsyncOpenAI, hint: str, header: str
) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await chunks(client, f"rate-limited:{hint}")

    assert header in raised.value.response.headers


@pytest.mark.parametrize(
    "scenario",
    [
        "reset-before-headers", "reset-before-content", "reset-after-content",
        "cut-before-content", "cut-after-content", "cut-in-event", "not-http",
        "hang-before-headers", "hang-before-first-token", "hang-after-role", "stall",
    ],
)  # fmt: skip
async def test_a_broken_connection_is_an_error(client: openai.AsyncOpenAI, scenario: str) -> None:
    with pytest.raises(Exception) as raised:  # the SDK lets httpx errors through
        await chunks(client.with_options(timeout=1), scenario)

    assert raised.type.__module__.split(".")[0] in ("openai", "httpx", "httpx2")


@pytest.mark.parametrize(
    "scenario", ["error-before-content", "error-after-content", "error-finish"]
)
async def test_an_error_event_is_an_error(client: openai.AsyncOpenAI, scenario: str) -> None:
    with pytest.raises(openai.APIError):
        await chunks(client, scenario)


@pytest.mark.parametrize("scenario", ["ends-without-finish", "done-without-finish"])
async def test_a_clean_but_early_end_looks_like_an_answer(
    client: openai.AsyncOpenAI, scenario: str
) -> None:
    assert content(await chunks(client, scenario)) == "Hello there,"


async def test_a_line_of_two_megabytes_arrives(client: openai.AsyncOpenAI) -> None:
    heard = content(await chunks(client, "huge-line"))

    assert len(heard) == len("Hello") + openai_chat.HUGE_LINE_BYTES


async def test_refused_connections_fail_until_it_listens_again(
    fake: FakeOpenAI, client: openai.AsyncOpenAI
) -> None:
    fake.refuse()
    with pytest.raises(openai.APIConnectionError):
        await chunks(client, "text")
    fake.listen()

    assert content(await chunks(client, "text")) == SAID


async def test_a_client_that_goes_away_is_noticed(
    fake: FakeOpenAI, client: openai.AsyncOpenAI
) -> None:
    stream: Any = await client.chat.completions.create(
        model="endless", messages=[{"role": "user", "content": "go on"}], stream=True
    )
    await anext(stream)
    left = fake.received[-1]
    await stream.close()
    assert content(await chunks(client, "text")) == SAID
    assert left.disconnected_early, "still writing to nobody while the next was served"


async def test_the_request_is_recorded(fake: FakeOpenAI, client: openai.AsyncOpenAI) -> None:
    await chunks(client, "text", seed=7)

    exchange = fake.completions[-1]
    assert exchange.body["seed"] == 7
    assert exchange.headers["authorization"] == "Bearer x"
    assert exchange.scenario == "text"
    assert exchange.failure is None


async def test_a_script_goes_before_the_message(
    fake: FakeOpenAI, client: openai.AsyncOpenAI
) -> None:
    fake.script("status:503", "text:first|second")
    with pytest.raises(openai.InternalServerError):
        await chunks(client, "text")

    assert content(await chunks(client, "tools")) == "firstsecond"


async def test_a_signature_must_come_back(client: openai.AsyncOpenAI) -> None:
    heard = await chunks(client, "gemini-signature", tools=TOOLS)
    deltas = [choice.delta for chunk in heard for choice in chunk.choices]
    entry = next(delta.tool_calls[0] for delta in deltas if delta.tool_calls)
    turns: Any = [
        {"role": "user", "content": "say: gemini-signature"},
        {"role": "assistant", "tool_calls": [entry.model_dump(exclude={"index"})]},
        {"role": "tool", "tool_call_id": entry.id, "content": "noon"},
    ]

    answer = await client.chat.completions.create(model="gemini", messages=turns)
    assert answer.choices[0].message.content == SAID

    del turns[1]["tool_calls"][0]["extra_content"]
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="gemini", messages=turns)


async def test_the_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["gpt-4.1-mini", "gpt-4.1"]


def test_every_scenario_has_a_name_that_can_be_said() -> None:
    assert all(":" not in name for name in SCENARIOS)
