"""Anthropic's own SDK accepts the fake of its API.

It takes seconds to import, so that is done by the tests and not by every process that collects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.anthropic_messages import WORDS, FakeAnthropic

if TYPE_CHECKING:
    import anthropic


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


@pytest.fixture
async def sdk(fake: FakeAnthropic) -> AsyncIterator[anthropic.AsyncAnthropic]:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=fake.base_url, api_key="x", max_retries=0) as made:
        yield made


async def final(sdk: anthropic.AsyncAnthropic, say: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": f"say: {say}"}]
    async with sdk.messages.stream(
        model="claude-haiku-4-5", max_tokens=99, messages=messages, **more
    ) as stream:
        return await stream.get_final_message()


async def test_a_streamed_answer_is_read(sdk: anthropic.AsyncAnthropic) -> None:
    message = await final(sdk, "text")
    assert message.content[0].text == "".join(WORDS)
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 17)


async def test_calls_are_read(sdk: anthropic.AsyncAnthropic) -> None:
    tools = [{"name": "get_time", "input_schema": {"type": "object"}}]
    message = await final(sdk, "tools", tools=tools)
    assert message.content[1].input == {"city": "Oslo"}
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("invalid_request_error", "BadRequestError"),
        ("authentication_error", "AuthenticationError"),
        ("rate_limit_error", "RateLimitError"),
        ("overloaded_error", "InternalServerError"),
    ],
)
async def test_refusals_are_read(sdk: anthropic.AsyncAnthropic, kind: str, error: str) -> None:
    import anthropic

    with pytest.raises(getattr(anthropic, error)):
        await final(sdk, f"error:{kind}")


async def test_an_error_after_the_status_is_read(sdk: anthropic.AsyncAnthropic) -> None:
    import anthropic

    with pytest.raises(anthropic.APIStatusError, match="fake failure"):
        await final(sdk, "error-first")


async def test_what_the_api_refuses_is_refused(sdk: anthropic.AsyncAnthropic) -> None:
    import anthropic

    with pytest.raises(anthropic.BadRequestError, match="user role"):
        await sdk.messages.create(
            model="m", max_tokens=9, messages=[{"role": "assistant", "content": "x"}]
        )
