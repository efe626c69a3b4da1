"""A fake of OpenAI's Realtime API, on loopback: one conversation for each connection.

A scenario is scripted for each connection (`fake.script("die:response.create")`), several joined by
"+":

    status:401          the handshake is refused (400, 401, 404, 429, 500, ...)
    invalid-key         it is let in, told of its key, and closed
    mute                it never greets
    garbage             what is no JSON comes in place of the greeting
    die:TYPE            the connection is reset when the client sends an event of this type
    close:TYPE:CODE     it is closed with this code
    die-in-response     reset after the first piece of a response
    stall-in-response   nothing comes after the first piece of a response
    garbage-in-response what is no JSON comes after the first piece
    no-response         response.create is not answered
    expire              response.create is answered by `session_expired`, and a close
    fail:CODE           the response is done as failed, with this code
    leak                response.create is answered by an error that repeats the key
    flood               response.create is answered with audio without end
    slow                pieces of a response come a second apart
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.base import Exchange, FakeServer, Handler, reset

Json = dict[str, Any]
KEY = "sk-fake-realtime-0123456789"
RATE = 24_000
SILENCE_S = 0.3  # ends a turn
PIECE = bytes(range(200)) * 24  # 100 ms of output
PIECES = 5
WORDS = ("It ", "is ", "noon ", "in ", "Rome.")
TOOL_ARGUMENTS = '{"city": "Rome"}'


class _ResetError(Exception):
    """The fake has cut the connection."""


def default_session(model: str) -> Json:
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_fake",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": RATE},
                "transcription": None,
                "turn_detection": {"type": "server_vad", "create_response": True},
            },
            "output": {"format": {"type": "audio/pcm", "rate": RATE}, "voice": "marin"},
        },
    }


def merge(old: Json, new: Json) -> Json:
    found = dict(old)
    for name, value in new.items():
        before = found.get(name)
        if isinstance(before, dict) and isinstance(value, dict) and name != "turn_detection":
            found[name] = merge(before, value)
        else:
            found[name] = value
    return found


class Conversation:
    """One connection."""

    def __init__(self, fake: FakeRealtime, request: web.Request, exchange: Exchange) -> None:
        self.fake, self.request, self.exchange = fake, request, exchange
        self.socket = web.WebSocketResponse(compress=False, max_msg_size=32 << 20)
        self.faults = set((exchange.scenario or "").split("+"))
        self.session = default_session(request.query.get("model", ""))
        self.items: dict[str, Json] = {}
        self.audio_ms: dict[str, int] = {}
        self.buffer = bytearray()
        self.speaking = False
        self.quiet_s = 0.0
        self.responding: asyncio.Task[None] | None = None
        self.response: Json = {}
        self.numbers = 0
        self.input_tokens = 0

    # -- what is said

    def new_id(self, kind: str) -> str:
        self.numbers += 1
        return f"{kind}_{self.fake.name}_{len(self.fake.received)}_{self.numbers}"

    async def tell(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, "event_id": self.new_id("event"), **fields})
        self.exchange.said.append(text[:400])
        if not self.socket.closed:
            await self.socket.send_str(text)

    async def error(self, message: str, code: str | None, about: Json | None = None) -> None:
        await self.tell(
            "error",
            error={
                "type": "invalid_request_error",
                "code": code,
                "message": message,
                "param": None,
                "event_id": (about or {}).get("event_id"),
            },
        )

    # -- the loop

    async def run(self) -> web.StreamResponse:
        await self.socket.prepare(self.request)
        try:
            if await self._greet():
                async for message in self.socket:
                    if message.type is WSMsgType.TEXT:
                        self.exchange.heard.append(message.data)
                        await self._hear(json.loads(message.data))
        except _ResetError:
            reset(self.request)
        finally:
            if self.responding is not None:
                self.responding.cancel()
        return self.socket

    async def _greet(self) -> bool:
        if "invalid-key" in self.faults:
            said = f"Incorrect API key provided: {KEY}."
            await self.error(said, "invalid_api_key")
            await self.socket.close(code=3000, message=b"invalid_request_error.invalid_api_key")
            return False
        if "garbage" in self.faults:
            await self.socket.send_str("{no json")
        elif "mute" not in self.faults:
            await self.tell("session.created", session=self.session)
        return True

    async def _hear(self, event: Json) -> None:
        kind = event.get("type", "")
        for fault in self.faults:
            name, _, rest = fault.partition(":")
            what, _, code = rest.partition(":")
            if what == kind and name == "die":
                raise _ResetError
            if what == kind and name == "close":
                await self.socket.close(code=int(code), message=b"fake")
                return
        if "mute" in self.faults:
            return
        match kind:
            case "session.update":
                await self._update(event)
            case "input_audio_buffer.append":
                await self._append(event)
            case "input_audio_buffer.commit":
                if len(self.buffer) < RATE * 2 // 10:
                    await self.error("buffer too small", "input_audio_buffer_commit_empty", event)
                    return
                await self._commit()
            case "input_audio_buffer.clear":
                self.buffer.clear()
                await self.tell("input_audio_buffer.cleared")
            case "conversation.item.create":
                await self._create(event)
            case "conversation.item.delete" | "conversation.item.retrieve":
                await self._item(event)
            case "conversation.item.truncate":
                await self._truncate(event)
            case "response.create":
                await self._respond(event)
            case "response.cancel":
                await self._cancel(event)
            case _:
                await self.error(f"Invalid value: '{kind}'.", "invalid_value", event)

    async def _update(self, event: Json) -> None:
        session = event["session"]
        if session.get("model") not in (None, self.session["model"]):
            await self.error("Cannot update a conversation's model.", "invalid_value", event)
            return
        self.session = merge(self.session, session)
        await self.tell("session.updated", session=self.session)

    async def _append(self, event: Json) -> None:
        try:
            pcm = base64.b64decode(event["audio"], validate=True)
        except (binascii.Error, KeyError):
            await self.error("Invalid 'audio'. Expected base64.", "invalid_value", event)
            return
        self.buffer += pcm
        turns = self.session["audio"]["input"]["turn_detection"]
        if turns is None:
            return
        if any(pcm):
            self.quiet_s = 0.0
            if not self.speaking:
                self.speaking = True
                self.user_item = self.new_id("item")
                await self.tell(
                    "input_audio_buffer.speech_started", audio_start_ms=0, item_id=self.user_item
                )
                if turns.get("interrupt_response", True) and self.responding is not None:
                    await self._stop_response("turn_detected")
        elif self.speaking:
            self.quiet_s += len(pcm) / 2 / RATE
            if self.quiet_s >= SILENCE_S:
                self.speaking = False
                await self.tell(
                    "input_audio_buffer.speech_stopped", audio_end_ms=1000, item_id=self.user_item
                )
                await self._commit(self.user_item)
                if turns.get("create_response", True):
                    await self._respond({})

    async def _commit(self, item_id: str | None = None) -> None:
        item_id = item_id or self.new_id("item")
        seconds = len(self.buffer) / 2 / RATE
        self.input_tokens += round(10 * seconds)
        self.buffer.clear()
        last = next(reversed(self.items), None)
        await self.tell("input_audio_buffer.committed", item_id=item_id, previous_item_id=last)
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        await self._add(item, last)
        if self.session["audio"]["input"]["transcription"] is not None:
            await self.tell(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=f"{seconds:.1f} seconds",
                usage={"type": "duration", "seconds": seconds},
            )

    async def _add(self, item: Json, previous: str | None, *, done: bool = True) -> None:
        self.items[item["id"]] = item
        await self.tell("conversation.item.added", item=item, previous_item_id=previous)
        if done:
            await self.tell("conversation.item.done", item=item, previous_item_id=previous)

    async def _create(self, event: Json) -> None:
        item = dict(event["item"])
        item.setdefault("id", self.new_id("item"))
        item |= {"object": "realtime.item", "status": "completed"}
        previous = event.get("previous_item_id")
        if item["id"] in self.items:
            await self.error(
                f"Item with id '{item['id']}' already exists.",
                "item_create_duplicate_item_id",
                event,
            )
            return
        if previous not in (None, "root") and previous not in self.items:
            await self.error(
                f"Previous item with id '{previous}' does not exist.", "item_not_found", event
            )
            return
        if previous == "root":
            previous = None
        elif previous is None:
            previous = next(reversed(self.items), None)
        self.input_tokens += 7
        await self._add(item, previous)

    async def _item(self, event: Json) -> None:
        item_id = event["item_id"]
        if item_id not in self.items:
            await self.error(f"Item with item_id not found: {item_id}", "item_not_found", event)
        elif event["type"].endswith("retrieve"):
            await self.tell("conversation.item.retrieved", item=self.items[item_id])
        else:
            del self.items[item_id]
            await self.tell("conversation.item.deleted", item_id=item_id)

    async def _truncate(self, event: Json) -> None:
        item_id, end_ms = event["item_id"], event["audio_end_ms"]
        if item_id not in self.items:
            await self.error(f"Item with item_id not found: {item_id}", "item_not_found", event)
        elif end_ms > self.audio_ms.get(item_id, 0):
            length = self.audio_ms.get(item_id, 0)
            await self.error(
                f"Audio content of {length}ms is already shorter than {end_ms}ms",
                "invalid_value",
                event,
            )
        else:
            self.audio_ms[item_id] = end_ms
            await self.tell(
                "conversation.item.truncated",
                item_id=item_id,
                content_index=event["content_index"],
                audio_end_ms=end_ms,
            )

    # -- responses

    async def _respond(self, event: Json) -> None:
        if self.responding is not None:
            await self.error(
                "Conversation already has an active response in progress.",
                "conversation_already_has_active_response",
                event,
            )
        elif "leak" in self.faults:
            sent = self.request.headers["Authorization"]
            await self.error(f"no upstream for {sent}", "server_error", event)
        elif "expire" in self.faults:
            said = "Your session hit the maximum duration of 60 minutes."
            await self.error(said, "session_expired")
            await self.socket.close(code=1001, message=said.encode())
        elif "no-response" not in self.faults:
            asked = event.get("response") or {}
            self.response = {
                "object": "realtime.response",
                "id": self.new_id("resp"),
                "status": "in_progress",
                "status_details": None,
                "output": [],
                "metadata": asked.get("metadata"),
                "output_modalities": asked.get("output_modalities")
                or self.session["output_modalities"],
                "usage": None,
            }
            self.responding = asyncio.create_task(self._response(asked))

    async def _response(self, asked: Json) -> None:
        response = self.response
        await self.tell("response.created", response=response)
        failure = next((f for f in self.faults if f.startswith("fail:")), None)
        if failure is not None:
            code = failure.partition(":")[2]
            said = {"type": code, "code": code, "message": f"of the account {KEY}"}
            await self._done("failed", {"type": "failed", "error": said})
            return
        while "flood" in self.faults and not self.socket.closed:
            delta = base64.b64encode(PIECE * 10).decode()
            await self.tell("response.output_audio.delta", delta=delta)
        tools = asked.get("tools") or self.session["tools"]
        answered = any(i["type"] == "function_call_output" for i in self.items.values())
        item_id = self.new_id("item")
        if tools and not answered and asked.get("tool_choice") != "none":
            await self._call(item_id, tools[0]["name"])
        else:
            await self._speak(item_id, "audio" in response["output_modalities"])
        await self._done("completed", None)

    async def _begin_item(self, item: Json) -> None:
        last = next(reversed(self.items), None)
        self.response["output"].append(item)
        about = {"response_id": self.response["id"], "output_index": 0}
        await self.tell("response.output_item.added", item=item, **about)
        await self._add(item, last, done=False)

    async def _call(self, item_id: str, name: str) -> None:
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": name,
            "call_id": self.new_id("call"),
            "arguments": "",
        }
        about = {"response_id": self.response["id"], "output_index": 0}
        await self._begin_item(item)
        for piece in (TOOL_ARGUMENTS[:8], TOOL_ARGUMENTS[8:]):
            await self.tell(
                "response.function_call_arguments.delta",
                item_id=item_id, call_id=item["call_id"], delta=piece, **about,
            )  # fmt: skip
        await self.tell(
            "response.function_call_arguments.done",
            item_id=item_id, call_id=item["call_id"], name=name, arguments=TOOL_ARGUMENTS, **about,
        )  # fmt: skip
        item |= {"status": "completed", "arguments": TOOL_ARGUMENTS}
        await self.tell("response.output_item.done", item=item, **about)
        await self.tell("conversation.item.done", item=item, previous_item_id=None)

    async def _speak(self, item_id: str, audio: bool) -> None:
        item: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        place = {"response_id": self.response["id"], "output_index": 0}
        about = {**place, "item_id": item_id, "content_index": 0}
        await self._begin_item(item)
        part: Json = {"type": "audio", "transcript": ""}
        if not audio:
            part = {"type": "text", "text": ""}
        await self.tell("response.content_part.added", part=part, **about)
        kind = "response.output_audio_transcript" if audio else "response.output_text"
        for i, word in enumerate(WORDS):
            await self.tell(f"{kind}.delta", delta=word, **about)
            if audio:
                self.audio_ms[item_id] = 100 * (i + 1)
                delta = base64.b64encode(PIECE).decode()
                await self.tell("response.output_audio.delta", delta=delta, **about)
            await self._maybe_fail()
        text = "".join(WORDS)
        if audio:
            await self.tell("response.output_audio.done", **about)
            await self.tell(f"{kind}.done", transcript=text, **about)
            part = {"type": "output_audio", "transcript": text}
        else:
            await self.tell(f"{kind}.done", text=text, **about)
            part = {"type": "output_text", "text": text}
        await self.tell("response.content_part.done", part=part, **about)
        item |= {"status": "completed", "content": [part]}
        await self.tell("response.output_item.done", item=item, **place)
        await self.tell("conversation.item.done", item=item, previous_item_id=None)

    async def _maybe_fail(self) -> None:
        if "die-in-response" in self.faults:
            await asyncio.sleep(0.3)  # a reset takes along what was not read
            reset(self.request)
            await asyncio.Event().wait()
        if "stall-in-response" in self.faults:
            await asyncio.Event().wait()
        if "garbage-in-response" in self.faults:
            await self.socket.send_str("<html>")
            await asyncio.Event().wait()
        if "slow" in self.faults:
            await asyncio.sleep(1.0)

    async def _cancel(self, event: Json) -> None:
        if self.responding is None:
            await self.error(
                "Cancellation failed: no active response found",
                "response_cancel_not_active",
                event,
            )
        else:
            await self._stop_response("client_cancelled")

    async def _stop_response(self, reason: str) -> None:
        if self.responding is not None:
            self.responding.cancel()
            await self._done("cancelled", {"type": "cancelled", "reason": reason})

    async def _done(self, status: str, details: Json | None) -> None:
        self.responding = None
        spoke = "audio" in self.response["output_modalities"]
        given = 20 + self.input_tokens
        self.response |= {
            "status": status,
            "status_details": details,
            "usage": {
                "total_tokens": given + 30,
                "input_tokens": given,
                "output_tokens": 30,
                "input_token_details": {
                    "text_tokens": 20,
                    "audio_tokens": self.input_tokens,
                    "cached_tokens": 8,
                    "cached_tokens_details": {"text_tokens": 8, "audio_tokens": 0},
                },
                "output_token_details": {
                    "text_tokens": 10 if spoke else 30,
                    "audio_tokens": 20 if spoke else 0,
                },
            },
        }
        await self.tell("response.done", response=self.response)


class FakeRealtime(FakeServer):
    """Serves /v1/realtime, and a list of models."""

    def __init__(self, name: str = "fake", key: str = KEY) -> None:
        super().__init__()
        self.name = name
        self.key = key

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/v1/realtime", self._connect), ("GET", "/v1/models", self._models)]

    async def _models(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        models = ("gpt-realtime", "gpt-realtime-mini", "grok-voice-latest")
        data = [{"id": name, "object": "model", "owned_by": "fake"} for name in models]
        return web.json_response({"object": "list", "data": data})

    async def _connect(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        asked = request.query.get("model")
        exchange.scenario = (self.next_scripted() if asked else None) or ""
        refused = None
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            refused = 401
        elif exchange.scenario.startswith("status:"):
            refused = int(exchange.scenario.partition(":")[2])
        elif not asked:
            refused = 400
        if refused is not None:
            error = {"message": "refused by the fake", "type": "fake", "code": None, "param": None}
            return web.json_response({"error": error}, status=refused)
        return await Conversation(self, request, exchange).run()

    def heard(self, connection: int = -1) -> list[Json]:
        """The events of a connection's client."""
        return [json.loads(text) for text in tuple(self.connections()[connection].heard)]

    def connections(self) -> list[Exchange]:
        return [one for one in self.received if one.path == "/v1/realtime"]
