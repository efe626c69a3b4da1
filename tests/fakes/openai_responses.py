"""A fake of OpenAI's Responses API, beside a chat endpoint that refuses tools with reasoning.

Played is what `script()` says, else `text`, or `tools` where tools are offered and no result is
there yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, FakeServer, Handler, cut

Json = dict[str, Any]
WORDS = ("It", " is", " noon.")
STATE: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VjcmV0"}
USAGE: Json = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 29,
}


class FakeResponses(FakeServer):
    """Serves POST /v1/responses, and refuses on /v1/chat/completions as OpenAI does."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/responses", self._respond),
            ("POST", "/v1/chat/completions", self._refuse),
        ]

    async def _refuse(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        error = {
            "message": "Function tools with reasoning_effort are not supported for this model in "
            "/v1/chat/completions. To use function tools, use /v1/responses or set "
            "reasoning_effort to 'none'.",
            "type": "invalid_request_error",
            "param": "reasoning_effort",
            "code": None,
        }
        return web.json_response({"error": error}, status=400)

    async def _respond(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        body = exchange.body
        results = any(item.get("type") == "function_call_output" for item in body["input"])
        played = self.next_scripted() or ("tools" if body.get("tools") and not results else "text")
        exchange.scenario = played
        if played.startswith("status:"):
            error = {"message": "fake failure", "type": "server_error", "param": None, "code": None}
            return web.json_response({"error": error}, status=int(played.partition(":")[2]))
        return await _Play(request, body).run(played)


class _Play:
    def __init__(self, request: web.Request, body: Json) -> None:
        self.request, self.body = request, body
        self.sequence = 0
        self.output: list[Json] = []
        self.response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8"}
        )

    async def run(self, played: str) -> web.StreamResponse:
        await self.response.prepare(self.request)
        await self.event("response.created", response=self.whole("in_progress"))
        await self.event("response.in_progress", response=self.whole("in_progress"))
        if played == "failed":
            error = {"code": "server_error", "message": "fake failure"}
            await self.event("response.failed", response={**self.whole("failed"), "error": error})
            return self.response
        if played == "cut":
            cut(self.request)
            return self.response
        if played == "tools":
            await self.item(STATE)
            for number, tool in enumerate(self.body["tools"]):
                await self.call(f"call_{number}", tool["name"])
        else:
            await self.message()
        await self.event("response.completed", response={**self.whole("completed"), "usage": USAGE})
        return self.response

    async def event(self, kind: str, **more: Any) -> None:
        payload = json.dumps({"type": kind, "sequence_number": self.sequence, **more})
        self.sequence += 1
        await self.response.write(f"event: {kind}\ndata: {payload}\n\n".encode())

    def whole(self, status: str) -> Json:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1795400000,
            "status": status,
            "model": self.body["model"],
            "output": self.output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": self.body.get("tools", []),
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "temperature": None,
            "top_p": None,
            "service_tier": "default",
        }

    async def item(self, item: Json) -> None:
        index = len(self.output)
        await self.event("response.output_item.added", output_index=index, item=item)
        await self.event("response.output_item.done", output_index=index, item=item)
        self.output.append(item)

    async def call(self, call_id: str, name: str) -> None:
        index = len(self.output)
        item = {"type": "function_call", "id": f"fc_{index}", "call_id": call_id, "name": name}
        empty = {**item, "arguments": "", "status": "in_progress"}
        await self.event("response.output_item.added", output_index=index, item=empty)
        place = {"output_index": index, "item_id": item["id"]}
        for piece in ('{"city":', '"Oslo"}'):
            await self.event("response.function_call_arguments.delta", **place, delta=piece)
        arguments = '{"city":"Oslo"}'
        await self.event("response.function_call_arguments.done", **place, arguments=arguments)
        done = {**item, "arguments": arguments, "status": "completed"}
        await self.event("response.output_item.done", output_index=index, item=done)
        self.output.append(done)

    async def message(self) -> None:
        index = len(self.output)
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
        await self.event(
            "response.output_item.added", output_index=index, item={**item, "content": []}
        )
        place = {"output_index": index, "item_id": "msg_1", "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        await self.event("response.content_part.added", **place, part=part)
        for word in WORDS:
            await self.event("response.output_text.delta", **place, delta=word, logprobs=[])
        text = "".join(WORDS)
        await self.event("response.output_text.done", **place, text=text, logprobs=[])
        done = {**item, "status": "completed", "content": [{**part, "text": text}]}
        await self.event("response.content_part.done", **place, part={**part, "text": text})
        await self.event("response.output_item.done", output_index=index, item=done)
        self.output.append(done)
