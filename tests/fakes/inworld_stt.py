"""A fake of Inworld's streaming recogniser, on loopback."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


class Streaming(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        super().__init__(fake, request, exchange)
        self._configured = False

    async def _result(self, **fields: Any) -> None:
        await self.say({"result": fields})

    async def text(self, message: str) -> None:
        asked = json.loads(message)
        if "transcribeConfig" in asked:
            config = asked["transcribeConfig"]
            if not str(config.get("modelId")).startswith("inworld/"):
                await self._error(3, "modelId")
                return
            self.rate = self.ear.rate = config["sampleRateHertz"]
            self._configured = True
        elif not self._configured:
            await self._error(9, "transcribeConfig first")
        elif "audioChunk" in asked:
            await self.audio(base64.b64decode(asked["audioChunk"]["content"], validate=True))
        elif "endTurn" in asked:
            self.utterance += self.ear.settle()
            if self.utterance and "no-flush" not in self.faults:
                await self.end_utterance()
        elif "closeStream" in asked:
            await self._result(usage={"transcribedAudioMs": int(self.ear.time * 1000)})
            await self.close(1000)

    async def _error(self, code: int, text: str) -> None:
        await self.say({"error": {"code": code, "message": text, "status": "X"}})
        await self.close(1008)

    async def speech_started(self, at: float) -> None:
        await self._result(speechStarted={"startTimeMs": int(at * 1000), "confidence": 0.9})

    async def hypothesis(self, words: list[HeardWord]) -> None:
        text = " ".join(word.text for word in words)
        await self._result(transcription={"transcript": text, "isFinal": False})

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._result(
            transcription={
                "transcript": " ".join(word.text for word in words),
                "isFinal": True,
                "wordTimestamps": [
                    {
                        "word": w.text,
                        "startTimeMs": int(w.start * 1000),
                        "endTimeMs": int(w.end * 1000),
                        "confidence": 0.9,
                    }
                    for w in words
                ],
                "voiceProfile": {"age": []},
            }
        )

    async def fault(self) -> None:
        await self._error(13, "out of order")


class FakeInworld(SpeechFake):
    paths = ("/stt/v1/transcribe:streamBidirectional",)
    connection = Streaming

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Basic {KEY}":
            return self.refused(401)
        return None
