"""The official SDK accepts the fake."""

from __future__ import annotations

import openai
import pytest

from tests.fakes.openai_speech import FakeSpeechServer, spoken


async def said(fake: FakeSpeechServer, text: str) -> bytes:
    async with openai.AsyncOpenAI(api_key="x", base_url=fake.base_url, max_retries=0) as client:
        asked = client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=text, response_format="pcm"
        )
        async with asked as response:
            return b"".join([piece async for piece in response.iter_bytes()])


async def test_the_official_client_gets_the_samples() -> None:
    with FakeSpeechServer() as fake:
        assert await said(fake, "Hello there.") == spoken("Hello there.")


async def test_the_official_client_understands_its_errors() -> None:
    with FakeSpeechServer() as fake:
        fake.script("status:429")
        with pytest.raises(openai.RateLimitError):
            await said(fake, "Hello there.")
        with pytest.raises(openai.BadRequestError, match="input: missing"):
            await said(fake, "")


async def test_the_official_client_notices_a_break() -> None:
    with FakeSpeechServer() as fake:
        fake.utterances("close:0.1")
        with pytest.raises(Exception, match=r"incomplete|closed"):
            await said(fake, "Hello there.")
