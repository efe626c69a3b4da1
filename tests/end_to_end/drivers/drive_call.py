"""A call of the installed livekit-agents that does what it is told, a line of standard input each.

`reply`: ask the language model. `speak`: have a sentence said. `overlap`: the user talks over the
agent. `call`: a new detector, as a new call has one. Each is answered with one event of that name,
with `ok`. The connection options are those that AgentSession has by default.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from events import Pace, error_fields, http_session, run, say

RATE = 16000
FRAME_MS = 50
PATIENCE_S = 5.0


class Call:
    """An agent's clients, each kept for the whole call."""

    def __init__(self) -> None:
        from livekit.agents import inference

        self.llm = inference.LLM("openai/gpt-4.1-mini")
        self.tts = inference.TTS("cartesia/sonic-3", voice="v")
        for client in (self.llm, self.tts):
            client.on("error", self._trouble)
        self.stream: Any = None

    def _trouble(self, error: Any) -> None:
        say("trouble", recoverable=error.recoverable, **error_fields(error.error))

    async def call(self) -> dict[str, Any]:
        from livekit.agents.inference import interruption

        if self.stream is not None:
            await self.stream.aclose()
        detector = interruption.AdaptiveInterruptionDetector()
        detector.on("error", self._trouble)
        self.stream = detector.stream()
        return {}

    async def reply(self) -> dict[str, Any]:
        from livekit.agents import llm

        context = llm.ChatContext.empty()
        context.add_message(role="user", content="Hello")
        text = ""
        stream = self.llm.chat(chat_ctx=context)
        async for chunk in stream:
            text += (chunk.delta.content if chunk.delta is not None else None) or ""
        await stream.aclose()
        return {"ok": bool(text)}

    async def speak(self) -> dict[str, Any]:
        size = 0
        stream = self.tts.stream()
        stream.push_text("Hello there, my friend.")
        stream.end_input()
        async for event in stream:
            size += len(event.frame.data)
        await stream.aclose()
        return {"ok": size > 0}

    async def overlap(self) -> dict[str, Any]:
        import livekit.rtc as rtc
        from livekit.agents.inference import interruption

        stream = self.stream
        samples = b"\xff\x7f" * (RATE * FRAME_MS // 1000)
        stream.push_frame(interruption._AgentSpeechStartedSentinel())
        stream.push_frame(
            interruption._OverlapSpeechStartedSentinel(speech_duration=0.0, started_at=time.time())
        )
        verdict = asyncio.ensure_future(anext(aiter(stream)))
        pace, sent_s = Pace(1.0), 0.0
        while sent_s < PATIENCE_S and not verdict.done():
            await pace.wait(FRAME_MS / 1000)
            stream.push_frame(rtc.AudioFrame(samples, RATE, 1, len(samples) // 2))
            sent_s += FRAME_MS / 1000
        event = await asyncio.wait_for(verdict, PATIENCE_S)
        stream.push_frame(interruption._OverlapSpeechEndedSentinel(ended_at=time.time()))
        stream.push_frame(interruption._AgentSpeechEndedSentinel())
        return {"ok": event.is_interruption}

    async def aclose(self) -> None:
        await self.stream.aclose()
        await self.tts.aclose()
        await self.llm.aclose()


async def main() -> None:
    async with http_session():
        call = Call()
        say("listening")
        while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
            try:
                say(name, **{"ok": True, **await getattr(call, name)()})
            except Exception as error:
                say(name, ok=False, **error_fields(error))
        await call.aclose()


if __name__ == "__main__":
    run(main)
