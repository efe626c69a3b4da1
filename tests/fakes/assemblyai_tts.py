"""AssemblyAI's streaming text-to-speech WebSocket, as a fake.

https://www.assemblyai.com/docs/tts/message-frames
"""

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
from tests.fakes.voices import Fault

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
GENERATE_CHARS_MAX = 2000
SESSION_S = 3600
KNOWN = {
    "model_id", "voice_id", "sample_rate", "encoding", "word_boundaries", "language", "token",
    "inactivity_timeout",
}  # fmt: skip


class FakeAssemblyAIVoice(SocketVoiceFake):
    """Each `Flush` is a request with a number; `Cancel` takes one too. Words come after their
    request's `FlushDone`. What is wrong with an opening is told in place of `Begin`."""

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/ws", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        return None

    async def talk(self, line: VoiceSocket) -> None:
        query = line.request.query
        if (wrong := _mistake(line.request)) is not None:
            await _error(line, *wrong)
            return
        words, rate = query.get("word_boundaries") == "true", int(query.get("sample_rate", "24000"))
        configuration = {
            "word_boundaries": words,
            "sample_rate": rate,
            "limits": {"max_generate_text_length": GENERATE_CHARS_MAX},
        }
        expires = int(time.time()) + SESSION_S
        begin = {"type": "Begin", "id": "s-1", "expires_at": expires}
        await line.send(json.dumps({**begin, "configuration": configuration}))
        talk = _Talk(self, line, rate, words)
        async for frame in line.frames():
            message = json.loads(frame)
            match message.get("type"):
                case "Generate" if len(message["text"]) > GENERATE_CHARS_MAX:
                    await _error(line, 3006, "text is too long")
                    return
                case "Generate":
                    talk.text += message["text"]
                case "Flush":
                    talk.flush()
                case "Cancel":
                    self.cancelled.append(time.monotonic())
                    await talk.cancel()
                case "KeepAlive":
                    pass
                case "Terminate":
                    await talk.end()
                    return
                case _:
                    await _error(line, 3006, "unknown message")
                    return


class _Talk:
    def __init__(
        self, fake: FakeAssemblyAIVoice, line: VoiceSocket, rate: int, words: bool
    ) -> None:
        self.fake, self.line, self.rate, self.words = fake, line, rate, words
        self.text = ""
        self.number = 0
        self.audio_s = 0.0
        self.utterance: Any = None
        self.queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.speaking = line.spawn(self._speak())

    def flush(self) -> None:
        if self.text.strip():
            self.fake.said.append(self.text)
        self.queue.put_nowait((self.number, self.text))
        self.text = ""
        self.number += 1

    async def cancel(self) -> None:
        self.speaking.cancel()
        self.text = ""
        self.number += 1
        await self._send("Audio", flush_id=self.number - 2, audio="AAAA")  # on its way already
        self.queue = asyncio.Queue()
        self.utterance = None
        self.speaking = self.line.spawn(self._speak())
        await self._send("Cancelled", audio_duration_seconds=self.audio_s)

    async def end(self) -> None:
        told = {"session_duration_seconds": 1, "total_input_char_length": 1}
        await self._send("Termination", **told, audio_duration_seconds=self.audio_s)
        await self.line.socket.close()

    async def _send(self, kind: str, **more: Any) -> None:
        await self.line.send(json.dumps({"type": kind, **more}))

    async def _speak(self) -> None:
        try:
            while True:
                number, text = await self.queue.get()
                await self._request(number, text)
        except Fault as fault:
            if fault.kind == "error":
                await _error(self.line, 3005, "fake failure")
            else:
                await self.line.fail(fault)

    async def _request(self, number: int, text: str) -> None:
        began_s, timed = self.audio_s, []
        if text.strip():
            if self.utterance is None:
                self.utterance = self.fake.utterance()
            if self.utterance.kind != "silent":
                async for piece in self.utterance.speak(text, self.rate):
                    self.audio_s += len(piece.pcm) / 2 / self.rate
                    timed += piece.words
                    audio = base64.b64encode(piece.pcm).decode()
                    await self._send("Audio", flush_id=number, audio=audio)
        else:
            self.utterance = None  # an empty request stands behind the last of an utterance
        spoken_ms = round((self.audio_s - began_s) * 1000)
        await self._send("FlushDone", flush_id=number, audio_duration_ms=spoken_ms)
        if self.words and timed:
            start_ms = round(began_s * 1000)
            words = [
                {
                    "word": one.text,
                    "start": start_ms + round(one.start * 1000),
                    "end": start_ms + round(one.end * 1000),
                    "confidence": 0.9,
                }
                for one in timed
            ]
            await self._send(
                "WordBoundaries", flush_id=number, audio_start_ms=start_ms, words=words
            )


def _mistake(request: web.Request) -> tuple[int, str] | None:
    query, authorization = request.query, request.headers.get("Authorization", "")
    if not (authorization or query.get("token")) or authorization.startswith("Bearer "):
        return 1008, "Not authorized"
    if set(query) - KNOWN or query.get("encoding", "pcm_s16le") != "pcm_s16le":
        return 3006, "unknown parameter"
    if int(query.get("sample_rate", "24000")) not in RATES:
        return 3006, "sample_rate"
    return None


async def _error(line: VoiceSocket, code: int, words: str) -> None:
    told = {"type": "Error", "error_code": code, "error_type": "fake", "error": words}
    await line.send(json.dumps({**told, "retryable": code == 3005}))
    await line.socket.close(code=code, message=words.encode())
