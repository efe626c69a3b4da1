"""Cartesia's text-to-speech WebSocket (docs.cartesia.ai, tts/websocket), as a fake."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.base import Exchange, Handler
from tests.fakes.voices import FakeVoice, Fault, break_off, refusal

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
VARIABLE = {"transcript", "continue", "duration", "flush"}
EXPIRES_S = 1.0


class Context:
    """Text that comes in over time, spoken in order."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.fixed = {k: v for k, v in first.items() if k not in VARIABLE}
        self.texts: asyncio.Queue[str | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.closed = False


class FakeCartesia(FakeVoice):
    """Scenarios of connections: status:<n>, hang (no answer to anything).

    Of utterances: reset, close, hole, error, error-without-context, garbage, silent (done without
    audio), each with `:seconds`.
    """

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/tts/websocket", self._socket)]

    async def _socket(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        scenario = self.next_scripted()
        if not (
            request.headers.get("X-API-Key")
            or request.headers.get("Authorization", "").startswith("Bearer ")
        ):
            return web.json_response(
                {"error_code": "unauthorized", "title": "Unauthorized", "message": "no key"},
                status=401,
            )
        if not (request.headers.get("Cartesia-Version") or request.query.get("cartesia_version")):
            return web.json_response({"title": "Bad request", "message": "no version"}, status=400)
        if (refused := refusal(scenario)) is not None:
            return refused
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        contexts: dict[str, Context] = {}
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    continue
                exchange.heard.append(message.data)
                if scenario == "hang":
                    continue
                await self._message(request, socket, exchange, contexts, json.loads(message.data))
        finally:
            for context in contexts.values():
                if context.task is not None:
                    context.task.cancel()
        return socket

    async def _message(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        exchange: Exchange,
        contexts: dict[str, Context],
        message: dict[str, Any],
    ) -> None:
        name = message.get("context_id")
        context = contexts.get(str(name))
        if message.get("cancel"):
            self.cancelled.append(time.monotonic())
            if context is not None and context.task is not None:
                # one more chunk is on its way
                await self._send(
                    socket,
                    exchange,
                    {"type": "chunk", "context_id": name, "data": "AAAA", "done": False},
                )
                context.task.cancel()
                del contexts[str(name)]
            return
        problem = self._problem(message, context)
        if problem is not None:
            await self._send(
                socket,
                exchange,
                {
                    "type": "error",
                    "context_id": name,
                    "status_code": 400,
                    "done": True,
                    "title": "Bad request",
                    "message": problem,
                    "error_code": "invalid_request",
                },
            )
            return
        if context is None:
            context = contexts[str(name)] = Context(message)
            context.task = asyncio.create_task(
                self._speak(request, socket, exchange, contexts, str(name), context)
            )
        if message["transcript"].strip():
            self.said.append(message["transcript"])
            context.texts.put_nowait(message["transcript"])
        if not message.get("continue", False):
            context.closed = True
            context.texts.put_nowait(None)

    def _problem(self, message: dict[str, Any], context: Context | None) -> str | None:
        for field in ("context_id", "model_id", "transcript", "voice", "output_format"):
            if field not in message:
                return f"{field}: missing"
        form = message["output_format"]
        if form.get("container") != "raw" or form.get("sample_rate") not in RATES:
            return "output_format: not supported"
        if form.get("encoding") not in ("pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"):
            return "output_format.encoding: not supported"
        if context is None:
            return None if message["transcript"].strip() else "transcript: empty first message"
        if context.closed:
            return "context has closed"
        fixed = {k: v for k, v in message.items() if k not in VARIABLE}
        return None if fixed == context.fixed else "fields of a context must not change"

    async def _speak(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        exchange: Exchange,
        contexts: dict[str, Context],
        name: str,
        context: Context,
    ) -> None:
        utterance = self.utterance()
        rate = context.fixed["output_format"]["sample_rate"]
        about = {"context_id": name, "status_code": 206, "done": False}
        base_s, flush_id = 0.0, 0
        try:
            while True:
                text: str | None
                if base_s and not context.closed:
                    try:
                        text = await asyncio.wait_for(context.texts.get(), EXPIRES_S)
                    except TimeoutError:
                        del contexts[name]
                        return
                else:
                    text = await context.texts.get()
                if text is None:
                    break
                if utterance.kind == "silent":
                    continue
                async for piece in utterance.speak(text, rate):
                    await self._send(
                        socket,
                        exchange,
                        {
                            "type": "chunk",
                            **about,
                            "data": base64.b64encode(piece.pcm).decode(),
                            "step_time": 1.0,
                        },
                    )
                    if piece.words and context.fixed.get("add_timestamps"):
                        await self._send(
                            socket,
                            exchange,
                            {
                                "type": "timestamps",
                                **about,
                                "word_timestamps": {
                                    "words": [w.text for w in piece.words],
                                    "start": [base_s + w.start for w in piece.words],
                                    "end": [base_s + w.end for w in piece.words],
                                },
                            },
                        )
                base_s = utterance.audio_s
                if context.fixed.get("max_buffer_delay_ms") == 0:
                    flush_id += 1
                    await self._send(
                        socket,
                        exchange,
                        {"type": "flush_done", **about, "flush_done": True, "flush_id": flush_id},
                    )
        except Fault as fault:
            await self._fail(request, socket, exchange, name, fault)
            return
        finally:
            contexts.pop(name, None)
        await self._send(
            socket,
            exchange,
            {"type": "done", "context_id": name, "status_code": 200, "done": True},
        )

    async def _fail(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        exchange: Exchange,
        name: str,
        fault: Fault,
    ) -> None:
        error = {
            "type": "error",
            "status_code": 500,
            "done": True,
            "title": "Internal error",
            "message": "model failure",
            "error_code": "internal",
        }
        match fault.kind:
            case "error":
                await self._send(socket, exchange, {**error, "context_id": name})
            case "error-without-context":
                await self._send(socket, exchange, error)
            case "rate-limited":
                await self._send(
                    socket,
                    exchange,
                    {
                        **error,
                        "context_id": name,
                        "status_code": 429,
                        "error_code": "concurrency_limited",
                    },
                )
            case "garbage":
                await socket.send_str("{not json")
            case "close":
                await socket.close(code=1011, message=b"internal")
            case _:
                break_off(request, fault)

    async def _send(
        self, socket: web.WebSocketResponse, exchange: Exchange, message: dict[str, Any]
    ) -> None:
        text = json.dumps(message)
        exchange.said.append(text[:200])
        if not socket.closed:
            await socket.send_str(text)
