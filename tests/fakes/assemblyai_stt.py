"""A fake of AssemblyAI's /v3/ws, on loopback."""

from __future__ import annotations

import json
import time

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


def text_of(words: list[HeardWord]) -> str:
    return " ".join(word.text for word in words)


class Streaming(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.rate = int(request.query["sample_rate"])
        super().__init__(fake, request, exchange)
        self._u3 = not request.query.get("speech_model", "").startswith("universal-streaming")
        self._turn = 0
        self._started_at: float | None = None
        self._sent_s = 0.0

    async def opened(self) -> None:
        await self.say({"type": "Begin", "id": "session-1", "expires_at": 1_900_000_000})

    async def _error(self, code: int, text: str) -> None:
        await self.say({"type": "Error", "error_code": code, "error": text})
        await self.close(code, text)

    async def binary(self, data: bytes) -> None:
        seconds = len(data) / 2 / self.rate
        if not 0.05 - 1e-6 <= seconds <= 1.0 + 1e-6:
            await self._error(3007, "Input Duration Violation: not within 50 and 1000 ms")
            return
        now = time.monotonic()
        self._started_at = self._started_at or now
        self._sent_s += seconds
        if self._sent_s > now - self._started_at + 2.0:  # some slack for what was buffered
            await self._error(3007, "Audio Transmission Rate Exceeded")
            return
        await self.audio(data)

    async def text(self, message: str) -> None:
        asked = json.loads(message)
        match asked.get("type"):
            case "ForceEndpoint":
                self.utterance += self.ear.settle()
                if self.utterance and "no-flush" not in self.faults:
                    await self.end_utterance()
            case "Terminate":
                if self.utterance:
                    await self.end_utterance()
                await self.say(
                    {
                        "type": "Termination",
                        "audio_duration_seconds": int(self.ear.time),
                        "session_duration_seconds": int(self.ear.time),
                    }
                )
                await self.close(1000)
            case "KeepAlive" | "UpdateConfiguration":
                pass
            case _:
                await self._error(3006, "Invalid Message Type")

    async def speech_started(self, at: float) -> None:
        if self._u3:
            await self.say(
                {"type": "SpeechStarted", "timestamp": int(at * 1000), "confidence": 0.9}
            )

    async def hypothesis(self, words: list[HeardWord]) -> None:
        await self._say_turn(words, over=False)

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._say_turn(words, over=True)
        self._turn += 1

    async def _say_turn(self, words: list[HeardWord], *, over: bool) -> None:
        await self.say(
            {
                "type": "Turn",
                "turn_order": self._turn,
                "turn_is_formatted": over,
                "end_of_turn": over,
                "transcript": text_of(words if over or self._u3 else words[:-1]),
                "utterance": text_of(words) if over else "",
                "end_of_turn_confidence": 1.0 if over else 0.1,
                "words": [
                    {
                        "text": word.text,
                        "start": int(word.start * 1000),
                        "end": int(word.end * 1000),
                        "confidence": 0.9,
                        "word_is_final": over or word is not words[-1],
                    }
                    for word in words
                ],
            }
        )

    async def fault(self) -> None:
        await self._error(3005, "Server error")


class FakeAssemblyAI(SpeechFake):
    paths = ("/v3/ws",)
    connection = Streaming

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != KEY:
            return self.refused(401)
        query = request.query
        for name in ("keyterms_prompt", "language_codes"):
            if name in query and not isinstance(json.loads(query[name]), list):
                return self.refused(400)
        for name in ("format_turns", "language_detection", "speaker_labels"):
            if query.get(name, "true").lower() not in ("true", "false"):
                return self.refused(400)
        return None
