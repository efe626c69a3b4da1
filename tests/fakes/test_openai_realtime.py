"""OpenAI's own realtime client takes the fake for the service."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes.openai_realtime import KEY, PIECE, PIECES, RATE, WORDS, FakeRealtime

SPEECH = base64.b64encode(b"\x10\x20" * (RATE // 2)).decode()
SILENCE = base64.b64encode(bytes(RATE)).decode()
TOOL: Any = {
    "type": "function", "name": "weather", "description": "of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


@pytest.fixture
def fake() -> Iterator[FakeRealtime]:
    with FakeRealtime() as fake:
        yield fake


def client(fake: FakeRealtime, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=fake.base_url, max_retries=0)


async def until(connection: Any, kind: str) -> list[Any]:
    """The events up to the first of this type."""
    events = []
    async with asyncio.timeout(20):
        async for event in connection:
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError([event.type for event in events])


async def test_text_is_asked_and_answered(fake: FakeRealtime) -> None:
    async with client(fake).realtime.connect(model="gpt-realtime") as connection:
        (created,) = await until(connection, "session.created")
        assert created.session.model == "gpt-realtime"
        session: Any = {"type": "realtime", "output_modalities": ["text"]}
        await connection.session.update(session=session)
        await until(connection, "session.updated")
        item: Any = {"type": "message", "role": "user",
                     "content": [{"type": "input_text", "text": "When is noon?"}]}  # fmt: skip
        await connection.conversation.item.create(item=item)
        await connection.response.create()
        events = await until(connection, "response.done")
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert tuple(said) == WORDS
    assert events[-1].response.usage.input_token_details.cached_tokens == 8


async def test_speech_is_heard_and_answered_in_speech(fake: FakeRealtime) -> None:
    async with client(fake).realtime.connect(model="gpt-realtime") as connection:
        for audio in (SPEECH, SILENCE):
            await connection.input_audio_buffer.append(audio=audio)
        events = await until(connection, "response.done")
        kinds = [event.type for event in events]
        assert kinds.index("input_audio_buffer.speech_stopped") < kinds.index("response.created")
        heard = [e.delta for e in events if e.type == "response.output_audio.delta"]
        assert b"".join(map(base64.b64decode, heard)) == PIECE * PIECES
        spoken = next(e.item_id for e in events if e.type == "response.output_audio.delta")
        await connection.conversation.item.truncate(
            item_id=spoken, content_index=0, audio_end_ms=200
        )
        (truncated,) = await until(connection, "conversation.item.truncated")
        assert truncated.audio_end_ms == 200


async def test_a_function_is_called(fake: FakeRealtime) -> None:
    async with client(fake).realtime.connect(model="gpt-realtime") as connection:
        session: Any = {"type": "realtime", "tools": [TOOL]}
        await connection.session.update(session=session)
        await connection.response.create()
        events = await until(connection, "response.done")
        call = events[-1].response.output[0]
        assert (call.type, call.name) == ("function_call", "weather")
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        events = await until(connection, "response.done")
        assert events[-1].response.output[0].type == "message"


async def test_a_wrong_key_is_refused_before_the_upgrade(fake: FakeRealtime) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused:
        async with client(fake, "sk-wrong").realtime.connect(model="gpt-realtime"):
            pass
    assert refused.value.response.status_code == 401
