"""An agent whose own voice comes back from the caller's loudspeaker, on the real server, in real
time: /tts and /bargein of one job."""

from __future__ import annotations

import asyncio
import json
import struct
import time
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from aiohttp import web
from redis import Redis
from websockets.asyncio.client import connect

from tests import services
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import WireClient, token
from tests.fakes.openai_speech import FakeSpeechServer

RATE = 16_000
STEP = 1600
PLAYED_LATE_S = 0.4
"""From when the voice has been sent until it is heard in the caller's room."""

AGENT = ("interruption-libri-1355", "interruption-libri-1723")
CALLER = "interruption-libri-1034"

Samples = npt.NDArray[np.float64]


def said(*names: str) -> Samples:
    parts = []
    for name in names:
        with wave.open(str(made_folder() / f"{name}.wav")) as file:
            assert file.getframerate() == RATE
            parts.append(
                np.frombuffer(file.readframes(file.getnframes()), "<i2")[int(1.3 * RATE) :]
            )
    return np.concatenate(parts).astype(np.float64)


class Recorded(FakeSpeechServer):
    """Says what two people once said, whatever it is told to."""

    async def _stream(self, response: web.StreamResponse, text: str) -> None:
        voice = said(*AGENT)
        at = np.arange(0, voice.size - 1, RATE / self.rate)
        pcm = np.interp(at, np.arange(voice.size), voice).astype("<i2").tobytes()
        for start in range(0, len(pcm), 9600):
            await response.write(pcm[start : start + 9600])
        await response.write_eof()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ExitStack() as stack:
        fake = stack.enter_context(Recorded())
        config = (
            f'providers: {{voice: {{type: openai-compatible, base_url: "{fake.base_url}"}}}}\n'
            "models: {test/voice: [{provider: voice, model: m, options: {voice: v}}]}\n"
        )
        yield stack.enter_context(running(tmp_path_factory.mktemp("own_voice"), config))


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers that share a Redis, and nothing else."""
    with ExitStack() as stack:
        fake = stack.enter_context(Recorded())
        redis = stack.enter_context(services.redis(tmp_path))
        config = (
            f'providers: {{voice: {{type: openai-compatible, base_url: "{fake.base_url}"}}}}\n'
            "models: {test/voice: [{provider: voice, model: m, options: {voice: v}}]}\n"
            f'quota: {{redis_url: "{redis.url}"}}\n'
        )
        pair = ("APIreplicas", "s" * 32)
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        one, two = (stack.enter_context(running(folder, config, pair=pair)) for folder in folders)
        asked = stack.enter_context(Redis.from_url(redis.url))
        # a server is ready before it hears the others
        services.wait_until(lambda: [n for _, n in asked.pubsub_numsub("parley/calls")] == [2])
        yield one, two


def echo(voice: Samples) -> Samples:
    """Through a small loudspeaker and a room."""
    rng = np.random.default_rng(8)
    room = rng.normal(0, 1, RATE // 4) * np.exp(-np.arange(RATE // 4) / (0.05 * RATE))
    room[0] = 12.0
    heard = np.convolve(np.tanh(voice / 12_000.0), room)[: voice.size]
    return np.asarray(heard / np.abs(heard).max() * 5000)


@dataclass
class Job:
    """One agent's connections."""

    server: Server
    name: str
    verdicts: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def connected(self, path: str) -> AsyncIterator[Any]:
        headers = {
            "Authorization": f"Bearer {token(self.server)}",
            "X-LiveKit-Job-ID": self.name,
            "X-LiveKit-Room-ID": f"room-of-{self.name}",
        }
        url = f"ws://127.0.0.1:{self.server.port}/{path}"
        async with connect(url, additional_headers=headers) as socket:
            yield socket

    async def speak(self) -> None:
        """The agent says its piece, which is sent much faster than it is played."""
        create = {
            "type": "session.create",
            "sample_rate": "24000",
            "encoding": "pcm_s16le",
            "model": "test/voice",
        }
        async with self.connected("tts?model=test/voice") as socket:
            await socket.send(json.dumps(create))
            heard = await WireClient(socket, create).say("One sentence. ")
            assert heard.types[-1] == "done"

    async def listen(self, microphone: Samples) -> list[float]:
        """Seconds of the caller's channel at which the server said that somebody interrupts."""
        samples = np.clip(microphone, -32768, 32767).astype("<i2")
        found: list[float] = []
        async with self.connected("bargein") as socket:
            settings = {"sample_rate": RATE, "num_channels": 1, "threshold": 0.5, "min_frames": 2}
            await socket.send(json.dumps({"type": "session.create", "settings": settings}))
            assert json.loads(await socket.recv())["type"] == "session.created"
            began = time.monotonic()
            for number, end in enumerate(range(STEP, samples.size + 1, STEP)):
                await asyncio.sleep(max(0.0, began + end / RATE - time.monotonic()))
                window = samples[max(0, end - 3 * RATE) : end].tobytes()
                await socket.send(struct.pack("<Q", number) + window)
                answer = json.loads(await socket.recv())
                if answer["type"] == "bargein_detected":
                    found.append(end / RATE)
        return found

    async def call(self, microphone: Samples) -> list[float]:
        await self.speak()
        return await self.listen(microphone)


def microphone(*, caller_s: float | None = None, silent_s: float = PLAYED_LATE_S) -> Samples:
    """What the room gives back, and the caller from `caller_s` on."""
    back = np.concatenate((np.zeros(int(silent_s * RATE)), echo(said(*AGENT))))
    back = back + np.random.default_rng(2).normal(0, 10, back.size)
    if caller_s is not None:
        voice, at = said(CALLER), int(caller_s * RATE)
        part = voice[: back.size - at]
        back[at : at + part.size] += part / np.abs(part).max() * 12_000
    return back


async def test_without_a_job_the_agent_takes_itself_for_the_caller(server: Server) -> None:
    """Or the other tests would show nothing."""
    await Job(server, "speaks").speak()

    assert await Job(server, "listens").listen(microphone())


async def test_an_agent_does_not_interrupt_itself(server: Server) -> None:
    assert await Job(server, "alone").call(microphone()) == []


async def test_a_caller_over_the_agents_own_voice_is_heard(server: Server) -> None:
    found = await Job(server, "over").call(microphone(caller_s=2.0))

    assert found
    assert found[0] >= 2.0
    assert found[0] <= 3.5


async def test_the_voice_is_known_again_at_a_replica_that_did_not_send_it(
    replicas: tuple[Server, Server],
) -> None:
    sends, hears = replicas
    await Job(sends, "split").speak()

    assert await Job(hears, "split").listen(microphone()) == []
