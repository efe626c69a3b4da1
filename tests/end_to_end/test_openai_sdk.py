"""The official OpenAI SDK pointed at the server, as people do with other clients of that API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import openai
import pytest

from tests.end_to_end.conftest import Upstreams
from tests.end_to_end.server import Server
from tests.fakes.openai_chat import HUGE_LINE_BYTES, WORDS

SAID = "".join(WORDS)
MODEL = "openai/gpt-4.1-mini"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def token(server: Server, **claims: Any) -> str:
    now = int(time.time())
    made = {"iss": server.api_key, "sub": "agent", "nbf": now, "exp": now + 600}
    made |= {"inference": {"perform": True}, **claims}
    return jwt.encode(made, server.api_secret, algorithm="HS256")


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=token(server), max_retries=0, timeout=60
    ) as sdk:
        yield sdk


async def chunks(sdk: openai.AsyncOpenAI, scenario: str, **more: Any) -> list[Any]:
    stream = await sdk.chat.completions.create(
        model=MODEL,
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
        "text", "reasoning", "usage-on-each", "usage-on-finish", "usage-absent", "without-done",
        "first-without-choices", "delta-null", "comments", "crlf", "stall:0.3",
    ],
)  # fmt: skip
async def test_a_good_answer_arrives_whole(sdk: openai.AsyncOpenAI, scenario: str) -> None:
    assert content(await chunks(sdk, scenario)) == SAID


async def test_characters_that_were_split_arrive_whole(sdk: openai.AsyncOpenAI) -> None:
    assert content(await chunks(sdk, "drip")) == "naïve 😀 café"


async def test_a_line_of_two_megabytes_arrives_or_is_an_error(sdk: openai.AsyncOpenAI) -> None:
    try:
        heard = content(await chunks(sdk, "huge-line"))
    except openai.APIError:
        return  # a bound on the length of a line is allowed; a short answer is not
    assert len(heard) == len(WORDS[0]) + HUGE_LINE_BYTES


@pytest.mark.parametrize(
    "scenario",
    [
        "cut-after-content", "reset-after-content", "cut-in-event", "ends-without-finish",
        "error-after-content", "error-finish",
    ],
)  # fmt: skip
async def test_a_broken_answer_never_ends_cleanly(sdk: openai.AsyncOpenAI, scenario: str) -> None:
    with pytest.raises(Exception) as raised:  # the SDK lets errors of httpx through
        await chunks(sdk, scenario)

    assert raised.type.__module__.split(".")[0] in ("openai", "httpx", "httpx2")


@pytest.mark.parametrize(
    "scenario", ["ends-empty", "ends-before-content", "garbage", "html", "error-before-content"]
)
async def test_no_answer_at_all_is_an_error(sdk: openai.AsyncOpenAI, scenario: str) -> None:
    with pytest.raises(openai.APIError):
        await chunks(sdk, scenario)


@pytest.mark.parametrize("scenario", ["tools", "tool-after-text", "tool-finish:stop"])
async def test_without_a_stream_calls_come_in_one_piece(
    sdk: openai.AsyncOpenAI, scenario: str
) -> None:
    answer = await sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": f"say: {scenario}"}], tools=TOOLS
    )

    made = answer.choices[0].message.tool_calls
    assert made
    assert made[0].type == "function"
    assert made[0].function.arguments == '{"city":"Oslo"}'
    assert answer.usage is not None


async def test_what_the_server_does_not_know_is_passed_on(
    sdk: openai.AsyncOpenAI, upstreams: Upstreams
) -> None:
    upstreams.good.forget()
    extra = {"prompt_cache_key": "k", "verbosity": "low", "something_new": [1, None]}

    await chunks(sdk, "text", extra_body=extra)

    (request,) = upstreams.good.completions
    assert {key: request.body[key] for key in extra} == extra


async def test_the_callers_token_goes_no_further(
    sdk: openai.AsyncOpenAI, upstreams: Upstreams
) -> None:
    upstreams.good.forget()

    await chunks(sdk, "text")

    (request,) = upstreams.good.completions
    assert sdk.api_key not in str(request.headers.values())


async def test_the_models_are_those_that_can_be_served(sdk: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in sdk.models.list()]

    assert MODEL in listed
    assert "test/refused" in listed


async def test_a_model_that_is_not_served_is_not_found(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.create(
            model="nobody/nothing", messages=[{"role": "user", "content": "Hello"}]
        )


async def test_a_client_that_leaves_takes_its_upstream_along(
    sdk: openai.AsyncOpenAI, upstreams: Upstreams
) -> None:
    fake = upstreams.good
    fake.forget()
    stream: Any = await sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "say: endless"}], stream=True
    )
    await anext(stream)

    await stream.close()

    assert fake.wait_until(lambda: fake.completions[0].disconnected_early)


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"exp": 1}, openai.AuthenticationError),
        ({"nbf": 4_000_000_000, "exp": 4_000_000_600}, openai.AuthenticationError),
        ({"iss": "APInobody"}, openai.AuthenticationError),
        ({"inference": {}}, openai.PermissionDeniedError),
    ],
    ids=["expired", "not yet valid", "unknown key", "without the grant"],
)
async def test_a_token_that_is_not_good_enough_is_refused(
    server: Server, claims: dict[str, Any], wanted: type[openai.APIStatusError]
) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=token(server, **claims), max_retries=0
    ) as sdk:
        with pytest.raises(wanted):
            await sdk.models.list()


async def test_a_model_is_told_by_its_name_and_an_unknown_one_is_not_found(
    sdk: openai.AsyncOpenAI,
) -> None:
    assert (await sdk.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        await sdk.models.retrieve("nobody/x")
