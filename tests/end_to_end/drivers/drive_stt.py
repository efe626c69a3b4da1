"""Plays a recording in real time to `inference.STT` of the installed livekit-agents."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from events import Pace, error_fields, http_session, pieces, read_wave, run, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wav")
    parser.add_argument("--model", default="deepgram/nova-3", help="'auto' lets the server choose")
    parser.add_argument("--language")
    parser.add_argument("--fallback", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--extra", type=json.loads, default={}, help="extra_kwargs as JSON")
    parser.add_argument("--update", type=json.loads, help="update_options(**JSON) half-way")
    parser.add_argument("--frame-ms", type=int, default=50)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--tail-s", type=float, default=0.0, help="silence after the recording")
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=10.0)
    parser.add_argument("--patience-s", type=float, default=10.0, help="to wait after the end")
    return parser.parse_args()


def described(event: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": str(getattr(event.type, "value", event.type))}
    if event.alternatives:
        best = event.alternatives[0]
        words = [
            {
                "word": str(word),
                "start": getattr(word, "start_time", None),
                "end": getattr(word, "end_time", None),
                "confidence": getattr(word, "confidence", None),
                "speaker_id": getattr(word, "speaker_id", None),
            }
            for word in best.words or []
        ]
        fields |= {
            "text": best.text,
            "language": str(best.language),
            "start": best.start_time,
            "end": best.end_time,
            "confidence": best.confidence,
            "speaker_id": best.speaker_id,
            "words": words,
        }
    if event.recognition_usage is not None:
        fields["audio_s"] = event.recognition_usage.audio_duration
    return fields | {"request_id": event.request_id}


async def main() -> None:
    import livekit.rtc as rtc
    from livekit.agents import APIConnectOptions, inference

    options = arguments()
    samples, rate = read_wave(options.wav)
    samples += b"\0\0" * int(options.tail_s * rate)
    wishes: dict[str, Any] = {"model": options.model, "extra_kwargs": options.extra}
    if options.language:
        wishes["language"] = options.language
    if options.fallback:
        wishes["fallback"] = options.fallback
    async with http_session():
        recogniser = inference.STT(**wishes)

        def on_error(error: Any) -> None:
            say("error", recoverable=error.recoverable, **error_fields(error.error))

        recogniser.on("error", on_error)
        stream = recogniser.stream(
            conn_options=APIConnectOptions(
                max_retry=options.retries, retry_interval=0.1, timeout=options.timeout_s
            )
        )

        async def listen() -> None:
            try:
                async for event in stream:
                    say("speech", **described(event))
                say("ended")
            except Exception as error:
                say("failed", **error_fields(error))

        listening = asyncio.create_task(listen())
        say("started", model=options.model)
        pace = Pace(options.speed)
        all_pieces = list(pieces(samples, rate, options.frame_ms))
        for number, piece in enumerate(all_pieces):
            await pace.wait(options.frame_ms / 1000)
            if listening.done():
                break
            if options.update and number == len(all_pieces) // 2:
                recogniser.update_options(**options.update)
                say("updated")
            stream.push_frame(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
        if not listening.done():
            stream.end_input()
            say("input_ended")
        done, _ = await asyncio.wait({listening}, timeout=options.patience_s)
        if not done:
            say("still_waiting")
        await stream.aclose()
        await recogniser.aclose()


run(main)
