"""A fake of ElevenLabs' Scribe v2 Realtime, on loopback."""

from __future__ import annotations

import base64
import json

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord


class Scribe(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        query = request.query
        self.rate = int(query.get("audio_format", "pcm_16000").removeprefix("pcm_"))
        super().__init__(fake, request, exchange)
        if query.get("commit_strategy") != "vad":
            self.faults["no-final"] = ""  # then commits alone end an utterance
        self._twice = "true" in (
            query.get("include_timestamps", "").lower(),
            query.get("include_language_detection", "").lower(),
        )
        self._since_s = 0.0
        self._chunks = 0

    async def opened(self) -> None:
        config = {"sample_rate": self.rate, "model_id": self.request.query.get("model_id")}
        await self.say(
            {"message_type": "session_started", "session_id": "session-1", "config": config}
        )

    async def text(self, message: str) -> None:
        chunk = json.loads(message)
        self._chunks += 1
        if chunk.get("message_type") != "input_audio_chunk":
            await self._error("input_error", "unknown message")
            return
        if chunk.get("previous_text") is not None and self._chunks > 1:
            await self._error("input_error", "previous_text is for the first chunk")
            return
        pcm = base64.b64decode(chunk["audio_base_64"], validate=True)
        if len(pcm) > 2 * self.rate:
            await self._error("chunk_size_exceeded", "more than a second")
            return
        self._since_s += len(pcm) / 2 / self.rate
        if pcm:
            await self.audio(pcm)
        if chunk.get("commit"):
            if self._since_s < 0.3:
                await self._error("input_error", "less than 0.3 s since the last commit")
                return
            if "no-flush" not in self.faults:
                await self.end_utterance()

    async def hypothesis(self, words: list[HeardWord]) -> None:
        text = " ".join(word.text for word in words)
        for _ in range(2):  # partials are repeated
            await self.say({"message_type": "partial_transcript", "text": text})

    async def utterance_over(self, words: list[HeardWord]) -> None:
        self._since_s = 0.0
        text = " ".join(word.text for word in words)
        await self.say({"message_type": "committed_transcript", "text": text})
        if self._twice:
            await self.say(
                {
                    "message_type": "committed_transcript_with_timestamps",
                    "text": text,
                    "language_code": "en",
                    "words": [
                        {
                            "text": w.text,
                            "start": w.start,
                            "end": w.end,
                            "type": "word",
                            "logprob": -0.05,
                            "speaker_id": None,
                            "characters": None,
                        }
                        for w in words
                    ],
                }
            )

    async def _error(self, kind: str, text: str) -> None:
        await self.say({"message_type": kind, "error": text})
        await self.close(1008)

    async def fault(self) -> None:
        await self._error("transcriber_error", "out of order")


class FakeElevenLabs(SpeechFake):
    paths = ("/v1/speech-to-text/realtime",)
    connection = Scribe

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("xi-api-key") != KEY:
            return self.refused(401)
        if "model_id" not in request.query or "-" in request.query.get("language_code", ""):
            return self.refused(400)
        return None
