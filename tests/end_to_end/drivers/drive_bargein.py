"""Plays recordings to the adaptive interruption detector of the installed livekit-agents.

Everything that AgentSession would push is pushed, in real time: "the agent speaks", microphone
audio, "the user has begun" once its voice activity detection would have noticed, "the user has
stopped" after its silence. Every clip is an agent of its own, all of them run at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import re
import time
from dataclasses import dataclass
from typing import Any

from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say

VAD_DELAY_S = 0.064  # two windows of speech, then AgentSession's VAD says so
VAD_SILENCE_S = 0.25  # silence after which it says that the user has stopped
PATIENCE_S = 2.0  # how long a verdict may take to come


@dataclass(frozen=True)
class Clip:
    """A wave file and when the user speaks in it: seconds from, until."""

    path: str
    speech: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> Clip:
        """From WAV:FROM:UNTIL, with :FROM:UNTIL for each further time."""
        found = re.fullmatch(r"(.*?)((?::[\d.]+:[\d.]+)+)", text)
        if found is None:
            raise argparse.ArgumentTypeError("expected WAV:FROM_S:UNTIL_S")
        times = [float(one) for one in found[2][1:].split(":")]
        return cls(found[1], tuple(zip(times[::2], times[1::2], strict=True)))

    @property
    def onset_s(self) -> float:
        return self.speech[0][0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Clip.parse, metavar="WAV:FROM_S:UNTIL_S...")
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
    import livekit.rtc as rtc
    from livekit.agents.inference import interruption

    samples = microphone(*read_wave(clip.path), options.rate)
    given = {} if options.threshold is None else {"threshold": options.threshold}
    detector = interruption.AdaptiveInterruptionDetector(**given)

    def on_error(error: Any) -> None:
        say("error", clip=clip.path, recoverable=error.recoverable, **error_fields(error.error))

    detector.on("error", on_error)
    stream = detector.stream()
    verdicts: list[bool] = []

    async def listen() -> None:
        async for event in stream:
            say("overlapping_speech", **described(clip.path, event))
            verdicts.append(event.is_interruption)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(options.idle_s)
    say("started", clip=clip.path, transport=type(stream).__name__)
    stream.push_frame(interruption._AgentSpeechStartedSentinel())

    pace, heard_s, overlapping, spoken = Pace(options.speed), 0.0, False, list(clip.speech)
    begun = 0
    try:
        for piece in pieces(samples, options.rate, options.frame_ms):
            await pace.wait(options.frame_ms / 1000)
            stream.push_frame(rtc.AudioFrame(piece, options.rate, 1, len(piece) // 2))
            heard_s += options.frame_ms / 1000
            if not overlapping and spoken and heard_s >= spoken[0][0] + VAD_DELAY_S:
                overlapping, begun = True, begun + 1
                stream.push_frame(
                    interruption._OverlapSpeechStartedSentinel(
                        speech_duration=VAD_DELAY_S, started_at=time.time() - VAD_DELAY_S
                    )
                )
                say("overlap_started", clip=clip.path, late_s=round(heard_s - spoken[0][0], 3))
            stopped = overlapping and heard_s >= spoken[0][1] + VAD_SILENCE_S
            if stopped or any(verdicts):
                overlapping = False
                spoken.pop(0)
                say("overlap_ended", clip=clip.path)
                stream.push_frame(interruption._OverlapSpeechEndedSentinel(ended_at=time.time()))
            if any(verdicts):
                break
        if overlapping:  # the recording ends before the user does: so does the agent's speech
            ended: dict[str, Any] = {"ended_at": time.time()}
            known = inspect.signature(interruption._OverlapSpeechEndedSentinel).parameters
            if "agent_ended" in known:
                ended["agent_ended"] = True
            stream.push_frame(interruption._OverlapSpeechEndedSentinel(**ended))
        deadline = time.monotonic() + PATIENCE_S
        while len(verdicts) < begun and not listening.done() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if len(verdicts) < begun:
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
