"""`local/cascade`: the realtime protocol with no provider at all, heard by OpenAI's client.

It hears, thinks and speaks on this machine's cores, and needs them for itself:
`PARLEY_CONSOLE=1 pytest tests/end_to_end/test_cascade_local.py`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import wave
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.audio.resample import Resampler
from gateway.server.auth import mint
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fetched_weights import fetched, smollm2

if os.environ.get("PARLEY_CONSOLE") != "1":
    pytest.skip("the whole agent wants the cores for itself", allow_module_level=True)

SPEECH = made_folder() / "interruption-libri-1034.wav"
RATE = 24_000
PATIENCE_S = 120.0
"""A busy machine loads four models and runs them beside other tests."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "PARLEY_CACHE": str(fetched("silero-vad", "whisper-base", "kokoro", "smart-turn")),
        "PYTHONPATH": str(smollm2()),
    }
    with running(tmp_path_factory.mktemp("local"), "log: {format: json}\n", environment) as started:
        yield started


def speech() -> bytes:
    """Somebody who reads a sentence, at the protocol's rate."""
    with wave.open(str(SPEECH)) as file:
        pcm = file.readframes(file.getnframes())
        resampler = Resampler(file.getframerate(), RATE)
    return resampler.feed(pcm) + resampler.finish()


async def microphone(call: Any) -> None:
    """What a microphone sends: the sentence, and then silence without end."""
    pcm, step = speech(), 2 * RATE // 10
    while True:
        piece, pcm = pcm[:step].ljust(step, b"\0"), pcm[step:]
        await call.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
        await asyncio.sleep(0.1)


async def test_a_caller_is_heard_and_answered_by_this_machine_alone(server: Server) -> None:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    session: Any = {
        "type": "realtime",
        "instructions": "Answer with one short sentence.",
        "max_output_tokens": 24,
        "audio": {
            "input": {
                "transcription": {"model": "whisper-1", "language": "en"},
                "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
            }
        },
    }
    heard, audio = "", 0
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token) as client:
        assert "local/cascade" in [model.id async for model in client.models.list()]
        async with (
            client.realtime.connect(model="local/cascade") as call,
            asyncio.timeout(PATIENCE_S),
        ):
            await call.session.update(session=session)
            speaking = asyncio.create_task(microphone(call))
            async for event in call:
                if event.type == "conversation.item.input_audio_transcription.completed":
                    heard += event.transcript.lower()
                elif event.type == "response.output_audio.delta":
                    audio += len(base64.b64decode(event.delta))
                elif event.type == "response.done" and event.response.status != "cancelled":
                    # one to a pause in the sentence is cancelled when the caller goes on
                    assert event.response.status in ("completed", "incomplete"), event
                    speaking.cancel()
                    break
    assert "chapter" in heard
    assert audio > RATE
    assert server.metric("parley_requests_total", route="eot", outcome="ok") >= 1
