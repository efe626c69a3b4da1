"""What a cascade adds to its parts: time before the first audio, time until an interruption is
silence, CPU.

Fakes stand for the providers: the chat model writes after CHAT_S, the voice speaks VOICE_S after
its first text, the recogniser answers at once. So a turn's first audio is due SILENCE_S, CHAT_S and
VOICE_S after the last sample of speech (and at most one piece of the caller's audio later); what it
comes later than that is the gateway's, all parts together. Interruptions are recorded callers, and
the interruption model's own: from the onset of their speech to `speech_started`, and from there to
the last audio that the client is sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.audio.resample import Resampler
from gateway.server.auth import mint
from tests.benchmarks.tools import cpu_s, percentile, rss_mb, table
from tests.end_to_end import make_recordings
from tests.end_to_end.conftest import Recording, recordings
from tests.end_to_end.drivers.events import read_wave
from tests.end_to_end.server import Server, running
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.fetched_weights import fetched

RATE = 24_000
PIECE_S = 0.02
SILENCE_S, CHAT_S, VOICE_S = 0.3, 0.2, 0.1
TURNS, TURNS_QUICK = 20, 6
SESSIONS, SESSIONS_QUICK = 10, 4
TALK_S = 12.0
SAID = VOCABULARY[3:6]
"""Tones of 550 Hz and more: one of 500 Hz is silence to who looks at every 16th sample."""


@dataclass
class Call:
    """One client: what it was told, with the time of each event."""

    socket: aiohttp.ClientWebSocketResponse
    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def listen(self) -> None:
        async for message in self.socket:
            self.told.append((time.monotonic(), json.loads(message.data)))

    async def play(self, pcm: bytes) -> float:
        """In real time; when the last of it was sent."""
        size, due = int(2 * RATE * PIECE_S), time.monotonic()
        for at in range(0, len(pcm), size):
            due += PIECE_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            piece = base64.b64encode(pcm[at : at + size]).decode()
            await self.say("input_audio_buffer.append", audio=piece)
        return time.monotonic()

    def times(self, kind: str, after: float = 0.0) -> list[float]:
        return [at for at, event in self.told if event["type"] == kind and at > after]

    async def until(self, kind: str, after: float = 0.0) -> float:
        async with asyncio.timeout(30):
            while not (found := self.times(kind, after)):
                await asyncio.sleep(0.002)
        return found[0]


class Bench:
    """A server over fakes."""

    def __init__(self, stack: ExitStack, cache: str | None = None) -> None:
        stt = stack.enter_context(FakeDeepgram())
        self.chat = stack.enter_context(FakeOpenAI())
        self.tts = stack.enter_context(FakeCartesia(first_s=VOICE_S))
        config = f"""
limits: {{sessions: 1000, sessions_per_key: 1000}}
providers:
  deepgram: {{base_url: "{stt.url}", api_key: {KEY}}}
  openai: {{base_url: "{self.chat.base_url}", api_key: k}}
  cartesia: {{base_url: "{self.tts.url}", api_key: k}}
cascades:
  bench: {{stt: deepgram/nova-3, chat: openai/gpt-4.1-mini, tts: "cartesia/sonic-3:v"}}
"""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {} if cache is None else {"PARLEY_CACHE": cache}
        self.server: Server = stack.enter_context(running(folder, config, environment))

    async def call(self, http: aiohttp.ClientSession) -> Call:
        server = self.server
        token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
        call = Call(
            await http.ws_connect(
                f"{server.url}/v1/realtime?model=cascade/bench",
                headers={"Authorization": f"Bearer {token}"},
            )
        )
        turns = {"type": "server_vad", "silence_duration_ms": round(1000 * SILENCE_S)}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": turns}}}
        await call.say("session.update", session=session)
        return call


async def first_audio(turns: int) -> None:
    """Turns one after the other."""
    late: list[float] = []
    with ExitStack() as stack:
        bench = Bench(stack)
        bench.chat.default = f"slow-first-token:{CHAT_S}"
        async with aiohttp.ClientSession() as http:
            call = await bench.call(http)
            listening = asyncio.create_task(call.listen())
            for _ in range(turns):
                spoke_until = await call.play(spoken(SAID, RATE))
                playing = asyncio.create_task(call.play(hush(1.5, RATE)))
                first = await call.until("response.output_audio.delta", spoke_until)
                # the last word is followed by a gap that is silence too
                due = spoke_until - 0.05 + SILENCE_S + CHAT_S + VOICE_S
                late.append(1000 * (first - due))
                await playing
                await call.until("response.done", spoke_until)
            listening.cancel()
            await call.socket.close()
    table(
        f"cascade: first audio after the sum of its parts ({SILENCE_S + CHAT_S + VOICE_S:.1f} s), "
        f"{turns} turns",
        ("ms", "p50", "p95", "max"),
        [["later", percentile(late, 0.5), percentile(late, 0.95), max(late)]],
    )


async def _interrupted(bench: Bench, http: aiohttp.ClientSession, one: Recording) -> list[float]:
    samples, rate = read_wave(str(one.path))
    resampler = Resampler(rate, RATE)
    pcm = resampler.feed(samples) + resampler.finish()
    call = await bench.call(http)
    listening = asyncio.create_task(call.listen())
    await call.say("response.create")
    await call.until("response.output_audio.delta")
    began = time.monotonic()
    playing = asyncio.create_task(call.play(pcm))
    try:
        started = await call.until("input_audio_buffer.speech_started")
    finally:
        await playing
    later = call.times("response.output_audio.delta", started)
    listening.cancel()
    await call.socket.close()
    return [
        1000 * (started - began - one.onset_s),
        1000 * (max(later, default=started) - started),
    ]


async def interruptions() -> None:
    """Recorded callers, one after the other, while the voice speaks as fast as it is heard."""
    make_recordings.make()
    found = [one for one in recordings() if one.label == "interruption"]
    with ExitStack() as stack:
        bench = Bench(stack, str(fetched("silero-vad")))
        bench.chat.default, bench.tts.speed = "long-text:300", 1.0
        async with aiohttp.ClientSession() as http:
            took = [await _interrupted(bench, http, one) for one in found]
    table(
        f"cascade: {len(took)} recorded interruptions, ms",
        ("", "p50", "max"),
        [
            [name, percentile(values, 0.5), max(values)]
            for name, values in zip(
                ("onset to speech_started", "speech_started to the last audio"),
                zip(*took, strict=True),
                strict=True,
            )
        ],
    )


async def load(sessions: int) -> None:
    """Sessions that talk in real time, one turn every four seconds; two times as many cost what
    more than the first."""
    with ExitStack() as stack:
        bench = Bench(stack)
        bench.tts.speed = 4.0
        pid = bench.server.process.pid

        async def talk(http: aiohttp.ClientSession) -> None:
            call = await bench.call(http)
            listening = asyncio.create_task(call.listen())
            for _ in range(round(TALK_S / 4)):
                await call.play(spoken(SAID, RATE) + hush(3.0, RATE))
            listening.cancel()
            await call.socket.close()

        async with aiohttp.ClientSession() as http:
            await talk(http)  # what is loaded once
            before, memory, began = cpu_s(pid), rss_mb(pid), time.monotonic()
            await asyncio.gather(*(talk(http) for _ in range(sessions)))
            took, used = time.monotonic() - began, cpu_s(pid) - before
            grown = rss_mb(pid) - memory
    table(
        f"cascade: {sessions} sessions at a time, {TALK_S:.0f} s each",
        ("", "ms CPU/session s", "MB/session"),
        [["server", 1000 * used / took / sessions, grown / sessions]],
    )


def main(*, quick: bool = False) -> None:
    asyncio.run(first_audio(TURNS_QUICK if quick else TURNS))
    asyncio.run(interruptions())
    asyncio.run(load(SESSIONS_QUICK if quick else SESSIONS))
