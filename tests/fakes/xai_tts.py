"""xAI's speech WebSocket, as a fake."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Handler
from tests.fakes.voice_socket import SocketVoiceFake, VoiceSocket
from tests.fakes.voices import Fault

RATES = ("8000", "16000", "22050", "24000", "44100", "48000")


class FakeXaiVoice(SocketVoiceFake):
    """`early_done`: an `audio.done` comes before the text is complete, as is seen live."""

    early_done = True

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/tts", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        query = request.query
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.json_response({"code": "unauthorized", "error": "no key"}, status=401)
        if (
            query.get("codec", "mp3") != "pcm"
            or query.get("sample_rate", "24000") not in RATES
            or query.get("voice") == "unknown"
        ):
            return web.json_response({"code": "invalid", "error": "bad parameter"}, status=400)
        return None

    async def talk(self, line: VoiceSocket) -> None:
        texts: asyncio.Queue[str | None] = asyncio.Queue()
        line.spawn(self._speak(line, texts))
        async for frame in line.frames():
            message = json.loads(frame)
            match message.get("type"):
                case "text.delta":
                    self.said.append(message["delta"])
                    texts.put_nowait(message["delta"])
                case "text.done":
                    texts.put_nowait(None)
                case _:
                    await line.send(json.dumps({"type": "error", "message": "unknown type"}))

    async def _speak(self, line: VoiceSocket, texts: asyncio.Queue[str | None]) -> None:
        query = line.request.query
        rate = int(query.get("sample_rate", "24000"))
        try:
            while True:
                utterance, base_s = self.utterance(), 0.0
                while (text := await texts.get()) is not None:
                    if utterance.kind == "silent":
                        continue
                    async for piece in utterance.speak(text, rate):
                        message: dict[str, Any] = {
                            "type": "audio.delta",
                            "delta": base64.b64encode(piece.pcm).decode(),
                        }
                        await line.send(json.dumps(message))
                        if piece.words and query.get("with_timestamps") == "true":
                            chars = [(c, w) for w in piece.words for c in w.text + " "]
                            stamps = {
                                "graph_chars": [c for c, _ in chars],
                                "graph_times": [
                                    [base_s + w.start, base_s + w.end] for _, w in chars
                                ],
                            }
                            await line.send(
                                json.dumps(
                                    {
                                        "type": "audio.delta",
                                        "delta": "",
                                        "audio_timestamps": stamps,
                                    }
                                )
                            )
                    base_s = utterance.audio_s
                    if self.early_done and texts.empty():
                        await asyncio.sleep(0)
                        if texts.empty():
                            await line.send(json.dumps({"type": "audio.done"}))
                await line.send(json.dumps({"type": "audio.done", "trace_id": "t"}))
        except Fault as fault:
            if fault.kind == "error":
                await line.send(json.dumps({"type": "error", "message": "synthesis failed"}))
            else:
                await line.fail(fault)
