"""Plays recordings to the adaptive interruption detector of the installed livekit-agents.

Everything that AgentSession would push is pushed, in real time: "the agent speaks", microphone
audio, "the user has begun" once its voice activity detection would have noticed, "the user has
stopped" after its silence. Every clip is an agent of its own, all of them run at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import time
from dataclasses import dataclass
from typing import Any

from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say

VAD_DELAY_S = 0.064  # two windows of speech, then AgentSession's VAD says so
VAD_SILENCE_S = 0.25  # silence after which it says that the user has stopped


@dataclass(frozen=True)
class Clip:
    path: str
    onset_s: float
    end_s: float

    @classmethod
    def parse(cls, text: str) -> Clip:
        path, onset, end = text.rsplit(":", 2)
        return cls(path, float(onset), float(end))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Clip.parse, metavar="WAV:ONSET_S:END_S")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--rate", type=int, default=24000, help="AgentSession's own is 24000")
    parser.add_argument("--frame-ms", type=int, default=50, help="AgentSession's own is 50")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--idle-s", type=float, default=0.0, help="connect, then wait this long")
    return parser.parse_args()


def described(name: str, event: Any) -> dict[str, Any]:
    probabilities = event.probabilities
    return {
        "clip": name,
        "is_interruption": event.is_interruption,
        "agent_ended": getattr(event, "agent_ended", None),
        "probability": round(event.probability, 4),
        "frames": None if probabilities is None else len(probabilities),
        "probabilities": []
        if probabilities is None
        else [round(float(p), 3) for p in probabilities],
        "window_samples": None if event.speech_input is None else len(event.speech_input),
        "detection_delay_s": round(event.detection_delay, 4),
        "total_duration_s": round(event.total_duration, 4),
        "prediction_duration_s": round(event.prediction_duration, 5),
        "requests": event.num_requests,
    }


async def play(clip: Clip, options: argparse.Namespace) -> None:
    from livekit import rtc
    from livekit.agents.inference import interruption

    samples = microphone(*read_wave(clip.path), options.rate)
    given = {} if options.threshold is None else {"threshold": options.threshold}
    detector = interruption.AdaptiveInterruptionDetector(**given)

    def on_error(error: Any) -> None:
        say("error", clip=clip.path, recoverable=error.recoverable, **error_fields(error.error))

    detector.on("error", on_error)
    stream = detector.stream()
    verdict = asyncio.Event()

    async def listen() -> None:
        async for event in stream:
            say("overlapping_speech", **described(clip.path, event))
            verdict.set()

    listening = asyncio.create_task(listen())
    await asyncio.sleep(options.idle_s)
    say("started", clip=clip.path, transport=type(stream).__name__)
    stream.push_frame(interruption._AgentSpeechStartedSentinel())

    pace, heard_s, overlapping, over = Pace(options.speed), 0.0, False, False
    try:
        for piece in pieces(samples, options.rate, options.frame_ms):
            await pace.wait(options.frame_ms / 1000)
            stream.push_frame(rtc.AudioFrame(piece, options.rate, 1, len(piece) // 2))
            heard_s += options.frame_ms / 1000
            if not overlapping and not over and heard_s >= clip.onset_s + VAD_DELAY_S:
                overlapping = True
                stream.push_frame(
                    interruption._OverlapSpeechStartedSentinel(
                        speech_duration=VAD_DELAY_S, started_at=time.time() - VAD_DELAY_S
                    )
                )
                say("overlap_started", clip=clip.path, late_s=round(heard_s - clip.onset_s, 3))
            if overlapping and (verdict.is_set() or heard_s >= clip.end_s + VAD_SILENCE_S):
                overlapping, over = False, True
                say("overlap_ended", clip=clip.path)
                stream.push_frame(interruption._OverlapSpeechEndedSentinel(ended_at=time.time()))
            if verdict.is_set():
                break
        if overlapping:  # the recording ends before the user does: so does the agent's speech
            ended: dict[str, Any] = {"ended_at": time.time()}
            if (
                "agent_ended"
                in inspect.signature(interruption._OverlapSpeechEndedSentinel).parameters
            ):
                ended["agent_ended"] = True
            stream.push_frame(interruption._OverlapSpeechEndedSentinel(**ended))
        try:
            await asyncio.wait_for(verdict.wait(), 2.0)
        except TimeoutError:
            say("no_verdict", clip=clip.path)
        stream.push_frame(interruption._AgentSpeechEndedSentinel())
        stream.end_input()
        await asyncio.wait_for(listening, 5.0)
    except Exception as error:
        say("failed", clip=clip.path, **error_fields(error))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await asyncio.gather(stream.aclose(), return_exceptions=True)
        say("done", clip=clip.path)


async def main() -> None:
    options = arguments()
    async with http_session():
        await asyncio.gather(*(play(clip, options) for clip in options.clips))


if __name__ == "__main__":
    run(main)
