"""A fake of Cartesia's two recognisers, on loopback."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


class Turns(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.rate = int(request.query["sample_rate"])
        super().__init__(fake, request, exchange)
        self._eager = False

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self.say({"type": kind, "request_id": "req-1", **fields})

    async def opened(self) -> None:
        if not self.request.query["model"].startswith("ink-"):
            await self._tell(
                "error",
                status_code=400,
                error_code="model_not_found",
                title="Invalid model",
                message="there is no such model",
            )
            await self.close(1008)
            return
        await self._tell("connected")

    async def text(self, message: str) -> None:
        match json.loads(message).get("type"):
            case "close":
                self.utterance += self.ear.settle()
                if self.utterance:
                    await self.end_utterance()
                await self.close(1000)
            case "config":
                pass
            case _:
                await self._tell("error", status_code=400, title="Bad", message="unknown message")

    async def binary(self, data: bytes) -> None:
        await self.audio(data)
        if self.utterance and not self._eager and self.ear.quiet_s >= 0.15:
            self._eager = True
            await self._tell("turn.eager_end", transcript=self._text())

    def _text(self) -> str:
        return " ".join(word.text for word in self.utterance)

    async def speech_started(self, at: float) -> None:
        self._eager = False
        await self._tell("turn.start")

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if self._eager:
            self._eager = False
            await self._tell("turn.resume")
        await self._tell("turn.update", transcript=self._text())

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._tell("turn.end", transcript=" ".join(word.text for word in words))

    async def fault(self) -> None:
        await self._tell("error", status_code=500, title="Internal", message="out of order")
        await self.close(1011)


class Manual(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.rate = int(request.query["sample_rate"])
        super().__init__(fake, request, exchange)
        self._told_s = 0.0

    async def text(self, message: str) -> None:
        match message:
            case "finalize":
                self.utterance += self.ear.settle()
                if self.utterance:
                    await self.end_utterance()
                if "no-flush" not in self.faults:
                    await self.say({"type": "flush_done", "request_id": "req-1"})
            case "close" | "done":
                self.utterance += self.ear.settle()
                if self.utterance:
                    await self.end_utterance()
                await self.say({"type": "done", "request_id": "req-1"})
                await self.close(1000)
            case _:
                await self.say(
                    {
                        "type": "error",
                        "status_code": 400,
                        "title": "Bad",
                        "message": "unknown command",
                        "request_id": "req-1",
                    }
                )

    async def utterance_over(self, words: list[HeardWord]) -> None:
        duration, self._told_s = self.ear.time - self._told_s, self.ear.time
        await self.say(
            {
                "type": "transcript",
                "is_final": True,
                "request_id": "req-1",
                "text": " ".join(word.text for word in words),
                "duration": round(duration, 3),
                "language": self.request.query.get("language", "en"),
                "words": [{"word": w.text, "start": w.start, "end": w.end} for w in words],
            }
        )

    async def fault(self) -> None:
        await self.say(
            {
                "type": "error",
                "status_code": 500,
                "title": "Internal",
                "message": "out of order",
                "request_id": "req-1",
            }
        )
        await self.close(1011)


class FakeCartesia(SpeechFake):
    paths = ("/stt/websocket", "/stt/turns/websocket")

    def make(self, request: web.Request, exchange: Exchange) -> Connection:
        kind = Turns if "/turns/" in request.path else Manual
        return kind(self, request, exchange)

    def refusal(self, request: web.Request) -> web.Response | None:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if KEY not in (request.headers.get("X-API-Key"), bearer):
            return self.refused(401)
        version = request.headers.get("Cartesia-Version") or request.query.get("cartesia_version")
        if not version or not {"model", "encoding", "sample_rate"} <= set(request.query):
            return self.refused(400)
        return None
