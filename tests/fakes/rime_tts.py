"""Rime's ws3, as a fake."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence

from aiohttp import web

from tests.fakes.base import Handler
from tests.fakes.voice_socket import SocketVoiceFake, VoiceSocket
from tests.fakes.voices import Fault

TEXT_CHARS_MAX = 500


class FakeRime(SocketVoiceFake):
    """Ids are labels: events carry the newest. `done_each`: whether `done` comes for every
    synthesis and not only after the flush."""

    done_each = False

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/ws3", self.serve), ("GET", "/ws2", self.serve)]

    def problem(self, request: web.Request) -> web.Response | None:
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.Response(text="empty apikey", status=401)
        if not request.query.get("speaker"):
            return web.Response(text="speaker is required", status=400)
        if request.query.get("audioFormat") != "pcm":
            return web.Response(text="audioFormat", status=400)
        return None

    async def talk(self, line: VoiceSocket) -> None:
        texts: asyncio.Queue[tuple[str | None, str | None]] = asyncio.Queue()
        speaking = line.spawn(self._speak(line, texts))
        async for frame in line.frames():
            message = json.loads(frame)
            match message.get("operation"):
                case "clear":
                    self.cancelled.append(time.monotonic())
                    speaking.cancel()
                    texts = asyncio.Queue()
                    speaking = line.spawn(self._speak(line, texts))
                case "flush":
                    texts.put_nowait((None, message.get("contextId")))
                case "eos":
                    texts.put_nowait((None, None))
                    await asyncio.sleep(0.1)
                    await line.socket.close()
                    return
                case _:
                    if len(message["text"]) > TEXT_CHARS_MAX:
                        await line.socket.close(code=1011, message=b"400 text too long")
                        return
                    self.said.append(message["text"])
                    texts.put_nowait((message["text"], message.get("contextId")))

    async def _speak(
        self, line: VoiceSocket, texts: asyncio.Queue[tuple[str | None, str | None]]
    ) -> None:
        rate = int(line.request.query.get("samplingRate", "24000"))
        utterance, name = None, None
        try:
            while True:
                text, name = await texts.get()
                if text is None:
                    await line.send(json.dumps({"type": "done", "contextId": name}))
                    utterance = None
                    continue
                utterance = utterance or self.utterance()
                if utterance.kind == "silent":
                    continue
                async for piece in utterance.speak(text, rate):
                    data = base64.b64encode(piece.pcm).decode()
                    await line.send(json.dumps({"type": "chunk", "data": data, "contextId": name}))
                    if piece.words:
                        timed = {
                            "words": [w.text for w in piece.words],
                            "start": [w.start for w in piece.words],  # of this synthesis
                            "end": [w.end for w in piece.words],
                        }
                        await line.send(
                            json.dumps(
                                {
                                    "type": "timestamps",
                                    "word_timestamps": timed,
                                    "contextId": name,
                                }
                            )
                        )
                if self.done_each:
                    await line.send(json.dumps({"type": "done", "contextId": name}))
        except Fault as fault:
            if fault.kind == "error":
                error = {"type": "error", "message": "500 synthesis failed", "contextId": name}
                await line.send(json.dumps(error))
            else:
                await line.fail(fault)
