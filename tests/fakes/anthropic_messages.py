"""A fake of Anthropic's Messages API: answers streamed or whole, and the ways in which it fails.

Which case is played is decided, in this order, by `script()`, by the last text of the
conversation (`say: NAME`), or it is `text`. `SCENARIOS` lists them all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, FakeServer, Handler, cut

Json = dict[str, Any]
WORDS = ("One", " moment.")
LONG_S = 600.0
USAGE: Json = {
    "input_tokens": 11,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens": 1,
}
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class Stream:
    """The answer to one request, event by event."""

    def __init__(self, request: web.Request, exchange: Exchange) -> None:
        self.request, self.exchange = request, exchange
        self.body: Json = exchange.body
        self._response: web.StreamResponse | None = None
        self._blocks = 0

    async def event(self, kind: str, **more: Any) -> None:
        if self._response is None:
            self._response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream; charset=utf-8", "request-id": "req_1"}
            )
            await self._response.prepare(self.request)
        payload = json.dumps({"type": kind, **more})
        await self._response.write(f"event: {kind}\ndata: {payload}\n\n".encode())

    async def start(self) -> None:
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": USAGE,
        }
        await self.event("message_start", message=message)
        await self.event("ping")

    async def block(self, start: Json, deltas: Sequence[Json]) -> None:
        index, self._blocks = self._blocks, self._blocks + 1
        await self.event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            await self.event("content_block_delta", index=index, delta=delta)
        await self.event("content_block_stop", index=index)

    async def text(self, words: Sequence[str] = WORDS) -> None:
        deltas = [{"type": "text_delta", "text": word} for word in words]
        await self.block({"type": "text", "text": ""}, deltas)

    async def tool(self, call_id: str, name: str, pieces: Sequence[str]) -> None:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        await self.block({"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas)

    async def stop(self, reason: str = "end_turn") -> None:
        await self.event(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": None},
            usage={"output_tokens": 17},
        )
        await self.event("message_stop")


Scenario = Callable[..., Awaitable[web.StreamResponse | None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    """Register under the function's name, underscores as hyphens."""
    SCENARIOS[play.__name__.replace("_", "-")] = play
    return play


def error_body(kind: str, message: str = "fake failure") -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


@scenario
async def text(stream: Stream) -> None:
    await stream.start()
    await stream.text()
    await stream.stop()


@scenario
async def echo(stream: Stream) -> None:
    """The request, as its own answer."""
    await stream.start()
    await stream.text([json.dumps(stream.body)])
    await stream.stop()


@scenario
async def tools(stream: Stream) -> None:
    """Words, then a call of each tool that is offered; words alone once there are results."""
    await stream.start()
    blocks = [b for m in stream.body["messages"] for b in m["content"] if isinstance(b, dict)]
    if any(block["type"] == "tool_result" for block in blocks):
        await stream.text(["It is", " noon."])
        await stream.stop()
        return
    await stream.text()
    for number, tool in enumerate(stream.body["tools"]):
        await stream.tool(f"toolu_{number}", tool["name"], ['{"city":', '"Oslo"}'])
    await stream.stop("tool_use")


@scenario
async def thinking(stream: Stream) -> None:
    await stream.start()
    deltas = [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    ]
    await stream.block({"type": "thinking", "thinking": "", "signature": ""}, deltas)
    await stream.text()
    await stream.stop()


@scenario
async def refusal(stream: Stream) -> None:
    await stream.start()
    await stream.stop("refusal")


@scenario
async def too_long(stream: Stream) -> None:
    await stream.start()
    await stream.text()
    await stream.stop("max_tokens")


@scenario
async def error(stream: Stream, kind: str = "overloaded_error") -> web.StreamResponse:
    headers = {"request-id": "req_1"}
    if kind == "rate_limit_error":
        headers["retry-after"] = "7"
    return web.json_response(error_body(kind), status=STATUS[kind], headers=headers)


@scenario
async def error_first(stream: Stream, kind: str = "overloaded_error") -> None:
    """An error after the status 200, before anything else."""
    await stream.event("error", **{k: v for k, v in error_body(kind).items() if k != "type"})


@scenario
async def error_after_content(stream: Stream, kind: str = "overloaded_error") -> None:
    await stream.start()
    await stream.text()
    await stream.event("error", **{k: v for k, v in error_body(kind).items() if k != "type"})


@scenario
async def cut_before_content(stream: Stream) -> None:
    await stream.start()
    cut(stream.request)


@scenario
async def ends_early(stream: Stream) -> None:
    await stream.start()
    await stream.text()


@scenario
async def hang(stream: Stream) -> None:
    await stream.start()
    await asyncio.sleep(LONG_S)


class FakeAnthropic(FakeServer):
    """Serves POST /v1/messages."""

    @property
    def base_url(self) -> str:
        """What a client is given as its base URL: without /v1."""
        return self.url

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("POST", "/v1/messages", self._messages)]

    async def _messages(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        body = exchange.body
        if not (request.headers.get("x-api-key") or request.headers.get("Authorization")):
            return web.json_response(error_body("authentication_error"), status=401)
        if problem := refused(body, request.headers.get("anthropic-version")):
            return web.json_response(error_body("invalid_request_error", problem), status=400)
        exchange.scenario = self._chosen(body)
        name, *arguments = exchange.scenario.split(":")
        stream = Stream(request, exchange)
        answer = await SCENARIOS[name](stream, *arguments)
        if answer is not None:
            return answer
        assert stream._response is not None
        return stream._response

    def _chosen(self, body: Json) -> str:
        scripted = self.next_scripted()
        if scripted is not None:
            return scripted
        for message in reversed(body["messages"]):
            content = message["content"]
            blocks = content if isinstance(content, list) else [{"text": content}]
            for block in blocks:
                said = str(block.get("text", ""))
                if said.startswith("say: "):
                    return said.removeprefix("say: ").strip()
        return "text"


def refused(body: Any, version: str | None) -> str | None:
    """What the real API would refuse about a request, as far as it is documented."""
    if version not in ("2023-06-01", "2026-10-21"):
        return "anthropic-version: header is required"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    if version == "2026-10-21" and {"temperature", "top_p", "top_k"} & set(body):
        return "temperature: Extra inputs are not permitted"
    messages = body.get("messages") or []
    if not messages or messages[0]["role"] != "user":
        return "messages: first message must use the user role"
    called: set[str] = set()
    for message in messages:
        if message["role"] not in ("user", "assistant"):
            return f"messages: unexpected role {message['role']}"
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if block["type"] == "text" and not block["text"].strip():
                return "messages: text content blocks must be non-empty"
            if block["type"] == "tool_use":
                called.add(block["id"])
            if block["type"] == "tool_result" and block["tool_use_id"] not in called:
                return "messages: unexpected tool_use_id in tool_result blocks"
    known = {"model", "max_tokens", "stream", "messages", "system", "temperature", "top_p", "top_k",
             "stop_sequences", "tools", "tool_choice", "output_config", "service_tier", "thinking",
             "metadata"}  # fmt: skip
    if unknown := set(body) - known:
        return f"{sorted(unknown)[0]}: Extra inputs are not permitted"
    return None
