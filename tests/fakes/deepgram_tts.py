"""Deepgram's /v1/speak WebSocket, as a fake."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence

from aiohttp import web

from tests.fakes.base import Handler
from tests.fakes.voice_socket import SocketVoiceFake, VoiceSocket
from tests.fakes.voices import Fault

RATES = ("8000", "16000", "24000", "32000", "48000")
KNOWN = {"model", "encoding", "sample_rate", "mip_opt_out", "speed", "container"}
FLUSHES_PER_MINUTE = 20


class FakeDeepgramVoice(SocketVoiceFake):
    """Audio comes a sentence at a time; frames carry no name. `flush_limit` as theirs."""

    flush_limit = FLUSHES_PER_MINUTE

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/speak", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        query, authorization = request.query, request.headers.get("Authorization", "")
        if not authorization.startswith(("Token ", "Bearer ")):
            return self._refuse(401, "INVALID_AUTH", "Invalid credentials.")
        if not query.get("model", "aura-asteria-en").startswith(("aura-", "flux-")):
            return self._refuse(400, "Bad Request", "No such model/language/tier combination.")
        if query.get("encoding", "linear16") != "linear16":
            return self._refuse(400, "INVALID_QUERY_PARAMETER", "encoding")
        if query.get("sample_rate", "24000") not in RATES or set(query) - KNOWN:
            return self._refuse(400, "INVALID_QUERY_PARAMETER", "sample_rate or unknown")
        return None

    def _refuse(self, status: int, code: str, message: str) -> web.Response:
        body = {"err_code": code, "err_msg": message, "request_id": "r"}
        return web.json_response(body, status=status, headers={"dg-error": message})

    async def talk(self, line: VoiceSocket) -> None:
        await line.send(
            json.dumps(
                {
                    "type": "Metadata",
                    "request_id": "r-1",
                    "model_name": "aura",
                    "model_version": "1",
                    "model_uuid": "u-1",
                }
            )
        )
        texts: asyncio.Queue[str | None] = asyncio.Queue()
        speaking = line.spawn(self._speak(line, texts))
        sequence, flushes = 0, deque[float]()
        async for frame in line.frames():
            if isinstance(frame, bytes):
                await line.socket.close(code=1003, message=b"MESSAGE-0000")
                return
            message = json.loads(frame)
            match message.get("type"):
                case "Speak":
                    if len(message["text"]) > 2000:
                        await line.socket.close(code=1009, message=b"BIG-0001")
                        return
                    self.said.append(message["text"])
                    texts.put_nowait(message["text"])
                case "Flush":
                    now = time.monotonic()
                    while flushes and flushes[0] < now - 60:
                        flushes.popleft()
                    if len(flushes) >= self.flush_limit:
                        warning = {"type": "Warning", "description": "flushes", "code": "X"}
                        await line.send(json.dumps(warning))
                        continue
                    flushes.append(now)
                    texts.put_nowait(None)
                case "Clear":
                    self.cancelled.append(time.monotonic())
                    speaking.cancel()
                    await line.send(b"\0\0" * 240)  # on their way already
                    texts = asyncio.Queue()
                    speaking = line.spawn(self._speak(line, texts))
                    sequence += 1
                    await line.send(json.dumps({"type": "Cleared", "sequence_id": sequence}))
                case "Close":
                    await line.socket.close()
                    return
                case _:
                    await line.socket.close(code=1008, message=b"DATA-0000")
                    return

    async def _speak(self, line: VoiceSocket, texts: asyncio.Queue[str | None]) -> None:
        rate = int(line.request.query.get("sample_rate", "24000"))
        sequence = 0
        try:
            while True:
                utterance = None
                while (text := await texts.get()) is not None:
                    utterance = utterance or self.utterance()
                    if utterance.kind == "silent":
                        continue
                    async for piece in utterance.speak(text, rate):
                        await line.send(piece.pcm)
                await line.send(json.dumps({"type": "Flushed", "sequence_id": sequence}))
                sequence += 1
        except Fault as fault:
            if fault.kind == "error":
                await line.socket.close(code=1011, message=b"NET-0000")
            else:
                await line.fail(fault)
