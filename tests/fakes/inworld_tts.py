"""Inworld's bidirectional speech WebSocket, as a fake."""

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

CONTEXTS_MAX = 5
OK = {"code": 0, "message": "", "details": []}


class FakeInworld(SocketVoiceFake):
    """A generation for each text; times begin again in each."""

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/tts/v1/voice:streamBidirectional", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        if not request.headers.get("Authorization", "").startswith("Basic "):
            return web.json_response({"code": 16, "message": "unauthenticated"}, status=401)
        return None

    async def talk(self, line: VoiceSocket) -> None:
        contexts: dict[str, tuple[asyncio.Queue[str | None], asyncio.Task[None]]] = {}
        async for frame in line.frames():
            message = json.loads(frame)
            name = message.get("contextId")
            if "create" in message:
                if len(contexts) >= CONTEXTS_MAX:
                    await self._result(line, name, {}, 8, "too many contexts")
                    continue
                create = message["create"]
                if create.get("voiceId") == "unknown":
                    await self._result(line, name, {}, 5, "Unknown voice: unknown not found!")
                    continue
                texts: asyncio.Queue[str | None] = asyncio.Queue()
                task = line.spawn(self._speak(line, contexts, name, create, texts))
                contexts[name] = (texts, task)
                await self._result(line, name, {"contextCreated": create})
            elif name not in contexts:
                error = {"error": {"code": 3, "message": "no open context"}}
                if "send_text" in message and name is not None:
                    await self._result(line, name, {}, 5, "context not found")
                elif "cancel_context" not in message:
                    await line.send(json.dumps(error))
            elif "send_text" in message:
                text = message["send_text"]["text"]
                if len(text) > 1000:
                    await self._result(line, name, {}, 3, "text too long")
                elif text.strip():
                    self.said.append(text)
                    contexts[name][0].put_nowait(text)
            elif "close_context" in message:
                contexts[name][0].put_nowait(None)
            elif "cancel_context" in message:
                self.cancelled.append(time.monotonic())
                contexts.pop(name)[1].cancel()
                await self._result(line, name, {"contextClosed": {}})

    async def _speak(
        self,
        line: VoiceSocket,
        contexts: dict[str, Any],
        name: str,
        create: dict[str, Any],
        texts: asyncio.Queue[str | None],
    ) -> None:
        rate = create["audioConfig"]["sampleRateHertz"]
        utterance = self.utterance()
        try:
            while (text := await texts.get()) is not None:
                if utterance.kind == "silent":
                    continue
                async for piece in utterance.speak(text, rate):
                    chunk: dict[str, Any] = {
                        "audioContent": base64.b64encode(piece.pcm).decode(),
                        "usage": {"processedCharactersCount": len(text), "modelId": "m"},
                    }
                    if piece.words and create.get("timestampType") == "WORD":
                        chunk["timestampInfo"] = {
                            "wordAlignment": {
                                "words": [w.text for w in piece.words],
                                "wordStartTimeSeconds": [w.start for w in piece.words],
                                "wordEndTimeSeconds": [w.end for w in piece.words],
                            }
                        }
                    await self._result(line, name, {"audioChunk": chunk})
                await self._result(line, name, {"flushCompleted": {}})
        except Fault as fault:
            contexts.pop(name, None)
            if fault.kind == "error":
                await self._result(line, name, {}, 13, "internal error")
            else:
                await line.fail(fault)
            return
        contexts.pop(name, None)
        await self._result(line, name, {"contextClosed": {}})

    async def _result(
        self,
        line: VoiceSocket,
        name: str | None,
        body: dict[str, Any],
        code: int = 0,
        message: str = "",
    ) -> None:
        status = {**OK, "code": code, "message": message}
        await line.send(json.dumps({"result": {"contextId": name, **body, "status": status}}))
