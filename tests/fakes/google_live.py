"""A fake of Gemini's Live API that speaks, on loopback: one session for each connection.

Scenarios, one for each connection, several joined by "+":

    status:403        the handshake is refused
    no-setup          setup is not answered
    bad-key           closed after setup, with words about the key
    die-in-response   reset in the middle of the first answer
    expire            closed with words about its duration after the first answer
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.base import Exchange, FakeServer, Handler, reset

Json = dict[str, Any]
KEY = "AIza-fake-live-0123456789"
PATH = r"/ws/google.ai.generativelanguage.{version:v1\w*}.GenerativeService.BidiGenerateContent"
MODELS = ("models/gemini-3.8-live", "models/gemini-3.8-live-extended-thinking")
SETUP = frozenset(
    "model generationConfig systemInstruction tools realtimeInputConfig inputAudioTranscription "
    "outputAudioTranscription sessionResumption contextWindowCompression historyConfig".split()
)
PIECE = bytes(range(200)) * 24  # 100 ms at 24 kHz
WORDS = ("It ", "is ", "noon.")
USAGE: Json = {
    "promptTokenCount": 30,
    "responseTokenCount": 20,
    "totalTokenCount": 50,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 10},
    ],
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
}  # fmt: skip
SILENCE_S = 0.3


def camel(value: Any) -> Any:
    """Protobuf's JSON takes both spellings."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = {}
    for name, one in value.items():
        first, *rest = name.split("_")
        named[first + "".join(word.capitalize() for word in rest)] = camel(one)
    return named


class Session:
    """One connection."""

    def __init__(self, fake: FakeGemini, request: web.Request, exchange: Exchange) -> None:
        self.fake, self.request, self.exchange = fake, request, exchange
        self.socket = web.WebSocketResponse(compress=False)
        self.faults = set((exchange.scenario or "").split("+"))
        self.setup: Json | None = None
        self.tools: Any = None
        self.speech = False
        self.quiet_s = 0.0
        self.active = False
        self.calls = 0
        self.results = 0
        self.answering: asyncio.Task[None] | None = None

    async def say(self, **message: Any) -> None:
        """As binary frames: the service's are."""
        self.exchange.said.append(json.dumps(message)[:400])
        if not self.socket.closed:
            await self.socket.send_bytes(json.dumps(message).encode())

    async def close(self, code: int, reason: str) -> None:
        await self.socket.close(code=code, message=reason.encode())

    async def run(self) -> web.StreamResponse:
        await self.socket.prepare(self.request)
        try:
            async for message in self.socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    text = message.data if isinstance(message.data, str) else message.data.decode()
                    self.exchange.heard.append(text)
                    await self._hear(camel(json.loads(text)))
        finally:
            if self.answering is not None:
                self.answering.cancel()
        return self.socket

    @property
    def manual(self) -> bool:
        detection = (self.setup or {}).get("realtimeInputConfig", {})
        return bool(detection.get("automaticActivityDetection", {}).get("disabled"))

    async def _hear(self, message: Json) -> None:
        if (setup := message.get("setup")) is not None:
            await self._set_up(setup)
        elif self.setup is None:
            await self.close(1007, "setup must be the first message")
        elif (heard := message.get("realtimeInput")) is not None:
            await self._input(heard)
        elif (content := message.get("clientContent")) is not None:
            if content.get("turnComplete"):
                self._answer()
        elif (result := message.get("toolResponse")) is not None:
            self.results += len(result["functionResponses"])
            self._answer()
        elif (update := message.get("contextUpdate")) is not None:
            if "tools" in update:
                self.tools = update["tools"].get("tools")
        else:
            await self.close(1007, "unknown message")

    async def _set_up(self, setup: Json) -> None:
        if unknown := set(setup) - SETUP:
            await self.close(1007, f"Unknown name {sorted(unknown)[0]!r}")
        elif setup.get("model") not in MODELS:
            await self.close(1008, f"{setup.get('model')} is not found for API version v1beta")
        elif "bad-key" in self.faults:
            await self.close(1008, "API key not valid. Please pass a valid API key.")
        elif setup["generationConfig"].get("responseModalities") != ["AUDIO"]:
            await self.close(1007, "the model speaks")
        elif "no-setup" not in self.faults:
            self.setup, self.tools = setup, setup.get("tools")
            await self.say(setupComplete={})

    async def _input(self, heard: Json) -> None:
        if "activityStart" in heard or "activityEnd" in heard:
            if not self.manual:
                await self.close(1007, "explicit activity needs automatic detection disabled")
                return
            self.active = "activityStart" in heard
            if not self.active:
                await self._transcribe()
                self._answer()
        elif "text" in heard:
            self._answer()
        elif (audio := heard.get("audio")) is not None:
            pcm = base64.b64decode(audio["data"])
            rate = int(audio["mimeType"].partition("rate=")[2])
            if self.manual:
                return
            if any(pcm):
                if not self.speech and self.answering is not None:
                    self.answering.cancel()
                    await self.say(serverContent={"interrupted": True})
                self.speech, self.quiet_s = True, 0.0
            elif self.speech:
                self.quiet_s += len(pcm) / 2 / rate
                if self.quiet_s >= SILENCE_S:
                    self.speech = False
                    await self._transcribe()
                    self._answer()

    async def _transcribe(self) -> None:
        for word in ("hello ", "there"):
            await self.say(serverContent={"inputTranscription": {"text": word}})

    def _answer(self) -> None:
        self.answering = asyncio.create_task(self._respond())

    async def _respond(self) -> None:
        if self.tools and not self.calls:
            self.calls += 1
            declared = self.tools[0]["functionDeclarations"][0]
            call = {"id": "function-call-1", "name": declared["name"], "args": {"city": "Rome"}}
            await self.say(toolCall={"functionCalls": [call]}, usageMetadata=USAGE)
            return
        for word in WORDS:
            audio = base64.b64encode(PIECE).decode()
            part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio}}
            await self.say(serverContent={"modelTurn": {"role": "model", "parts": [part]}})
            await self.say(serverContent={"outputTranscription": {"text": word}})
            if "die-in-response" in self.faults:
                await asyncio.sleep(0.3)  # a reset takes along what was not read
                reset(self.request)
                return
        await self.say(serverContent={"generationComplete": True}, usageMetadata=USAGE)
        await self.say(serverContent={"turnComplete": True})
        self.answering = None
        if "expire" in self.faults:
            await self.close(1008, "The session has reached its maximum duration.")


class FakeGemini(FakeServer):
    """Serves the Live API's WebSocket."""

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", PATH, self._connect)]

    async def _connect(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        exchange.scenario = self.next_scripted() or ""
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        refused = None
        if key != KEY:
            refused = 401
        elif exchange.scenario.startswith("status:"):
            refused = int(exchange.scenario.partition(":")[2])
        if refused is not None:
            return web.json_response({"error": {"message": "refused"}}, status=refused)
        return await Session(self, request, exchange).run()

    def heard(self, connection: int = -1) -> list[Json]:
        """The messages of a connection's client."""
        return [json.loads(text) for text in tuple(self.received[connection].heard)]
