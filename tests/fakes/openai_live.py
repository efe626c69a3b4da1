"""A fake of OpenAI's Live API (full duplex), on loopback: one session for each connection.

After speech and then silence, or a `session.commentary.append`, it speaks: words, audio, usage.
With delegation to Responses and tools it calls the first tool before its first words, once.

Scenarios, one for each connection, several joined by "+":

    status:401      the handshake is refused (400, 401, 404, 429, 500, ...)
    die:TYPE        the connection is reset when the client sends an event of this type
    no-start        session.start is not answered
    die-speaking    reset in the middle of its first words
    expire          closed as expired after its first words
    empty           session.start is answered by insufficient_quota
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
KEY = "sk-fake-live-0123456789"
RATE = 24_000
SILENCE_S = 0.3
PIECE = b"\x00\x20" * 1200 + b"\x00\xe0" * 1200  # 100 ms, loud
WORDS = ("It ", "is ", "noon.")
TOOL_ARGUMENTS = '{"city": "Rome"}'
MODELS = ("gpt-live-1", "gpt-live-1.1")
FIELDS = frozenset(
    "model instructions input audio delegation safety_identifier store client triggers".split()
)
USAGE: Json = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 49,
}


class _ResetError(Exception):
    """The fake has cut the connection."""


class Session:
    """One connection."""

    def __init__(self, fake: FakeLive, request: web.Request, exchange: Exchange) -> None:
        self.fake, self.request, self.exchange = fake, request, exchange
        self.socket = web.WebSocketResponse(compress=False)
        self.faults = set((exchange.scenario or "").split("+"))
        self.session: Json | None = None
        self.numbers = 0
        self.heard_speech = False
        self.quiet_s = 0.0
        self.seconds = 0.0
        self.called = False
        self.outputs = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def new_id(self, kind: str) -> str:
        self.numbers += 1
        return f"{kind}_{self.fake.name}_{self.numbers}"

    async def tell(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, "event_id": self.new_id("event"), **fields})
        self.exchange.said.append(text[:400])
        if not self.socket.closed:
            await self.socket.send_str(text)

    async def error(self, message: str, code: str, about: Json, param: str = "") -> None:
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": param or None,
            "client_event_id": about.get("event_id"),
        }
        await self.tell("error", error=error)

    async def run(self) -> web.StreamResponse:
        await self.socket.prepare(self.request)
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    self.exchange.heard.append(message.data)
                    await self._hear(json.loads(message.data))
        except _ResetError:
            reset(self.request)
        finally:
            for task in self.tasks:
                task.cancel()
        return self.socket

    async def _hear(self, event: Json) -> None:
        kind = event.get("type", "")
        if f"die:{kind}" in self.faults:
            raise _ResetError
        if self.session is None and kind != "session.start":
            await self.error("Send session.start first.", "session_not_started", event)
            return
        match kind:
            case "session.start":
                await self._start(event)
            case "session.update":
                assert self.session is not None
                self.session["delegation"] = event["session"]["delegation"]
                await self.tell("session.updated", session=self.session)
            case "session.input_audio.append":
                await self._append(base64.b64decode(event["audio"], validate=True))
            case "session.input_audio.mute" | "session.input_audio.unmute":
                await self.tell(f"{kind}d")
            case "session.commentary.append":
                await self.tell("session.commentary.appended")
                self._do(self._answer())
            case "session.thinking.append" | "session.instructions.append":
                await self.tell(f"{kind}ed")
            case "response.item.create":
                self.outputs += event["item"]["type"] == "function_call_output"
            case "response.create":
                self._do(self._continue())
            case "session.close":
                await self._close("close_requested")
            case _:
                await self.error(f"Unknown event {kind!r}.", "unknown_event", event)

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _start(self, event: Json) -> None:
        session = event["session"]
        if "no-start" in self.faults:
            return
        if "empty" in self.faults:
            await self.error(f"The account of {KEY} is empty.", "insufficient_quota", event)
            return
        if unknown := sorted(set(session) - FIELDS):
            await self.error("Unknown field.", "unknown_parameter", event, f"session.{unknown[0]}")
            return
        if session.get("model") not in MODELS:
            await self.error("No such model.", "invalid_model", event, "session.model")
            return
        started = {"id": "live_fake", "expires_at": 2_000_000_000, "status": "active"}
        self.session = {**session, **started}
        await self.tell("session.started", session=self.session)

    async def _append(self, pcm: bytes) -> None:
        self.seconds += len(pcm) / 2 / RATE
        if any(pcm):
            if not self.heard_speech:
                await self.tell(
                    "session.input_transcript.delta", delta="hello", start_ms=0, end_ms=400
                )
            self.heard_speech, self.quiet_s = True, 0.0
        elif self.heard_speech:
            self.quiet_s += len(pcm) / 2 / RATE
            if self.quiet_s >= SILENCE_S:
                self.heard_speech = False
                self._do(self._answer())

    async def _answer(self) -> None:
        assert self.session is not None
        delegation = self.session.get("delegation") or {}
        tools = (delegation.get("responses") or {}).get("tools")
        if tools and not self.called:
            self.called = True
            info = {"id": self.new_id("delegation"), "target": "responses"}
            await self.tell("session.delegation.created", delegation=info)
            await self._run(info["id"], tools[0]["name"])
        else:
            await self._speak()

    async def _run(self, delegation: str, name: str | None) -> None:
        """One response of the backend; with `name`, a call of that function."""
        assert self.session is not None
        model = self.session["delegation"]["responses"]["model"]
        response: Json = {"id": self.new_id("resp"), "model": model, "output": []}

        async def nested(kind: str, **fields: Any) -> None:
            event = {"type": kind, **fields}
            await self.tell("response.event", delegation_id=delegation, event=event)

        self.delegation = delegation
        await nested("response.created", response=response)
        if name is not None:
            item = {
                "id": self.new_id("fc"),
                "type": "function_call",
                "status": "completed",
                "call_id": self.new_id("call"),
                "name": name,
                "arguments": TOOL_ARGUMENTS,
            }
            await nested("response.output_item.done", item=item)
        await nested("response.completed", response={**response, "usage": USAGE})

    async def _continue(self) -> None:
        if not self.outputs:
            await self.error("No output for a call.", "missing_function_output", {})
            return
        await self._run(self.delegation, None)
        await self._speak()

    async def _speak(self) -> None:
        for i, word in enumerate(WORDS):
            await self.tell(
                "session.output_transcript.delta", delta=word, start_ms=i * 100,
                end_ms=i * 100 + 100,
            )  # fmt: skip
            audio = base64.b64encode(PIECE).decode()
            await self.tell("session.output_audio.delta", delta=audio)
            if "die-speaking" in self.faults:
                await asyncio.sleep(0.3)  # a reset takes along what was not read
                reset(self.request)
                return
        await self.tell("session.usage.updated", usage={"seconds": self.seconds + 1.0})
        silence = base64.b64encode(bytes(len(PIECE))).decode()
        for _ in range(20):
            await self.tell("session.output_audio.delta", delta=silence)
        if "expire" in self.faults:
            await self._close("expired")

    async def _close(self, reason: str) -> None:
        usage = {"seconds": self.seconds + 1.5}
        await self.tell("session.closed", reason=reason, session=self.session, usage=usage)
        await self.socket.close(code=1000)


class FakeLive(FakeServer):
    """Serves /v1/live/sessions."""

    def __init__(self, name: str = "live", key: str = KEY) -> None:
        super().__init__()
        self.name = name
        self.key = key

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/live/sessions", self._connect)]

    async def _connect(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        exchange.scenario = self.next_scripted() or ""
        refused = None
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            refused = 401
        elif exchange.scenario.startswith("status:"):
            refused = int(exchange.scenario.partition(":")[2])
        elif request.query:
            refused = 400  # the model goes into session.start
        if refused is not None:
            error = {"message": "refused by the fake", "type": "fake", "code": None, "param": None}
            return web.json_response({"error": error}, status=refused)
        return await Session(self, request, exchange).run()

    def heard(self, connection: int = -1) -> list[Json]:
        """The events of a connection's client."""
        return [json.loads(text) for text in tuple(self.received[connection].heard)]
