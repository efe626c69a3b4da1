"""How soon the voice on this machine speaks: alone, and after an utterance that was interrupted.

Counted in CPU seconds of its process, which other load changes little, and in seconds
with the silence that the audio begins with. The ratio of the CPU seconds of the first two rows is
what an interruption costs: 1 where the next sentence begins at once.
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
from tests.benchmarks.tools import percentile, running_s, table
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
    """When the first audio came, and all of it. `pid` is the voice's process."""

    def __init__(self, pid: int | None = None) -> None:
        self.pid = pid
        self.cpu_s = 0.0
        self.audio = bytearray()
        self.first: float | None = None
        self.begun, self.end = asyncio.Event(), asyncio.Event()

    def __call__(self, heard: SynthesisEvent) -> None:
        if isinstance(heard, Audio):
            if self.first is None:
                self.first = time.perf_counter()
                self.cpu_s = 0.0 if self.pid is None else running_s(self.pid)
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


def process_of(workers: Workers) -> int:
    """The process of the one voice that runs."""
    (worker,) = workers._workers.values()
    process = worker._process
    assert process is not None
    return process.pid


async def spoken(
    workers: Workers, voice: LocalVoice, text: str, pid: int | None = None
) -> tuple[float, float]:
    """CPU seconds until the first audio, and seconds until the first sound in it."""
    ear, began = Ear(pid), time.perf_counter()
    cpu_s = 0.0 if pid is None else running_s(pid)
    synthesis = workers.begin(voice, REQUEST, ear)
    synthesis.say(text)
    synthesis.finish()
    await ear.end.wait()
    assert ear.first is not None
    return ear.cpu_s - cpu_s, ear.first - began + ear.silence_s()


async def measured(rounds: int) -> None:
    cache = fetched("kokoro")
    settings = LocalSettings(type="local", voice_folder=cache / "models" / "kokoro")
    voice = LocalVoice(Account("local", "local", "", settings=settings))
    workers = Workers()
    await spoken(workers, voice, SENTENCE)  # the model is loaded
    pid = process_of(workers)
    alone, after, long = [], [], []
    for _ in range(rounds):
        alone.append(await spoken(workers, voice, SENTENCE, pid))
        ear = Ear()
        interrupted = workers.begin(voice, REQUEST, ear)
        interrupted.say(INTERRUPTED)
        interrupted.say(INTERRUPTED)
        await ear.begun.wait()  # the second one is being made
        interrupted.cancel()
        after.append(await spoken(workers, voice, SENTENCE, pid))
        long.append(await spoken(workers, voice, LONG, pid))
    await workers.close()
    floor = percentile([cpu_s for cpu_s, _ in alone], 0.5)
    table(
        f"/tts, local engine: to the first sound, {rounds} rounds",
        ("", "CPU s", "x alone", "s p50", "s p95"),
        [
            [
                name,
                (cpu_s := percentile([cpu_s for cpu_s, _ in took], 0.5)),
                cpu_s / floor,
                percentile([s for _, s in took], 0.5),
                percentile([s for _, s in took], 0.95),
            ]
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
