"""ElevenLabs' multi-context and single-context WebSockets, as a fake."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Handler
from tests.fakes.voice_socket import SocketVoiceFake, VoiceSocket
from tests.fakes.voices import Fault, words

FORMATS = {f"pcm_{rate}": rate for rate in (8000, 16000, 22050, 24000, 44100)}
CONTEXTS_MAX = 5


class FakeElevenLabs(SocketVoiceFake):
    """`restarting`: whether alignment begins again at 0 in every message, as their documents
    say. `snake`: whether fields are in snake case, as is seen live."""

    def __init__(self, restarting: bool = True, snake: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.restarting, self.snake = restarting, snake

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [
            ("GET", "/v1/text-to-speech/{voice}/multi-stream-input", self.serve),
            ("GET", "/v1/text-to-speech/{voice}/stream-input", self.serve),
        ]

    def problem(self, request: web.Request) -> web.Response | None:
        if not request.headers.get("xi-api-key") and "authorization" not in request.query:
            return self._refuse(401, "invalid_api_key", "Invalid API key")
        if request.match_info["voice"] == "unknown":
            return self._refuse(404, "voice_not_found", "A voice with that id was not found.")
        if request.query.get("output_format", "mp3_44100") not in FORMATS:
            return self._refuse(400, "invalid_output_format", "output_format")
        return None

    def _refuse(self, status: int, code: str, message: str) -> web.Response:
        return web.json_response({"detail": {"status": code, "message": message}}, status=status)

    async def talk(self, line: VoiceSocket) -> None:
        if line.request.path.endswith("/stream-input"):
            await self._talk_single(line)
            return
        contexts: dict[str, asyncio.Queue[str | None]] = {}
        async for frame in line.frames():
            message = json.loads(frame)
            name = message.get("context_id")
            if message.get("close_socket"):
                await line.socket.close()
                return
            if name is None:
                continue  # their keepalive
            if name not in contexts:
                if len(contexts) >= CONTEXTS_MAX:
                    error = {
                        "message": "too many contexts",
                        "error": "max_active_conversations",
                        "code": 1008,
                    }
                    await line.send(json.dumps(error))
                    await line.socket.close(code=1008, message=b"max_active_conversations")
                    return
                contexts[name] = asyncio.Queue()
                line.spawn(self._speak(line, contexts, name))
            elif "voice_settings" in message:
                await line.socket.close(code=1008, message=b"settings only in the first message")
                return
            text = message.get("text", "")
            if text.strip():
                self.said.append(text)
                contexts[name].put_nowait(text)
            if message.get("close_context"):
                self.cancelled.append(time.monotonic())
                contexts[name].put_nowait(None)

    async def _talk_single(self, line: VoiceSocket) -> None:
        contexts: dict[str, asyncio.Queue[str | None]] = {"": asyncio.Queue()}
        task = line.spawn(self._speak(line, contexts, ""))
        async for frame in line.frames():
            text = json.loads(frame).get("text", "")
            if text.strip():
                self.said.append(text)
                contexts[""].put_nowait(text)
            elif text == "":
                contexts[""].put_nowait(None)
                await task
                await line.socket.close()
                return

    async def _speak(
        self, line: VoiceSocket, contexts: dict[str, asyncio.Queue[str | None]], name: str
    ) -> None:
        rate = FORMATS[line.request.query["output_format"]]
        utterance, base_s = self.utterance(), 0.0
        try:
            while (text := await contexts[name].get()) is not None:
                if utterance.kind == "silent":
                    continue
                async for piece in utterance.speak(text, rate):
                    timed = list(piece.words)
                    before_s = 0.0 if self.restarting else base_s
                    shift_s = self._start(text, piece.words, rate) if self.restarting else 0.0
                    await line.send(
                        json.dumps(
                            {
                                "audio": base64.b64encode(piece.pcm).decode(),
                                "isFinal": None,
                                self._key(): name,
                                "alignment": self._alignment(
                                    [(w.text, before_s + w.start - shift_s, w.end - w.start)
                                     for w in timed]
                                ),
                                "normalizedAlignment": None,
                            }
                        )
                    )  # fmt: skip
                base_s = utterance.audio_s
        except Fault as fault:
            if fault.kind == "error":
                error = {"message": "try later", "error": "system_busy", "code": 1011}
                await line.send(json.dumps({**error, self._key(): name}))
            else:
                await line.fail(fault)
            return
        finally:
            contexts.pop(name, None)
        await line.send(json.dumps({"isFinal": True, self._key(): name}))

    def _key(self) -> str:
        return "context_id" if self.snake else "contextId"

    def _start(self, text: str, timed: Sequence[Any], rate: int) -> float:
        return timed[0].start if timed and timed[0] in words(text, rate) else 0.0

    def _alignment(self, entries: list[tuple[str, float, float]]) -> dict[str, Any] | None:
        if not entries:
            return None
        chars, starts, lasts = [], [], []
        for word, start, length in entries:
            for i, char in enumerate(word):
                chars.append(char)
                starts.append(round((start + length * i / len(word)) * 1000))
                lasts.append(round(length / len(word) * 1000))
            chars.append(" ")
            starts.append(round((start + length) * 1000))
            lasts.append(10)
        return {"chars": chars, "charStartTimesMs": starts, "charDurationsMs": lasts}
