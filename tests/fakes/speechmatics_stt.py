"""A fake of Speechmatics' two protocols, on loopback."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord

CONFIG = {
    "language", "model", "operating_point", "enable_partials", "max_delay", "max_delay_mode",
    "diarization", "speaker_diarization_config", "additional_vocab", "conversation_config",
    "enable_entities", "domain", "output_locale", "punctuation_overrides",
    "audio_filtering_config", "transcript_filtering_config",
}  # fmt: skip


class RealTime(Connection):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        super().__init__(fake, request, exchange)
        self._started = False
        self._frames = 0
        self._finals = 0  # words of the utterance that are final
        self.faults.setdefault("no-final", "")  # finals are forced

    async def _error(self, kind: str, code: int, reason: str) -> None:
        await self.say({"message": "Error", "type": kind, "reason": reason})
        await self.close(code, kind)

    async def text(self, message: str) -> None:
        asked = json.loads(message)
        match asked.get("message"):
            case "StartRecognition":
                config = asked.get("transcription_config", {})
                unknown = set(config) - CONFIG
                if unknown or "language" not in config:
                    await self._error("invalid_config", 1008, f"unknown fields {unknown}")
                    return
                self._started = True
                await self.say(
                    {
                        "message": "RecognitionStarted",
                        "id": "rec-1",
                        "language_pack_info": {"word_delimiter": " "},
                    }
                )
            case "ForceEndOfUtterance":
                await self._force(forced=True)
            case "EndOfStream":
                await self._force(forced=False)
                await self.say({"message": "EndOfTranscript"})
            case "SetRecognitionConfig":
                pass
            case _:
                await self._error("invalid_message", 1008, "unknown message")

    async def _force(self, *, forced: bool) -> None:
        self.utterance += self.ear.settle()
        words, self.utterance, self.speaking = self.utterance, [], False
        rest, self._finals = words[self._finals :], 0
        if rest:
            await self._transcript("AddTranscript", rest, forced=forced)
        if forced and "no-flush" not in self.faults:
            at = round(self.ear.time, 3)
            await self.say(
                {
                    "message": "EndOfUtterance",
                    "forced": True,
                    "metadata": {"start_time": at, "end_time": at},
                }
            )

    async def binary(self, data: bytes) -> None:
        if not self._started:
            await self._error("protocol_error", 1003, "audio before StartRecognition")
            return
        self._frames += 1
        await self.say({"message": "AudioAdded", "seq_no": self._frames})
        await self.audio(data)

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if len(words) - self._finals >= 3:  # finals are pieces
            pieces, self._finals = words[self._finals : len(words) - 1], len(words) - 1
            await self._transcript("AddTranscript", pieces)
        await self._transcript("AddPartialTranscript", words[self._finals :])

    async def _transcript(self, kind: str, words: list[HeardWord], **fields: Any) -> None:
        await self.say(
            {
                "message": kind,
                "format": "2.1",
                "metadata": {
                    "start_time": words[0].start,
                    "end_time": words[-1].end,
                    "transcript": "".join(word.text + " " for word in words),
                },
                "results": [
                    {
                        "type": "word",
                        "start_time": word.start,
                        "end_time": word.end,
                        "alternatives": [
                            {
                                "content": word.text,
                                "confidence": 0.9,
                                "language": "en",
                                "speaker": "S1",
                            }
                        ],
                    }
                    for word in words
                ],
                **fields,
            }
        )

    async def fault(self) -> None:
        await self._error("job_error", 4013, "out of order")


class Agent(RealTime):
    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        super().__init__(fake, request, exchange)
        if "no-final" not in exchange.scenario:
            del self.faults["no-final"]
        self._turn = 0

    async def _force(self, *, forced: bool) -> None:
        self.utterance += self.ear.settle()
        if self.utterance:
            await self.end_utterance()

    async def speech_started(self, at: float) -> None:
        self._turn += 1
        await self.say({"message": "SpeechStarted", "metadata": {"start_time": at}})
        await self.say(
            {"message": "StartOfTurn", "turn_id": self._turn, "metadata": {"start_time": at}}
        )

    async def hypothesis(self, words: list[HeardWord]) -> None:
        await self._segment("AddPartialSegment", words)

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._segment("AddSegment", words)
        await self.say(
            {
                "message": "EndOfTurn",
                "turn_id": self._turn,
                "metadata": {"start_time": words[0].start, "end_time": self.ear.time},
            }
        )

    async def _segment(self, kind: str, words: list[HeardWord]) -> None:
        text = " ".join(word.text for word in words)
        await self.say(
            {
                "message": kind,
                "segment": {"transcript": text, "speaker": "S1"},
                "metadata": {"start_time": words[0].start, "end_time": words[-1].end},
            }
        )


class FakeSpeechmatics(SpeechFake):
    paths = ("/v2", "/v2/", "/v2/agent")

    def make(self, request: web.Request, exchange: Exchange) -> Connection:
        kind = Agent if request.path.endswith("agent") else RealTime
        return kind(self, request, exchange)

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return self.refused(401)
        return None
