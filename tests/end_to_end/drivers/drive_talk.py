"""A call of the installed livekit-agents in which everything goes on at the same time.

The caller speaks (a wave file, again and again, in real time, into speech-to-text), the model
replies, sentences are said, the caller talks over the agent, the end of the turn is asked for. Each
try is an event with `ok`. It ends when standard input does, after what is going on, and after one
try of each at least.
Connection options are those that AgentSession has by default.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from events import Pace, error_fields, http_session, pieces, read_wave, run, say

FRAME_MS = 50
DETECTOR_RATE = 16000
LOUD = b"\xff\x7f" * (DETECTOR_RATE * FRAME_MS // 1000)
VERDICT_S = 5.0
PREDICTION_S = 1.0  # AgentSession's own: then the detector is given up
PAUSE_S = 0.5
CALM_S = 3.0  # between two overlaps
FINALS_S = 10.0
SENTENCE = "Hello there, my friend, how are you today."


class Call:
    """An agent's clients, each kept for the whole call."""

    def __init__(self, wav: str) -> None:
        self._samples, self._rate = read_wave(wav)
        self._over = asyncio.Event()

    def end(self) -> None:
        self._over.set()

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def troubles(self, part: str) -> Callable[[Any], None]:
        def on_error(error: Any) -> None:
            say("trouble", part=part, recoverable=error.recoverable, **error_fields(error.error))

        return on_error

    async def repeat(self, name: str, once: Callable[[], Awaitable[bool]], pause_s: float) -> None:
        while True:
            began = time.perf_counter()
            try:
                say(name, ok=await once(), took_s=round(time.perf_counter() - began, 2))
            except Exception as error:
                say(name, ok=False, **error_fields(error))
            await self.pause(pause_s)
            if self._over.is_set():
                return

    async def listen(self) -> None:
        """Speech-to-text."""
        from livekit import rtc
        from livekit.agents import inference

        recogniser = inference.STT("deepgram/nova-3", language="en")
        recogniser.on("error", self.troubles("stt"))
        stream = recogniser.stream()

        async def hear() -> None:
            async for event in stream:
                if getattr(event.type, "value", event.type) == "final_transcript":
                    say("final", text=event.alternatives[0].text)

        hearing = asyncio.create_task(hear())
        pace, loops = Pace(1.0), 0
        while not hearing.done() and not (loops and self._over.is_set()):
            for piece in pieces(self._samples, self._rate, FRAME_MS):
                await pace.wait(FRAME_MS / 1000)
                if not hearing.done():
                    stream.push_frame(rtc.AudioFrame(piece, self._rate, 1, len(piece) // 2))
            loops += 1
        if not hearing.done():
            stream.end_input()
        done, _ = await asyncio.wait([hearing], timeout=FINALS_S)
        for task in done:
            if task.exception() is not None:
                say("lost", part="stt", **error_fields(task.exception()))
        say("spoken", loops=loops)
        await stream.aclose()

    async def reply(self) -> None:
        """A language model."""
        from livekit.agents import inference, llm

        model = inference.LLM("openai/gpt-4.1-mini")
        model.on("error", self.troubles("chat"))
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="Hello")
        first = ""

        async def once() -> bool:
            nonlocal first
            text = ""
            async with model.chat(chat_ctx=context) as stream:
                async for chunk in stream:
                    text += (chunk.delta.content if chunk.delta is not None else None) or ""
            first = first or text
            return bool(text) and text == first

        await self.repeat("reply", once, PAUSE_S)
        await model.aclose()

    async def speak(self) -> None:
        """A voice: each sentence is as long as the first."""
        from livekit.agents import inference

        voice = inference.TTS("cartesia/sonic-3", voice="v")
        voice.on("error", self.troubles("tts"))
        first = 0

        async def once() -> bool:
            nonlocal first
            size = 0
            stream = voice.stream()
            for word in SENTENCE.split(" "):
                stream.push_text(word + " ")
                await asyncio.sleep(0.1)  # as a model writes
            stream.end_input()
            async for event in stream:
                size += len(event.frame.data)
            await stream.aclose()
            first = first or size
            return 0 < size == first

        await self.repeat("utterance", once, PAUSE_S)
        await voice.aclose()

    async def overlap(self) -> None:
        """Interruption: one detector for the whole call, as AgentSession has."""
        from livekit import rtc
        from livekit.agents.inference import interruption

        detector = interruption.AdaptiveInterruptionDetector()
        detector.on("error", self.troubles("bargein"))
        stream = detector.stream()
        verdicts = aiter(stream)

        async def once() -> bool:
            stream.push_frame(interruption._AgentSpeechStartedSentinel())
            stream.push_frame(
                interruption._OverlapSpeechStartedSentinel(
                    speech_duration=0.0, started_at=time.time()
                )
            )
            verdict = asyncio.ensure_future(anext(verdicts))
            pace, sent_s = Pace(1.0), 0.0
            while sent_s < VERDICT_S and not verdict.done():
                await pace.wait(FRAME_MS / 1000)
                stream.push_frame(rtc.AudioFrame(LOUD, DETECTOR_RATE, 1, len(LOUD) // 2))
                sent_s += FRAME_MS / 1000
            event = await asyncio.wait_for(verdict, 1.0)
            stream.push_frame(interruption._OverlapSpeechEndedSentinel(ended_at=time.time()))
            stream.push_frame(interruption._AgentSpeechEndedSentinel())
            return bool(event.is_interruption)

        await self.repeat("overlap", once, CALM_S)
        say("detector", part="bargein", lost=stream._task.done())
        await asyncio.gather(stream.aclose(), return_exceptions=True)

    async def turn(self) -> None:
        """End of turn; older clients have none."""
        from livekit import rtc
        from livekit.agents import inference

        if not hasattr(inference, "TurnDetector"):
            return
        detector = inference.TurnDetector(version="v1", local_fallback=False)
        stream = detector.stream()
        await asyncio.sleep(3.0)  # it drops what is pushed before it is connected

        async def once() -> bool:
            pace = Pace(1.0)
            for piece in [*pieces(self._samples, self._rate, FRAME_MS)][:20]:
                await pace.wait(FRAME_MS / 1000)
                stream.push_audio(rtc.AudioFrame(piece, self._rate, 1, len(piece) // 2))
            future = stream.predict()
            done, _ = await asyncio.wait([future], timeout=PREDICTION_S)
            stream.flush(reason="turn committed")
            return bool(done) and not stream.is_degraded

        await self.repeat("turn", once, PAUSE_S)
        say("detector", part="eot", lost=stream.is_degraded)
        await asyncio.gather(stream.aclose(), return_exceptions=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wav")
    async with http_session():
        call = Call(parser.parse_args().wav)
        parts = (call.listen, call.reply, call.speak, call.overlap, call.turn)
        tasks = [asyncio.create_task(part()) for part in parts]
        say("begun")
        await asyncio.to_thread(sys.stdin.read)
        call.end()
        for part, ended in zip(
            parts, await asyncio.gather(*tasks, return_exceptions=True), strict=True
        ):
            if isinstance(ended, BaseException):
                say("lost", part=part.__name__, **error_fields(ended))
        say("ended")


if __name__ == "__main__":
    run(main)
