"""A fake of Deepgram's /v1/listen and /v2/listen, on loopback.

With the fault `foreign` /v1/listen is as WhisperLiveKit has it (whisperlivekit/deepgram_compat.py):
Metadata comes first, nothing is said of silence, and a Finalize ends the session.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange
from tests.fakes.speech import KEY, Connection, SpeechFake
from tests.fakes.tones import HeardWord

IDLE_S = 10.0
UPDATE_S = 0.25
NOVA_BOOLEANS = {
    "interim_results",
    "punctuate",
    "smart_format",
    "diarize",
    "vad_events",
    "numerals",
}
FLUX_PARAMETERS = {
    "model", "encoding", "sample_rate", "eot_threshold", "eager_eot_threshold", "eot_timeout_ms",
    "keyterm", "language_hint", "numerals", "profanity_filter", "redact", "mip_opt_out", "tag",
}  # fmt: skip


class Nova(Connection):
    """/v1/listen."""

    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        query = request.query
        self.rate = int(query.get("sample_rate", "16000"))
        super().__init__(fake, request, exchange)
        self.request_id = f"req-{len(fake.connections)}"
        self._interims = query.get("interim_results") == "true"
        self._vad_events = query.get("vad_events") == "true"
        self._diarize = query.get("diarize") == "true"
        self._segment_start = 0.0
        self._next_empty = 1.0
        self._idle: asyncio.TimerHandle | None = None

    async def opened(self) -> None:
        self._reset_idle()
        if "foreign" in self.faults:
            await self.say({"type": "Metadata", "duration": 0, "models": ["whisper"]})

    def _reset_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_S, lambda: loop.create_task(self._idled()))

    async def _idled(self) -> None:
        await self.close(
            1011,
            "Deepgram did not receive audio data or a text message within the timeout window. "
            "See https://dpgr.am/net0001",
        )

    async def binary(self, data: bytes) -> None:
        self._reset_idle()
        if not data:  # an empty frame is an end of stream
            await self._close_stream()
            return
        await self.audio(data)
        if "foreign" in self.faults:
            return
        if self.ear.time >= self._next_empty and not self.utterance:
            self._next_empty = self.ear.time + 1.0
            await self._results([], is_final=True, speech_final=False)

    async def text(self, message: str) -> None:
        self._reset_idle()
        try:
            kind = json.loads(message).get("type")
        except ValueError:
            kind = None
        match kind:
            case "KeepAlive":
                pass
            case "Finalize":
                if "foreign" in self.faults:
                    await self.say({"type": "Error", "description": "the audio has ended"})
                    await self.close(4400)
                    return
                if "no-flush" in self.faults:
                    return
                for word in self.ear.settle():
                    self.utterance.append(word)
                words, self.utterance, self.speaking = self.utterance, [], False
                if words or self.ear.time > self._segment_start + 0.1:
                    await self._results(words, is_final=True, speech_final=True, finalize=True)
            case "CloseStream":
                await self._close_stream()
            case "Configure":
                await self.say({"type": "ConfigureSuccess", "request_id": self.request_id})
            case _:
                await self.say({"type": "Error", "variant": "SchemaError", "message": message})

    async def _close_stream(self) -> None:
        for word in self.ear.settle():
            self.utterance.append(word)
        if self.utterance:
            await self._results(self.utterance, is_final=True, speech_final=True)
        await self.say(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": self.request_id,
                "sha256": "0" * 64,
                "created": "2026-01-02T03:04:05.678Z",
                "duration": round(self.ear.time, 3),
                "channels": 1,
            }
        )
        await self.close(1000)

    async def speech_started(self, at: float) -> None:
        if self._vad_events:
            await self.say({"type": "SpeechStarted", "channel": [0, 1], "timestamp": at})

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if self._interims:
            await self._results(words, is_final=False, speech_final=False)

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._results(words, is_final=True, speech_final=True)

    async def _results(
        self, words: list[HeardWord], *, is_final: bool, speech_final: bool, finalize: bool = False
    ) -> None:
        start = self._segment_start
        if is_final:
            self._segment_start = self.ear.time
        text = " ".join(word.text for word in words)
        extra: dict[str, Any] = {"speaker": 0} if self._diarize else {}
        await self.say(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "start": round(start, 3),
                "duration": round(self.ear.time - start, 3),
                "is_final": is_final,
                "speech_final": speech_final,
                "channel": {
                    "alternatives": [
                        {
                            "transcript": text.capitalize() + "." if is_final and text else text,
                            "confidence": 0.98 if words else 0.0,
                            "words": [
                                {
                                    "word": word.text,
                                    "punctuated_word": word.text,
                                    "start": word.start,
                                    "end": word.end,
                                    "confidence": 0.97,
                                    **extra,
                                }
                                for word in words
                            ],
                        }
                    ]
                },
                "metadata": {
                    "request_id": self.request_id,
                    "model_uuid": "00000000-0000-0000-0000-000000000000",
                    "model_info": {"name": "fake", "version": "1", "arch": "nova-3"},
                },
                "from_finalize": finalize,
            }
        )

    async def fault(self) -> None:
        await self.close(1011, "Deepgram encountered an error. NET-0000")


class Flux(Connection):
    """/v2/listen."""

    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.rate = int(request.query["sample_rate"])
        super().__init__(fake, request, exchange)
        self.request_id = f"req-{len(fake.connections)}"
        self._eager = "eager_eot_threshold" in request.query
        self._sequence = 0
        self._turn = 0
        self._turn_start = 0.0
        self._next_update = UPDATE_S
        self._eager_sent = False

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self.say(
            {"type": kind, "request_id": self.request_id, "sequence_id": self._sequence, **fields}
        )
        self._sequence += 1

    async def opened(self) -> None:
        await self._tell("Connected")

    async def text(self, message: str) -> None:
        asked = json.loads(message)
        match asked.get("type"):
            case "ForceEndTurn":
                if self.speaking and "no-flush" not in self.faults:
                    self.utterance += self.ear.settle()
                    words, self.utterance, self.speaking = self.utterance, [], False
                    await self._info("EndOfTurn", words, trigger="manual")
            case "CloseStream":
                await self.close(1000)
            case "Configure":
                await self._tell(
                    "ConfigureSuccess",
                    thresholds=asked.get("thresholds", {}),
                    keyterms=asked.get("keyterms", []),
                    language_hints=[],
                )
            case _:
                await self._tell("Error", code="UNPARSABLE_CLIENT_MESSAGE", description="what?")
                await self.close(1008)

    async def binary(self, data: bytes) -> None:
        await self.audio(data)
        if self.speaking and self._eager and not self._eager_sent and self.ear.quiet_s >= 0.15:
            self._eager_sent = True
            await self._info("EagerEndOfTurn", self.utterance)
        while self.ear.time >= self._next_update:
            self._next_update += UPDATE_S
            await self._info("Update", self.utterance)

    async def speech_started(self, at: float) -> None:
        self._turn_start = at
        self._eager_sent = False
        await self._info("StartOfTurn", [])

    async def hypothesis(self, words: list[HeardWord]) -> None:
        if self._eager_sent:
            self._eager_sent = False
            await self._info("TurnResumed", words)

    async def utterance_over(self, words: list[HeardWord]) -> None:
        await self._info("EndOfTurn", words, trigger="model")

    async def _info(self, event: str, words: list[HeardWord], **fields: Any) -> None:
        await self._tell(
            "TurnInfo",
            event=event,
            turn_index=self._turn,
            audio_window_start=round(self._turn_start, 3),
            audio_window_end=round(self.ear.time, 3),
            transcript=" ".join(word.text for word in words),
            words=[
                {"word": word.text, "confidence": 0.98, "start": word.start, "end": word.end}
                for word in words
            ],
            end_of_turn_confidence=0.9 if event == "EndOfTurn" else 0.1,
            **fields,
        )
        if event == "EndOfTurn":
            self._turn += 1
            self._turn_start = self.ear.time

    async def fault(self) -> None:
        await self._tell("Error", code="INTERNAL_SERVER_ERROR", description="out of order")
        await self.close(1011)


class FakeDeepgram(SpeechFake):
    paths = ("/v1/listen", "/v2/listen")

    def make(self, request: web.Request, exchange: Exchange) -> Connection:
        kind = Flux if request.path == "/v2/listen" else Nova
        return kind(self, request, exchange)

    def refused(self, status: int, reason: str = "refused") -> web.Response:
        code = {401: "INVALID_AUTH", 402: "ASR_PAYMENT_REQUIRED", 429: "TOO_MANY_REQUESTS"}
        body = {"err_code": code.get(status, "BAD"), "err_msg": reason, "request_id": "req-x"}
        headers = {"dg-request-id": "req-x", "dg-error": reason}
        return web.json_response(body, status=status, headers=headers)

    def refusal(self, request: web.Request) -> web.Response | None:
        query = request.query
        if request.headers.get("Authorization") not in (f"Token {KEY}", f"token {KEY}"):
            return self.refused(401, "Invalid credentials.")
        model = query.get("model", "")
        if ("encoding" in query) != ("sample_rate" in query):
            return self.refused(400, "encoding and sample_rate belong together")
        if request.path == "/v2/listen":
            if not model.startswith("flux-general-") or set(query) - FLUX_PARAMETERS:
                return self.refused(400, "unknown model or parameter")
            eager = float(query.get("eager_eot_threshold", "0"))
            if eager > float(query.get("eot_threshold", "0.7")):
                return self.refused(400, "eager_eot_threshold > eot_threshold")
            return None
        if not model or model.startswith("flux"):
            return self.refused(400, "unknown model")
        if model.startswith("nova-3") and "keywords" in query:
            return self.refused(400, "keywords are not for nova-3")
        if not model.startswith("nova-3") and "keyterm" in query:
            return self.refused(400, "keyterm is for nova-3")
        for name in NOVA_BOOLEANS & set(query):
            if query[name] not in ("true", "false"):
                return self.refused(400, f"{name}: expected true or false")
        return None
