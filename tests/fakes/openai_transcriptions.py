"""A fake server with OpenAI's POST /v1/audio/transcriptions: it hears tones as words.

Scenarios: `json-only` refuses verbose_json as gpt-4o-transcribe does, `text` answers in plain text,
`localai` keeps words in the segments, `invented` is Whisper in silence, `status:500`, `garbage`,
`slow:2` answers after so many seconds.
"""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import Sequence
from email import message_from_bytes
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, FakeServer, Handler
from tests.fakes.speech import KEY
from tests.fakes.tones import Ear


class FakeTranscriptions(FakeServer):
    def __init__(self, default: str = "") -> None:
        super().__init__()
        self.default = default
        self.asked: list[dict[str, Any]] = []

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("POST", "/v1/audio/transcriptions", self._transcribe)]

    async def _transcribe(self, request: web.Request, exchange: Exchange) -> web.Response:
        scenario = self.next_scripted()
        exchange.scenario = scenario = self.default if scenario is None else scenario
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return self._error(401, "bad key")
        asked: dict[str, Any] = {}
        sent = b""
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        for part in message_from_bytes(head + exchange.raw).walk():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if name == "file" and "." in (part.get_filename() or ""):
                sent = bytes(content)
            elif name is not None:
                asked[str(name)] = bytes(content).decode()
        if not sent or "model" not in asked:
            return self._error(422, "file and model are required")
        self.asked.append(asked)
        if scenario.startswith("status:"):
            return self._error(int(scenario.split(":")[1]), "as scripted")
        if scenario.startswith("slow:"):
            await asyncio.sleep(float(scenario.split(":")[1]))
        verbose = asked.get("response_format") == "verbose_json"
        if scenario == "json-only" and verbose:
            return self._error(400, "response_format 'verbose_json' is not compatible")
        if scenario == "garbage":
            return web.Response(body=b"{ nonsense", content_type="application/json")
        ear = Ear()
        with wave.open(io.BytesIO(sent)) as recording:
            ear.rate = recording.getframerate()
            ear.feed(recording.readframes(recording.getnframes()))
            ear.settle()
        text = " ".join(word.text for word in ear.words)
        if scenario == "text":
            return web.Response(text=text + "\n")
        if not verbose:
            return web.json_response({"text": text})
        return web.json_response(self._verbose(text, ear, scenario))

    def _verbose(self, text: str, ear: Ear, scenario: str) -> dict[str, Any]:
        name = "text" if scenario == "localai" else "word"
        words = [{name: w.text, "start": w.start, "end": w.end} for w in ear.words]
        invented = scenario == "invented"
        segment: dict[str, Any] = {
            "id": 0, "seek": 0, "start": 0.0, "end": ear.time, "text": " " + text, "tokens": [],
            "temperature": 0.0, "avg_logprob": -1.5 if invented else -0.1,
            "compression_ratio": 1.0, "no_speech_prob": 0.9 if invented else 0.01,
        }  # fmt: skip
        body = {"task": "transcribe", "language": "english", "duration": ear.time, "text": text}
        if scenario == "localai":
            return {**body, "segments": [{**segment, "words": words}]}
        return {**body, "words": words, "segments": [segment]}

    @staticmethod
    def _error(status: int, message: str) -> web.Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return web.Response(
            text=json.dumps({"error": error}), status=status, content_type="application/json"
        )
