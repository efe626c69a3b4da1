"""How soon the voice on this machine speaks: alone, and after an utterance that was interrupted.

The ratio of both is what an interruption costs: 1 where the next sentence begins at once.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from gateway.providers.local.kokoro import QUIET, QUIET_SAMPLES, RATE
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.tts import LocalVoice, missing
from gateway.runtime.voice_worker import Workers
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Audio, Failed, Finished, SpeechRequest, SynthesisEvent
from tests.benchmarks.tools import percentile, table
from tests.fetched_weights import fetched

ROUNDS = 10
ROUNDS_QUICK = 3
INTERRUPTED = "The train to the airport leaves every thirty minutes from the main station."
SENTENCE = "Of course, one moment please."
LONG = (
    "I would like to book a table for two people, on Friday evening at seven, if there is one by "
    "the window, and otherwise anywhere quiet will do."
)
REQUEST = SpeechRequest("kokoro", "af_heart", "en", RATE)


class Ear:
    """When the first audio came, and all of it."""

    def __init__(self) -> None:
        self.audio = bytearray()
        self.first: float | None = None
        self.begun, self.end = asyncio.Event(), asyncio.Event()

    def __call__(self, heard: SynthesisEvent) -> None:
        if isinstance(heard, Audio):
            self.first = self.first or time.perf_counter()
            self.audio += heard.pcm
            self.begun.set()
        elif isinstance(heard, (Finished, Failed)):
            self.end.set()

    def silence_s(self) -> float:
        """Silence before the first speech."""
        samples = np.frombuffer(bytes(self.audio), np.int16).astype(np.float32) / 32768
        frames = samples[: len(samples) // QUIET_SAMPLES * QUIET_SAMPLES].reshape(-1, QUIET_SAMPLES)
        loud = np.nonzero(np.mean(frames * frames, axis=1) >= QUIET * QUIET)[0]
        return int(loud[0]) * QUIET_SAMPLES / RATE


async def spoken(workers: Workers, voice: LocalVoice, text: str) -> tuple[float, Ear]:
    """Seconds until the first sound, silence in the audio included."""
    ear, began = Ear(), time.perf_counter()
    synthesis = workers.begin("local", voice, REQUEST, ear)
    synthesis.say(text)
    synthesis.finish()
    await ear.end.wait()
    assert ear.first is not None
    return ear.first - began + ear.silence_s(), ear


async def measured(rounds: int) -> None:
    cache = fetched("kokoro")
    settings = LocalSettings(type="local", voice_folder=cache / "models" / "kokoro")
    voice = LocalVoice(Account("local", "local", "", settings=settings))
    workers = Workers()
    await spoken(workers, voice, SENTENCE)  # the model is loaded
    alone, after, long = [], [], []
    for _ in range(rounds):
        alone.append((await spoken(workers, voice, SENTENCE))[0])
        ear = Ear()
        interrupted = workers.begin("local", voice, REQUEST, ear)
        interrupted.say(INTERRUPTED)
        interrupted.say(INTERRUPTED)
        await ear.begun.wait()  # the second one is being made
        interrupted.cancel()
        after.append((await spoken(workers, voice, SENTENCE))[0])
        long.append((await spoken(workers, voice, LONG))[0])
    await workers.close()
    floor = percentile(alone, 0.5)
    table(
        f"/tts, local engine: seconds to the first sound, {rounds} rounds",
        ("", "p50", "p95", "x alone"),
        [
            [name, percentile(took, 0.5), percentile(took, 0.95), percentile(took, 0.5) / floor]
            for name, took in (
                ("a sentence alone", alone),
                ("the same after an interruption", after),
                (f"a sentence of {len(LONG)} characters", long),
            )
        ],
    )


def main(*, quick: bool = False) -> None:
    if missing(fetched("kokoro") / "models" / "kokoro") is not None:
        print("\ntts_local: needs the extra `espeak`")
        return
    asyncio.run(measured(ROUNDS_QUICK if quick else ROUNDS))
