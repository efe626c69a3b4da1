"""The official SDK accepts the fake."""

from __future__ import annotations

from typing import Any

import cartesia
import pytest

from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.voices import render

FORM = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}
VOICE: Any = {"mode": "id", "id": "v"}


async def spoken(fake: FakeCartesia, *texts: str) -> tuple[bytes, list[Any]]:
    client = cartesia.AsyncCartesia(
        api_key="x", websocket_base_url=fake.url.replace("http", "ws", 1)
    )
    events, audio = [], b""
    async with client, client.tts.websocket_connect() as connection:
        context = connection.context(
            model_id="sonic-3", voice=VOICE, output_format=FORM, add_timestamps=True
        )
        for text in texts:
            await context.push(text)
        await context.no_more_inputs()
        async for event in context.receive():
            events.append(event)
            if event.type == "chunk":
                audio += event.audio or b""
    return audio, events


async def test_the_official_client_hears_all_text_and_its_words() -> None:
    with FakeCartesia() as fake:
        audio, events = await spoken(fake, "Hello there. ", "How are you? ")
    assert audio == render("Hello there. ") + render("How are you? ")
    heard = [w for e in events if e.type == "timestamps" for w in e.word_timestamps.words]
    assert heard == ["Hello", "there.", "How", "are", "you?"]
    assert events[-1].type == "done"


async def test_the_official_client_understands_its_errors() -> None:
    with FakeCartesia() as fake:
        fake.utterances("error")
        _, events = await spoken(fake, "Hello there. ")
    assert events[-1].type == "error"
    assert events[-1].message == "model failure"


async def test_the_official_client_understands_a_refusal() -> None:
    with FakeCartesia() as fake:
        fake.script("status:429")
        with pytest.raises(Exception, match="429"):
            await spoken(fake, "Hello there. ")
