"""One call of an agent whose providers fail: for what shows the end of a call."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model, turn_model
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

RATE = 16_000
FRAME_BYTES = 2 * RATE // 20
WINDOW = struct.pack("<Q", 5) + b"\1\0" * RATE
SAID = "a secret that a caller told"

CONFIG = """
local_stand_in: false
bargein: {{model: "{model}"}}
eot: {{model: "{turn}"}}
providers:
  ears-a: {{type: deepgram, base_url: "{ears_a}", api_key: {key}}}
  ears-b: {{type: deepgram, base_url: "{ears_b}", api_key: {key}}}
  llm-a: {{type: openai-compatible, base_url: "{llm_a}", api_key: {key}}}
  llm-b: {{type: openai-compatible, base_url: "{llm_b}", api_key: {key}}}
models:
  ears: [{{provider: ears-a, model: nova-3}}, {{provider: ears-b, model: nova-3}}]
  mind: [{{provider: llm-a, model: one}}, {{provider: llm-b, model: two}}]
"""


@contextmanager
def faulty(folder: Path, traces: str, more: str = "") -> Iterator[Server]:
    """A server whose first recogniser breaks off, and whose language models fail: the first with a
    503, the second in the middle of its second reply. Spans go to `traces`."""
    with ExitStack() as stack:
        ears = [stack.enter_context(FakeDeepgram()) for _ in range(2)]
        ears[0].script("drop:1.0", "status:503", "status:503")
        llms = [stack.enter_context(FakeOpenAI(default="status:503"))]
        llms.append(stack.enter_context(FakeOpenAI()))
        llms[1].script("text", "reset-after-content")
        config = CONFIG.format(
            model=frame_model.write(folder / "m.onnx"),
            turn=turn_model.write(folder / "t.onnx"),
            ears_a=ears[0].url,
            ears_b=ears[1].url,
            llm_a=llms[0].base_url,
            llm_b=llms[1].base_url,
            key=KEY,
        )
        config += f"traces: {{endpoint: '{traces}'}}\n" if traces else ""
        yield stack.enter_context(running(folder, config + more))


async def call(server: Server, job: str, room: str) -> list[int]:
    """Listen, look for an interruption and for the end of the turn, reply twice. The status of each
    reply; 0: it broke off."""
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    headers = {
        "authorization": f"Bearer {token}",
        "x-livekit-job-id": job,
        "x-livekit-room-id": room,
    }
    async with aiohttp.ClientSession(headers=headers) as http:
        await _listen(http, server.url)
        await _interrupt(http, server.url)
        await _end_turn(http, server.url)
        return [await _reply(http, server.url) for _ in range(2)]


async def _listen(http: aiohttp.ClientSession, url: str) -> None:
    pcm = hush(0.4) + spoken(VOCABULARY[:4]) + hush(0.6)
    async with http.ws_connect(f"{url}/stt?model=ears") as socket:
        settings = {"sample_rate": str(RATE), "encoding": "pcm_s16le"}
        await socket.send_json({"type": "session.create", "settings": settings, "model": "ears"})
        for at in range(0, len(pcm), FRAME_BYTES):
            audio = base64.b64encode(pcm[at : at + FRAME_BYTES]).decode()
            await socket.send_json({"type": "input_audio", "audio": audio})
            await asyncio.sleep(0.05)
        await socket.send_json({"type": "session.finalize"})
        await socket.send_json({"type": "session.close"})
        async for message in socket:
            if json.loads(message.data)["type"] == "session.closed":
                break


async def _interrupt(http: aiohttp.ClientSession, url: str) -> None:
    async with http.ws_connect(f"{url}/bargein") as socket:
        settings = {"sample_rate": RATE, "num_channels": 1, "min_frames": 2}
        await socket.send_json({"type": "session.create", "settings": settings})
        await socket.receive_json()
        await socket.send_bytes(WINDOW)
        await socket.receive_json()


async def _end_turn(http: aiohttp.ClientSession, url: str) -> None:
    settings = pb.SessionSettings(sample_rate=RATE, encoding=pb.AUDIO_ENCODING_PCM_S16LE)
    audio = pb.InputAudio(audio=b"\1\0" * RATE, num_samples=RATE)
    asked = (
        pb.ClientMessage(session_create=pb.SessionCreate(settings=settings)),
        pb.ClientMessage(input_audio=audio),
        pb.ClientMessage(inference_start=pb.InferenceStart(request_id="r")),
    )
    async with http.ws_connect(f"{url}/eot") as socket:
        for one in asked:
            await socket.send_bytes(one.SerializeToString())
        for _ in range(2):  # created, and the prediction
            await socket.receive_bytes()


async def _reply(http: aiohttp.ClientSession, url: str) -> int:
    body = {"model": "mind", "messages": [{"role": "user", "content": SAID}], "stream": True}
    async with http.post(f"{url}/chat/completions", json=body) as answer:
        try:
            await answer.read()
        except aiohttp.ClientPayloadError:
            return 0
        return answer.status
