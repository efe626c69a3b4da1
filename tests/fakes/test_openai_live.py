"""OpenAI's own client of the Live API takes the fake for the service."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from tests.fakes.openai_live import KEY, PIECE, RATE, WORDS, FakeLive

SPEECH = base64.b64encode(b"\x10\x20" * (RATE // 2)).decode()
SILENCE = base64.b64encode(bytes(RATE)).decode()
TOOL: Any = {
    "type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}},
}  # fmt: skip


@pytest.fixture
def fake() -> Iterator[FakeLive]:
    with FakeLive() as fake:
        yield fake


def connect(fake: FakeLive, key: str = KEY) -> Any:
    return openai.AsyncOpenAI(api_key=key, base_url=fake.base_url).live.connect()


async def until(connection: Any, kind: str) -> list[Any]:
    """The events up to the first of this type."""
    events = []
    async with asyncio.timeout(20):
        async for event in connection:
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError([event.type for event in events])


async def test_it_listens_and_speaks(fake: FakeLive) -> None:
    async with connect(fake) as connection:
        await connection.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        (started,) = await until(connection, "session.started")
        assert started.session.model == "gpt-live-1"
        for audio in (SPEECH, SILENCE):
            await connection.send({"type": "session.input_audio.append", "audio": audio})
        events = await until(connection, "session.usage.updated")
        said = [e.delta for e in events if e.type == "session.output_transcript.delta"]
        assert tuple(said) == WORDS
        spoken = [e.delta for e in events if e.type == "session.output_audio.delta"]
        assert base64.b64decode(spoken[0]) == PIECE
        assert events[-1].usage.seconds == 2.0
        await connection.send({"type": "session.close"})
        events = await until(connection, "session.closed")
        assert events[-1].reason == "close_requested"


async def test_it_delegates(fake: FakeLive) -> None:
    responses = {"model": "gpt-5.6-luna", "tools": [TOOL]}
    session = {
        "model": "gpt-live-1", "delegation": {"type": "responses", "responses": responses},
    }  # fmt: skip
    async with connect(fake) as connection:
        await connection.send({"type": "session.start", "session": session})
        await until(connection, "session.started")
        append = {"type": "session.commentary.append", "delegation_id": None, "content": "speak"}
        await connection.send(append)
        events: list[Any] = []
        while not (events and events[-1].event["type"] == "response.completed"):
            events += await until(connection, "response.event")
        call = next(e.event["item"] for e in events if e.type == "response.event"
                    and e.event["type"] == "response.output_item.done")  # fmt: skip
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}
        await connection.send({"type": "response.item.create", "item": output})
        await connection.send({"type": "response.create"})
        events = await until(connection, "session.usage.updated")
        assert "session.output_transcript.delta" in [event.type for event in events]


async def test_a_wrong_key_is_refused(fake: FakeLive) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(fake, "sk-wrong"):
            pass
    assert refused.value.response.status_code == 401
