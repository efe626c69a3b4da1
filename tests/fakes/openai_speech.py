"""POST /v1/audio/speech as OpenAI and self-hosted servers have it, as a fake."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, Handler
from tests.fakes.voices import FakeVoice, Fault, break_off, refusal, render


def wav_head(rate: int, extra: bool = True) -> bytes:
    """Placeholder sizes, as of a server that streams, and a LIST chunk before the data."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    comment = b"LIST" + struct.pack("<I", 10) + b"INFOabcdef" if extra else b""
    return b"RIFF\xff\xff\xff\xffWAVE" + form + comment + b"data\xff\xff\xff\xff"


class FakeSpeechServer(FakeVoice):
    """`form`: pcm, wav, sse (key `audio`), sse-delta (key `delta`), mp3.

    Scenarios of requests: status:<n>, empty, slow:<s>; of utterances (one is a request here):
    reset, close, hole, error (in an event), each with `:seconds`.
    """

    def __init__(self, form: str = "pcm", rate: int = 24000, **more: Any) -> None:
        super().__init__(**more)
        self.form, self.rate = form, rate

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("POST", "/v1/audio/speech", self._speech)]

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    async def _speech(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        scenario = self.next_scripted()
        if (refused := refusal(scenario)) is not None:
            return refused
        body = exchange.body
        problem = self._problem(body)
        if problem is not None:
            return web.json_response(
                {
                    "error": {
                        "message": problem,
                        "type": "invalid_request_error",
                        "param": None,
                        "code": None,
                    }
                },
                status=400,
            )
        self.said.append(body["input"])
        kind = {
            "pcm": "audio/pcm",
            "wav": "audio/wav",
            "mp3": "audio/mpeg",
        }.get(self.form, "text/event-stream")
        if scenario is not None and scenario.startswith("slow:"):
            await asyncio.sleep(float(scenario.partition(":")[2]))
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        if scenario == "empty":
            await response.write_eof()
            return response
        try:
            await self._stream(response, body["input"])
        except Fault as fault:
            if fault.kind == "error":
                await self._event(response, {"type": "speech.audio.error", "error": "out of it"})
                await response.write_eof()
            else:
                break_off(request, fault)
        return response

    async def _stream(self, response: web.StreamResponse, text: str) -> None:
        utterance = self.utterance(odd=True)
        if self.form == "wav":
            head = wav_head(self.rate)
            await response.write(head[:20])
            await response.write(head[20:])
        async for piece in utterance.speak(text, self.rate):
            if self.form.startswith("sse"):
                key = "delta" if self.form == "sse-delta" else "audio"
                audio = base64.b64encode(piece.pcm).decode()
                await self._event(response, {"type": "speech.audio.delta", key: audio})
            else:
                await response.write(piece.pcm)
        if self.form.startswith("sse"):
            await self._event(response, {"type": "speech.audio.done", "usage": {}})
        await response.write_eof()

    async def _event(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _problem(self, body: Any) -> str | None:
        if not isinstance(body, dict):
            return "the body is not JSON"
        for field in ("model", "input", "voice"):
            if not isinstance(body.get(field), str) or not body[field]:
                return f"{field}: missing"
        if len(body["input"]) > 4096:
            return "input: longer than 4096 characters"
        if body.get("response_format", "mp3") not in ("mp3", "opus", "aac", "flac", "wav", "pcm"):
            return "response_format: unknown"
        return None


def spoken(text: str, rate: int = 24000) -> bytes:
    """What the server sends for a text: it does not hear the space at the end."""
    return render(text.strip(), rate)
