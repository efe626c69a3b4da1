"""Fish Audio's live speech WebSocket, as a fake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgpack
from aiohttp import web

from tests.fakes.base import Handler
from tests.fakes.voice_socket import SocketVoiceFake, VoiceSocket
from tests.fakes.voices import Fault

MODELS = ("s1", "s2-pro", "s2.1-pro", "s2.1-pro-free", "drama-3")


class FakeFishAudio(SocketVoiceFake):
    """`keeps_socket`: whether a second `start` is taken after `finish`."""

    keeps_socket = False

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/tts/live", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.json_response({"message": "no key", "status": 401}, status=401)
        if request.headers.get("model") not in MODELS:
            return web.json_response({"message": "no model", "status": 400}, status=400)
        return None

    async def talk(self, line: VoiceSocket) -> None:
        texts: asyncio.Queue[str | None] | None = None
        async for frame in line.frames():
            if isinstance(frame, str):
                await line.socket.close(code=1003)
                return
            message = msgpack.unpackb(frame, raw=False)
            event = message.get("event")
            if event == "start":
                request = message["request"]
                texts = asyncio.Queue()
                line.spawn(self._speak(line, texts, request.get("sample_rate") or 44100))
                if request["format"] != "pcm":
                    await self._send(line, {"event": "finish", "reason": "error"})
            elif texts is None:
                await line.socket.close(code=1008, message=b"start first")
                return
            elif event == "text" and message["text"].strip():
                self.said.append(message["text"])
                texts.put_nowait(message["text"])
            elif event == "stop":
                texts.put_nowait(None)

    async def _speak(self, line: VoiceSocket, texts: asyncio.Queue[str | None], rate: int) -> None:
        utterance = self.utterance(odd=True)
        try:
            while (text := await texts.get()) is not None:
                if utterance.kind == "silent":
                    continue
                async for piece in utterance.speak(text, rate):
                    await self._send(line, {"event": "audio", "audio": piece.pcm, "time": 1.0})
        except Fault as fault:
            if fault.kind == "error":
                await self._send(line, {"event": "finish", "reason": "error"})
            else:
                await line.fail(fault)
            return
        await self._send(line, {"event": "finish", "reason": "stop"})
        if not self.keeps_socket:
            await line.socket.close()

    async def _send(self, line: VoiceSocket, message: dict[str, object]) -> None:
        await line.send(msgpack.packb(message, use_bin_type=True))
