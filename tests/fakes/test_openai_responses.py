"""OpenAI's own SDK accepts the fake of its Responses API."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from tests.fakes.openai_responses import WORDS, FakeResponses

TOOL: Any = {
    "type": "function",
    "name": "get_time",
    "parameters": {"type": "object"},
    "strict": False,
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeResponses]:
    with FakeResponses() as server:
        yield server


@pytest.fixture
async def sdk(fake: FakeResponses) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="x", max_retries=0) as made:
        yield made


async def test_text_is_read(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.stream(
        model="gpt-6.1-sol", input=[{"role": "user", "content": "hi"}]
    ) as stream:
        response = await stream.get_final_response()
    assert response.output_text == "".join(WORDS)
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 5


async def test_calls_are_read(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.stream(
        model="gpt-6.1-sol", input=[{"role": "user", "content": "hi"}], tools=[TOOL]
    ) as stream:
        response = await stream.get_final_response()
    call = response.output[1]
    assert call.type == "function_call"
    assert call.arguments == '{"city":"Oslo"}'


async def test_chat_completions_are_refused(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="use /v1/responses"):
        await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


async def test_an_answer_at_once_is_read(sdk: openai.AsyncOpenAI) -> None:
    response = await sdk.responses.create(model="m", input="hi")
    assert response.output_text == "".join(WORDS)


async def test_an_answer_that_is_cut_short_is_read(
    fake: FakeResponses, sdk: openai.AsyncOpenAI
) -> None:
    fake.script("incomplete")
    kinds = [one.type async for one in await sdk.responses.create(model="m", input="", stream=True)]
    assert kinds[-1] == "response.incomplete"


@pytest.mark.parametrize("scenario", ["cut-after-content", "error-after-content", "garbage"])
async def test_an_answer_that_breaks_off_is_an_error_or_has_no_end(
    fake: FakeResponses, sdk: openai.AsyncOpenAI, scenario: str
) -> None:
    fake.script(scenario)
    stream = await sdk.responses.create(model="m", input="hi", stream=True)
    kinds = []
    try:
        async for one in stream:
            kinds.append(one.type)
    except Exception as error:
        assert type(error).__module__.split(".")[0] in ("openai", "httpx", "httpx2", "json")  # noqa: PT017
    assert "response.completed" not in kinds
