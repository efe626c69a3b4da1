"""A fake of xAI's /v1/stt, on loopback."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


class Streaming(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.rate = int(request.query.get("sample_rate", "16000"))
        super().__init__(fake, request, exchange)
        self._interims = request.query.get("interim_results") == "true"
        self._locked = 0

    async def opened(self) -> None:
        await self.say({"type": "transcript.created"})

    async def text(self, message: str) -> None:
        if json.loads(message).get("type") != "audio.done":
            await self.say({"type": "error", "message": "invalid message"})
            return
        words = [*self.utterance, *self.ear.settle()]
        self.utterance = []
        await self._say("transcript.done", words, duration=round(self.ear.time, 3))
        await self.close(1000)

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if len(words) - self._locked >= 6:  # a chunk final, as after 3 s
            self._locked = len(words)
            await self._say("transcript.partial", words, is_final=True, speech_final=False)
        elif self._interims:
            await self._say("transcript.partial", words, is_final=False, speech_final=False)

    async def utterance_over(self, words: list[HeardWord]) -> None:
        self._locked = 0
        await self._say("transcript.partial", words, is_final=True, speech_final=True)

    async def _say(self, kind: str, words: list[HeardWord], **fields: Any) -> None:
        await self.say(
            {
                "type": kind,
                "text": " ".join(word.text for word in words),
                "language": "",
                "words": [{"text": w.text, "start": w.start, "end": w.end} for w in words],
                **fields,
            }
        )

    async def fault(self) -> None:
        await self.say({"type": "error", "message": "out of order"})
        await self.close(1011)


class FakeXai(SpeechFake):
    paths = ("/v1/stt",)
    connection = Streaming

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return self.refused(401)
        if "format" in request.query and "language" not in request.query:
            return self.refused(400)
        return None
