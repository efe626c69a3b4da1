"""A fake of OpenAI's Responses API, beside a chat endpoint that refuses tools with reasoning.

Played is what `script()` says, else `text`, or `tools` where tools are offered and no result is
there yet.
"""

from __future__ import annotations

import itertools
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
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 29,
}


_numbers = itertools.count(1)


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
        given = [item for item in body["input"] if isinstance(item, dict)]  # it may be a text
        results = any(item.get("type") == "function_call_output" for item in given)
        played = self.next_scripted() or ("tools" if body.get("tools") and not results else "text")
        exchange.scenario = played
        if played.startswith("status:"):
            error = {"message": "fake failure", "type": "server_error", "param": None, "code": None}
            return web.json_response({"error": error}, status=int(played.partition(":")[2]))
        if played == "garbage":
            return web.Response(body=b"data: {oops\n\n", content_type="text/event-stream")
        if not body.get("stream"):
            return web.json_response(_Play(request, body).at_once(played))
        return await _Play(request, body).run(played)


class _Play:
    def __init__(self, request: web.Request, body: Json) -> None:
        self.request, self.body = request, body
        self.id = f"resp_{next(_numbers)}"
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
        if played in ("cut-after-content", "error-after-content"):
            await self.message(cut_after=2)
            if played == "cut-after-content":
                cut(self.request)
                return self.response
            error = {"type": "server_error", "code": "server_error", "message": "fake failure"}
            await self.event("error", **error, param=None)
            return self.response
        if played == "incomplete":
            await self.message(cut_after=2)
            whole = {**self.whole("incomplete"), "usage": USAGE}
            whole["incomplete_details"] = {"reason": "max_output_tokens"}
            await self.event("response.incomplete", response=whole)
            return self.response
        if played == "tools":
            await self.item(STATE)
            for number, tool in enumerate(self.body["tools"]):
                await self.call(f"call_{number}", tool["name"])
        else:
            await self.message()
        await self.event("response.completed", response={**self.whole("completed"), "usage": USAGE})
        return self.response

    def at_once(self, played: str) -> Json:
        """The answer to a request without `stream`."""
        if played == "failed":
            error = {"code": "server_error", "message": "fake failure"}
            return {**self.whole("failed"), "error": error}
        part = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
        self.output.append(
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
        return {**self.whole("completed"), "usage": USAGE}

    async def event(self, kind: str, **more: Any) -> None:
        payload = json.dumps({"type": kind, "sequence_number": self.sequence, **more})
        self.sequence += 1
        await self.response.write(f"event: {kind}\ndata: {payload}\n\n".encode())

    def whole(self, status: str) -> Json:
        return {
            "id": self.id,
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

    async def message(self, cut_after: int | None = None) -> None:
        index = len(self.output)
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
        await self.event(
            "response.output_item.added", output_index=index, item={**item, "content": []}
        )
        place = {"output_index": index, "item_id": "msg_1", "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        await self.event("response.content_part.added", **place, part=part)
        for word in WORDS[:cut_after]:
            await self.event("response.output_text.delta", **place, delta=word, logprobs=[])
        if cut_after is not None:
            return
        text = "".join(WORDS)
        await self.event("response.output_text.done", **place, text=text, logprobs=[])
        done = {**item, "status": "completed", "content": [{**part, "text": text}]}
        await self.event("response.content_part.done", **place, part={**part, "text": text})
        await self.event("response.output_item.done", output_index=index, item=done)
        self.output.append(done)
