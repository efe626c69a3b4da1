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
