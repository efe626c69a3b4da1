"""A whole AgentSession without a room hears one turn of its user and answers it.

Voice activity detection and the turn detector are the client's own, as the environment and
`--detector` say; the language model is wherever the environment says. Speech recognition has the
words from the command line, as soon as the recording's speech is over.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from types import SimpleNamespace
from typing import Any

import livekit.rtc as rtc
from drive_session import FRAME_MS, RATE, Loudspeaker, Microphone, Tone
from events import Pace, error_fields, http_session, microphone, pieces, read_wave, run, say
from livekit.agents import Agent, AgentSession, LanguageCode, inference, stt

TRANSCRIPT_AFTER_S = 0.1  # a recogniser's own delay
GIVE_UP_S = 20.0


class Scribe(stt.STT):
    """Recognises `words` once it has heard `end_s` of audio."""

    def __init__(self, words: str, end_s: float) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True, interim_results=False, aligned_transcript="word"
            )
        )
        self.words, self.end_s = words, end_s

    async def _recognize_impl(self, *arguments: Any, **named: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(self, *, conn_options: Any = None, **named: Any) -> stt.RecognizeStream:
        return ScribeStream(stt=self, conn_options=conn_options)


class ScribeStream(stt.RecognizeStream):
    async def _run(self) -> None:
        scribe = self._stt
        assert isinstance(scribe, Scribe)
        heard_s, told = 0.0, False
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            heard_s += frame.duration
            if not told and heard_s >= scribe.end_s + TRANSCRIPT_AFTER_S:
                told = True
                words = stt.SpeechData(language=LanguageCode("en"), text=scribe.words)
                self._event_ch.send_nowait(
                    stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[words])
                )


class Predictions(logging.Handler):
    """What a detector said is told to the client's log alone."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "eot prediction":
            said = record.__dict__
            say("prediction", probability=said["probability"], threshold=said["unlikely_threshold"])


def multilingual() -> Any:
    """LiveKit's text plugin. It wants a job around it; of that it reads a few names."""
    from livekit.plugins.turn_detector import base
    from livekit.plugins.turn_detector import multilingual as plugin

    job = SimpleNamespace(
        job=SimpleNamespace(id="AJ_test"),
        worker_id="AW_test",
        inference_executor=SimpleNamespace(),  # an inference at home would fail
    )
    base.get_job_context = plugin.get_job_context = lambda: job
    return plugin.MultilingualModel()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", metavar="WAV:END_OF_SPEECH_S")
    parser.add_argument("--detector", choices=("default", "multilingual", "vad"), default="default")
    parser.add_argument("--model", default="openai/gpt-4.1-mini")
    parser.add_argument("--words", default="I would like to book a table.")
    options = parser.parse_args()
    path, end_s = options.clip.rsplit(":", 1)
    samples = microphone(*read_wave(path), RATE)
    heard, speaker = Microphone(), Loudspeaker()
    replied = asyncio.Event()
    logging.getLogger("livekit.agents").setLevel(logging.DEBUG)
    logging.getLogger("livekit.agents").addHandler(Predictions())
    handling: dict[str, Any] = {}
    match options.detector:
        case "multilingual":
            handling = {"turn_handling": {"turn_detection": multilingual()}}
        case "vad":
            handling = {"turn_handling": {"turn_detection": "vad"}}
    async with http_session():
        session: AgentSession[None] = AgentSession(
            vad=inference.VAD(),
            llm=inference.LLM(options.model),
            stt=Scribe(options.words, float(end_s)),
            tts=Tone(),
            **handling,
        )

        @session.on("agent_state_changed")
        def on_state(event: Any) -> None:
            say("agent_state", state=event.new_state)
            if event.new_state == "speaking":
                replied.set()

        @session.on("error")
        def on_error(event: Any) -> None:
            say("error", **error_fields(getattr(event.error, "error", event.error)))

        @session.on("conversation_item_added")
        def on_item(event: Any) -> None:
            say("said", role=event.item.role, text=event.item.text_content)

        session.input.audio, session.output.audio = heard, speaker
        ended_at = 0.0

        async def listen() -> None:
            nonlocal ended_at
            pace, heard_s = Pace(1.0), 0.0
            for piece in pieces(samples + bytes(2 * RATE * round(GIVE_UP_S)), RATE, FRAME_MS):
                await pace.wait(FRAME_MS / 1000)
                heard.frames.put_nowait(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
                heard_s += FRAME_MS / 1000
                if not ended_at and heard_s >= float(end_s):
                    ended_at = time.monotonic()

        listening: asyncio.Task[None] | None = None
        try:
            await session.start(Agent(instructions="You are a test."), record=False)
            listening = asyncio.create_task(listen())
            await asyncio.wait_for(replied.wait(), GIVE_UP_S)
            say("answered", after_s=round(time.monotonic() - ended_at, 2))
        except Exception as error:
            say("failed", **error_fields(error))
        finally:
            detector = session.turn_detection
            say("detector", model=getattr(detector, "model", detector))
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            await session.aclose()
            say("done")


run(main)
