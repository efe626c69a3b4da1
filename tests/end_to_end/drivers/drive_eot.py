"""Plays recordings to the streaming turn detector of the installed livekit-agents.

What AgentSession would do is done, in real time: microphone audio flows all the time, a prediction
is wanted once the user has been silent for 0.2 s, and a committed turn is flushed. One session
hears all recordings, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import Any

from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say

SILENCE_S = 0.2  # of voice activity detection, before a prediction is asked for
PREDICTION_TIMEOUT_S = 1.0  # AgentSession's own: then the detector is given up


@dataclass(frozen=True)
class Clip:
    path: str
    end_s: float

    @classmethod
    def parse(cls, text: str) -> Clip:
        path, end = text.rsplit(":", 1)
        return cls(path, float(end))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Clip.parse, metavar="WAV:END_OF_SPEECH_S")
    parser.add_argument("--rate", type=int, default=24000, help="AgentSession's own is 24000")
    parser.add_argument("--frame-ms", type=int, default=50, help="AgentSession's own is 50")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--no-flush", action="store_true", help="as if no turn were committed")
    return parser.parse_args()


async def predicted(stream: Any, clip: Clip) -> None:
    future = stream.predict()
    done, _ = await asyncio.wait([future], timeout=PREDICTION_TIMEOUT_S)
    if not done:
        say("no_prediction", clip=clip.path)
        return
    event = future.result()
    say(
        "prediction",
        clip=clip.path,
        probability=event.end_of_turn_probability,
        threshold=await stream.unlikely_threshold(None),
        backchannel_probability=event.backchannel_probability,
        backchannel_threshold=await stream.backchannel_threshold(None),
        detection_delay_s=event.detection_delay,
        inference_s=event.inference_duration,
    )


async def main() -> None:
    import livekit.rtc as rtc
    from livekit.agents import inference

    options = arguments()
    async with http_session():
        detector = inference.TurnDetector(version="v1", local_fallback=False)
        detector.on(
            "metrics_collected",
            lambda metrics: say(
                "metrics",
                total_s=metrics.total_duration,
                detection_delay_s=metrics.detection_delay,
                prediction_s=metrics.prediction_duration,
            ),
        )
        stream = detector.stream()
        try:
            await asyncio.sleep(1.0)  # it drops what is pushed before it is connected
            for clip in options.clips:
                samples = microphone(*read_wave(clip.path), options.rate)
                pace, heard_s, asking = Pace(options.speed), 0.0, None
                for piece in pieces(samples, options.rate, options.frame_ms):
                    await pace.wait(options.frame_ms / 1000)
                    stream.push_audio(rtc.AudioFrame(piece, options.rate, 1, len(piece) // 2))
                    heard_s += options.frame_ms / 1000
                    if asking is None and heard_s >= clip.end_s + SILENCE_S:
                        asking = asyncio.create_task(predicted(stream, clip))
                if asking is not None:
                    await asking
                if not options.no_flush:
                    stream.flush(reason="turn committed")
            say("ended", degraded=stream.is_degraded, model=stream.model)
        except Exception as error:
            say("failed", **error_fields(error))
        finally:
            await stream.aclose()
            say("done")


run(main)
