"""Has `inference.TTS` of the installed livekit-agents say utterances, one after the other.

An UTTERANCE is pushed word by word, as an agent's reply comes from its language model. Several
models speak at the same time with `--job`: a JSON object with a `job` (its name), `utterances` and
any of the options, which then hold for this one alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import wave
from typing import Any

from events import error_fields, http_session, run, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("utterances", nargs="*", metavar="UTTERANCE")
    parser.add_argument("--job", dest="jobs", type=json.loads, action="append", default=[])
    parser.add_argument("--model", default="cartesia/sonic-3")
    parser.add_argument("--voice")
    parser.add_argument("--language")
    parser.add_argument("--rate", type=int, help="sample rate that is asked for")
    parser.add_argument("--fallback", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--extra", type=json.loads, default={}, help="extra_kwargs as JSON")
    parser.add_argument("--word-pause-s", type=float, default=0.02, help="between two words")
    parser.add_argument("--idle-s", type=float, default=0.0, help="between two utterances")
    parser.add_argument("--interrupt-s", type=float, help="leave so long after the first audio")
    parser.add_argument("--prewarm", action="store_true")
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=10.0)
    parser.add_argument("--out", help="write all the audio to this wave file")
    return parser.parse_args()


class Recorder:
    """Counts and keeps the audio of an utterance."""

    def __init__(self) -> None:
        self.audio, self.rate, self.first_at = bytearray(), 0, 0.0
        self.words: list[dict[str, Any]] = []

    def take(self, event: Any) -> None:
        frame = event.frame
        if not self.audio:
            self.first_at = time.monotonic()
        self.rate = frame.sample_rate
        self.audio += bytes(frame.data)
        for word in frame.userdata.get("lk.timed_transcripts", []):
            start, end = getattr(word, "start_time", None), getattr(word, "end_time", None)
            self.words.append({"word": str(word), "start": start, "end": end})


async def speak(synthesizer: Any, text: str, options: argparse.Namespace, connect: Any) -> Recorder:
    recorder, asked_at = Recorder(), time.monotonic()

    def tell(event: str, **fields: Any) -> None:
        say(event, job=options.job, utterance=text, **fields)

    stream = synthesizer.stream(
        conn_options=connect(
            max_retry=options.retries, retry_interval=0.1, timeout=options.timeout_s
        )
    )

    async def write() -> None:
        for word in text.split(" "):
            stream.push_text(word + " ")
            await asyncio.sleep(options.word_pause_s)
        stream.end_input()

    writing = asyncio.create_task(write())
    tell("asked")
    try:
        async for event in stream:
            recorder.take(event)
            waited_s = time.monotonic() - recorder.first_at
            if options.interrupt_s is not None and waited_s >= options.interrupt_s:
                tell("interrupted", audio_bytes=len(recorder.audio))
                break
        else:
            tell(
                "spoken",
                audio_bytes=len(recorder.audio),
                sample_rate=recorder.rate,
                audio_s=len(recorder.audio) / 2 / (recorder.rate or 1),
                first_audio_s=round(recorder.first_at - asked_at, 4),
                words=recorder.words,
            )
    except Exception as error:
        tell("failed", audio_bytes=len(recorder.audio), **error_fields(error))
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await stream.aclose()
    return recorder


async def talk(options: argparse.Namespace) -> None:
    from livekit.agents import APIConnectOptions, inference

    named = {
        "voice": options.voice,
        "language": options.language,
        "sample_rate": options.rate,
        "fallback": options.fallback,
        "extra_kwargs": options.extra,
    }
    synthesizer = inference.TTS(
        options.model, **{name: value for name, value in named.items() if value}
    )

    def on_error(error: Any) -> None:
        say("error", job=options.job, recoverable=error.recoverable, **error_fields(error.error))

    synthesizer.on("error", on_error)
    if options.prewarm:
        synthesizer.prewarm()
    recorded = []
    for number, text in enumerate(options.utterances):
        await asyncio.sleep(options.idle_s if number else 0)
        recorded.append(await speak(synthesizer, text, options, APIConnectOptions))
    await synthesizer.aclose()
    if options.out:
        with wave.open(options.out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(recorded[0].rate or 24000)
            file.writeframes(b"".join(bytes(one.audio) for one in recorded))


async def main() -> None:
    options = arguments()
    own = {**vars(options), "job": None}
    jobs = [argparse.Namespace(**{**own, **job}) for job in options.jobs or [{}]]
    async with http_session():
        await asyncio.gather(*(talk(job) for job in jobs))


run(main)
