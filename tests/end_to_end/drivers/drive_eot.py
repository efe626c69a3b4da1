"""Plays a recording in real time to `inference.TurnDetector` and asks it for predictions.

livekit-agents before 1.6 has none.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say

PREDICTION_TIMEOUT_S = 1.0  # what AgentSession grants


def seconds(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wav")
    parser.add_argument("--ask-at", type=seconds, default=[], metavar="S,S,...")
    parser.add_argument("--language", nargs="*", default=["en"], help="whose thresholds to print")
    parser.add_argument("--rate", type=int, default=24000)
    parser.add_argument("--frame-ms", type=int, default=50)
    parser.add_argument("--flush-after", action="store_true", help="flush after each prediction")
    return parser.parse_args()


async def ask(stream: Any, at_s: float) -> None:
    asked_at = time.monotonic()
    try:
        event = await asyncio.wait_for(stream.predict(), PREDICTION_TIMEOUT_S)
    except TimeoutError:
        stream.cancel_inference(timed_out=True)
        say("no_prediction", asked_for_s=at_s)
        return
    say(
        "prediction",
        asked_for_s=at_s,
        probability=event.end_of_turn_probability,
        backchannel_probability=getattr(event, "backchannel_probability", None),
        inference_duration_s=event.inference_duration,
        detection_delay_s=event.detection_delay,
        waited_s=round(time.monotonic() - asked_at, 4),
        model=stream.model,
        is_fallback=stream.is_fallback,
    )


async def main() -> None:
    from livekit import rtc
    from livekit.agents import LanguageCode, inference

    options = arguments()
    samples = microphone(*read_wave(options.wav), options.rate)
    waiting = sorted(options.ask_at)
    async with http_session():
        detector = inference.TurnDetector(version="v1", local_fallback=False)
        stream = detector.stream()
        say("started")
        pace, heard_s = Pace(1.0), 0.0
        try:
            for piece in pieces(samples, options.rate, options.frame_ms):
                await pace.wait(options.frame_ms / 1000)
                stream.push_audio(rtc.AudioFrame(piece, options.rate, 1, len(piece) // 2))
                heard_s += options.frame_ms / 1000
                if waiting and heard_s >= waiting[0]:
                    await ask(stream, waiting.pop(0))
                    if options.flush_after:
                        stream.flush()
            for language in options.language:
                say(
                    "thresholds",
                    language=language,
                    unlikely=await stream.unlikely_threshold(LanguageCode(language)),
                    backchannel=await stream.backchannel_threshold(LanguageCode(language)),
                )
            say("done", degraded=stream.is_degraded, is_fallback=stream.is_fallback)
        except Exception as error:
            say("failed", **error_fields(error))
        finally:
            await stream.aclose()


run(main)
