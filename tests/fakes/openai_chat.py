"""A fake of OpenAI's chat completions and of everybody who claims to be compatible with them.

Which case is played is decided, in this order, by `script()`, by the last message (`say: NAME`),
by the model's name, or it is `text`. A name may carry arguments: `status:429:gemini`,
`slow-first-token:12`. `SCENARIOS` lists them all; `python -m tests.fakes.openai_chat` serves them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.utils import formatdate
from typing import Any

from aiohttp import web

from tests.fakes.base import Exchange, FakeServer, Handler, cut, reset

Json = dict[str, Any]
CREATED = 1795400000
LONG_S = 600.0  # "for ever", for a test
WORDS = ("Hello", " there,", " how", " can", " I", " help?")
TOOL_IDS = ("call_a1", "call_b2")
USAGE: Json = {
    "prompt_tokens": 9,
    "completion_tokens": 6,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
HUGE_LINE_BYTES = 2 * 1024 * 1024
SIGNATURE = "c2lnbmF0dXJlLW9mLWEtdGhvdWdodA=="


class Reply:
    """The answer to one request, piece by piece."""

    def __init__(self, request: web.Request, exchange: Exchange) -> None:
        self.request, self.exchange = request, exchange
        self.body: Json = exchange.body if isinstance(exchange.body, dict) else {}
        self.model = str(self.body.get("model", "gpt-4.1-mini"))
        self.response: web.StreamResponse | None = None

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    async def headers(self) -> web.StreamResponse:
        if self.response is None:
            self.response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream; charset=utf-8",
                    "x-request-id": "req_fake_1",
                    "openai-processing-ms": "12",
                }
            )
            self.response.enable_chunked_encoding()
            await self.response.prepare(self.request)
        return self.response

    async def raw(self, data: bytes) -> None:
        response = await self.headers()
        await response.write(data)

    async def event(self, payload: object) -> None:
        await self.raw(b"data: " + json.dumps(payload).encode() + b"\n\n")

    def chunk(self, delta: Json | None, finish: str | None = None, **more: Any) -> Json:
        """A chunk with one choice; further members go to the top level."""
        return {
            "id": "chatcmpl-7",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            **({"usage": None} if self.wants_usage else {}),
            **more,
        }

    def usage_chunk(self) -> Json:
        return {**self.chunk({}), "choices": [], "usage": USAGE}

    async def finish(self, reason: str = "stop") -> None:
        """The end of a good answer: reason, usage if it was asked for, [DONE]."""
        await self.event(self.chunk({}, reason))
        if self.wants_usage:
            await self.event(self.usage_chunk())
        await self.raw(b"data: [DONE]\n\n")

    async def words(self, words: Iterable[str] = WORDS, role: bool = True) -> None:
        if role:
            await self.event(self.chunk({"role": "assistant", "content": "", "refusal": None}))
        for word in words:
            await self.event(self.chunk({"content": word}))


Scenario = Callable[..., Awaitable[web.StreamResponse | None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    """Register under the function's name, underscores as hyphens."""
    SCENARIOS[play.__name__.replace("_", "-")] = play
    return play


def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> Json:
    """One entry of `delta.tool_calls`; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    entry: Json = {"index": index, "id": call_id}
    if call_id is not None or name is not None:
        entry["type"] = "function"
    entry["function"] = {key: value for key, value in function.items() if value is not None}
    return {key: value for key, value in entry.items() if value is not None}


def tool_names(reply: Reply) -> list[str]:
    """Two names to call: those of the request, or invented ones."""
    offered = [tool["function"]["name"] for tool in reply.body.get("tools") or []]
    return [*offered, "get_time", "get_weather"][:2]


async def calls(reply: Reply, deltas: Sequence[Sequence[Json]], finish: str | None) -> None:
    await reply.event(reply.chunk({"role": "assistant", "content": None}))
    for entries in deltas:
        await reply.event(reply.chunk({"tool_calls": list(entries)}))
    await reply.finish(finish or "tool_calls")


# -- good answers


@scenario
async def text(reply: Reply, words: str = "") -> None:
    await reply.words(words.split("|") if words else WORDS)
    await reply.finish()


@scenario
async def long_text(reply: Reply, tokens: str = "50", pause_ms: str = "0") -> None:
    await reply.words([])
    for number in range(int(tokens)):
        await reply.event(reply.chunk({"content": f" w{number}"}))
        if float(pause_ms):
            await asyncio.sleep(float(pause_ms) / 1000)
    await reply.finish()


@scenario
async def echo(reply: Reply) -> None:
    """The request, as its own answer."""
    await reply.words([json.dumps(reply.body)])
    await reply.finish()


def _fitting(schema: Json) -> Any:
    """A value that a JSON schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _fitting(kind) for name, kind in schema.get("properties", {}).items()}
    return 1 if schema.get("type") in ("integer", "number") else "x"


@scenario
async def structured(reply: Reply) -> None:
    """An object for the asked schema: "x" for each string, or the first that is allowed; 1 for each
    number."""
    schema = ((reply.body.get("response_format") or {}).get("json_schema") or {}).get("schema", {})
    document = json.dumps(_fitting({"type": "object", **schema}))
    await reply.words([document[:3], document[3:]])
    await reply.finish()


@scenario
async def refusal(reply: Reply) -> None:
    await reply.event(reply.chunk({"role": "assistant", "content": None, "refusal": ""}))
    await reply.event(reply.chunk({"refusal": "I cannot help with that."}))
    await reply.finish()


@scenario
async def tools(reply: Reply) -> None:
    """Two parallel calls in pieces."""
    one, two = tool_names(reply)
    await calls(
        reply,
        [
            [call(0, TOOL_IDS[0], one, "")],
            [call(0, None, None, '{"city":')],
            [call(0, None, None, '"Oslo"}')],
            [call(1, TOOL_IDS[1], two, "")],
            [call(1, None, None, '{"city":"Rome"}')],
        ],
        None,
    )


@scenario
async def tools_two_in_one_chunk(reply: Reply) -> None:
    one, two = tool_names(reply)
    await calls(
        reply,
        [
            [
                call(0, TOOL_IDS[0], one, '{"city":"Oslo"}'),
                call(1, TOOL_IDS[1], two, '{"city":"Rome"}'),
            ]
        ],
        None,
    )


@scenario
async def tools_same_index(reply: Reply) -> None:
    one, two = tool_names(reply)
    await calls(
        reply,
        [
            [call(0, TOOL_IDS[0], one, '{"city":"Oslo"}')],
            [call(0, TOOL_IDS[1], two, '{"city":"Rome"}')],
        ],
        None,
    )


@scenario
async def tool_without_id(reply: Reply) -> None:
    one, _ = tool_names(reply)
    await calls(reply, [[call(0, None, one, '{"city":"Oslo"}')]], None)


@scenario
async def tool_without_index(reply: Reply) -> None:
    one, _ = tool_names(reply)
    await calls(reply, [[call(None, TOOL_IDS[0], one, '{"city":"Oslo"}')]], None)


@scenario
async def tool_repeated_name(reply: Reply) -> None:
    one, _ = tool_names(reply)
    await calls(
        reply,
        [
            [call(0, TOOL_IDS[0], one, '{"city":')],
            [call(0, TOOL_IDS[0], one, '"Oslo"')],
            [call(0, TOOL_IDS[0], one, "}")],
        ],
        None,
    )


@scenario
async def tool_finish(reply: Reply, reason: str = "stop") -> None:
    """A call that ends with another reason: stop, eos, length, empty ("")."""
    one, _ = tool_names(reply)
    await reply.event(reply.chunk({"role": "assistant", "content": None}))
    await reply.event(reply.chunk({"tool_calls": [call(0, TOOL_IDS[0], one, '{"city":"Oslo"}')]}))
    await reply.finish("" if reason == "empty" else reason)


@scenario
async def tool_object_arguments(reply: Reply) -> None:
    one, _ = tool_names(reply)
    await calls(reply, [[call(0, TOOL_IDS[0], one, {"city": "Oslo"})]], None)


@scenario
async def tool_after_text(reply: Reply) -> None:
    one, _ = tool_names(reply)
    await reply.words(["One", " moment."])
    await reply.event(reply.chunk({"tool_calls": [call(0, TOOL_IDS[0], one, '{"city":"Oslo"}')]}))
    await reply.finish("tool_calls")


@scenario
async def reasoning(reply: Reply, member: str = "reasoning_content") -> None:
    await reply.event(reply.chunk({"role": "assistant", "content": "", member: ""}))
    for thought in ("The user", " greets me."):
        await reply.event(reply.chunk({"content": None, member: thought}))
    await reply.words(role=False)
    await reply.finish()


@scenario
async def usage_on_each(reply: Reply) -> None:
    for number, word in enumerate(WORDS, 1):
        counted = {**USAGE, "completion_tokens": number, "total_tokens": 9 + number}
        await reply.event(reply.chunk({"content": word}, usage=counted))
    await reply.event(reply.chunk({}, "stop", usage=USAGE))
    await reply.raw(b"data: [DONE]\n\n")


@scenario
async def usage_on_finish(reply: Reply) -> None:
    await reply.words()
    await reply.event(reply.chunk({}, "stop", usage=USAGE))
    await reply.raw(b"data: [DONE]\n\n")


@scenario
async def usage_in_x_groq(reply: Reply) -> None:
    await reply.words()
    await reply.event(reply.chunk({}, "stop", x_groq={"id": "req_g", "usage": USAGE}))
    await reply.raw(b"data: [DONE]\n\n")


@scenario
async def usage_absent(reply: Reply) -> None:
    await reply.words()
    await reply.event(reply.chunk({}, "stop"))
    await reply.raw(b"data: [DONE]\n\n")


@scenario
async def without_done(reply: Reply) -> None:
    """finish_reason came, [DONE] does not: a success."""
    await reply.words()
    await reply.event(reply.chunk({}, "stop"))


@scenario
async def first_without_choices(reply: Reply) -> None:
    """Azure begins with its content filter's results."""
    filters: Json = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
    await reply.event({**reply.chunk({}, **filters), "choices": []})
    await reply.words()
    await reply.finish()


@scenario
async def delta_null(reply: Reply) -> None:
    await reply.words(WORDS[:3])
    await reply.event(reply.chunk(None))
    await reply.words(WORDS[3:], role=False)
    await reply.finish()


@scenario
async def comments(reply: Reply) -> None:
    await reply.raw(b": PROCESSING\n\n")
    await reply.words(WORDS[:2])
    await reply.raw(b": keep-alive\n\n")
    await reply.words(WORDS[2:], role=False)
    await reply.finish()


@scenario
async def crlf(reply: Reply) -> None:
    for word in WORDS:
        line = b"data: " + json.dumps(reply.chunk({"content": word})).encode()
        await reply.raw(line + b"\r\n\r\n")
    await reply.finish()


@scenario
async def drip(reply: Reply) -> None:
    """Every few bytes a write of its own, so that events and characters are split."""
    document = json.dumps(reply.chunk({"content": "naïve 😀 café"}), ensure_ascii=False)
    data = b"data: " + document.encode() + b"\n\n"
    for start in range(0, len(data), 3):
        await reply.raw(data[start : start + 3])
        await asyncio.sleep(0)
    await reply.finish()


@scenario
async def gemini_signature(reply: Reply) -> web.StreamResponse | None:
    """Calls a tool with a thought signature and insists on getting it back."""
    turns = reply.body.get("messages", [])
    made = [entry for turn in turns for entry in turn.get("tool_calls") or []]
    if not made:
        one, _ = tool_names(reply)
        entry = call(0, TOOL_IDS[0], one, '{"city":"Oslo"}')
        entry["extra_content"] = {"google": {"thought_signature": SIGNATURE}}
        await calls(reply, [[entry]], None)
        return None
    google = (made[-1].get("extra_content") or {}).get("google") or {}
    if google.get("thought_signature") == SIGNATURE:
        return await text(reply)
    message = "Function call is missing a thought_signature in functionCall parts."
    error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
    return web.json_response([{"error": error}], status=400)


# -- slow answers


@scenario
async def slow_headers(reply: Reply, seconds: str = "12") -> None:
    await asyncio.sleep(float(seconds))
    await text(reply)


@scenario
async def slow_first_token(reply: Reply, seconds: str = "12") -> None:
    """The headers at once, the first byte of the body later."""
    await reply.headers()
    await asyncio.sleep(float(seconds))
    await text(reply)


@scenario
async def hang_before_headers(reply: Reply) -> None:
    await asyncio.sleep(LONG_S)


@scenario
async def hang_before_first_token(reply: Reply) -> None:
    await reply.headers()
    await asyncio.sleep(LONG_S)


@scenario
async def hang_after_role(reply: Reply) -> None:
    await reply.words([])
    await asyncio.sleep(LONG_S)


@scenario
async def stall(reply: Reply, seconds: str = str(LONG_S), after_words: str = "2") -> None:
    """Silent in the middle; goes on after that time."""
    await reply.words(WORDS[: int(after_words)])
    await asyncio.sleep(float(seconds))
    await reply.words(WORDS[int(after_words) :], role=False)
    await reply.finish()


@scenario
async def only_comments(reply: Reply, every_s: str = "0.1") -> None:
    while True:
        await reply.raw(b": keep-alive\n\n")
        await asyncio.sleep(float(every_s))


@scenario
async def endless(reply: Reply, every_s: str = "0.02") -> None:
    """Words until the client goes away."""
    await reply.words([])
    while True:
        await reply.event(reply.chunk({"content": " more"}))
        await asyncio.sleep(float(every_s))


# -- broken answers


@scenario
async def reset_before_headers(reply: Reply) -> None:
    reset(reply.request)


@scenario
async def reset_before_content(reply: Reply) -> None:
    await reply.words([])
    await asyncio.sleep(0.05)
    reset(reply.request)


@scenario
async def reset_after_content(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await asyncio.sleep(0.05)
    reset(reply.request)


@scenario
async def cut_before_content(reply: Reply) -> None:
    """Closed politely, the chunked body unterminated."""
    await reply.words([])
    await asyncio.sleep(0.05)
    cut(reply.request)


@scenario
async def cut_after_content(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await asyncio.sleep(0.05)
    cut(reply.request)


@scenario
async def cut_in_event(reply: Reply) -> None:
    """The last event's line is only half there."""
    await reply.words(WORDS[:2])
    line = b"data: " + json.dumps(reply.chunk({"content": "unheard"})).encode()
    await reply.raw(line[: len(line) // 2])
    await asyncio.sleep(0.05)
    cut(reply.request)


@scenario
async def ends_empty(reply: Reply) -> None:
    """A clean end and not one event."""
    await reply.headers()


@scenario
async def ends_before_content(reply: Reply) -> None:
    await reply.words([])


@scenario
async def ends_without_finish(reply: Reply) -> None:
    """A clean end after some content, which a client would take for the whole answer."""
    await reply.words(WORDS[:2])


@scenario
async def done_without_finish(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await reply.raw(b"data: [DONE]\n\n")


@scenario
async def error_before_content(reply: Reply) -> None:
    await reply.event({"error": {"message": "overloaded", "type": "server_error", "code": 503}})


@scenario
async def error_after_content(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await reply.event({"error": {"message": "overloaded", "type": "server_error", "code": 503}})


@scenario
async def error_finish(reply: Reply) -> None:
    """OpenRouter's way: a chunk whose finish_reason is `error`."""
    error = {"code": 502, "message": "Provider disconnected"}
    await reply.words(WORDS[:2])
    await reply.event(reply.chunk({"content": ""}, "error", error=error))


@scenario
async def anthropic_overloaded(reply: Reply) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    await reply.raw(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")


@scenario
async def empty_answer(reply: Reply) -> None:
    """`stop`, and nothing said."""
    await reply.words([])
    await reply.finish()


@scenario
async def cut_off_by_length(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await reply.finish("length")


@scenario
async def content_filter(reply: Reply) -> None:
    await reply.words(WORDS[:2])
    await reply.finish("content_filter")


@scenario
async def garbage(reply: Reply) -> None:
    """Bytes that are neither events nor UTF-8."""
    await reply.raw(bytes(range(256)) * 8 + b"\n\n")


@scenario
async def garbage_json(reply: Reply) -> None:
    await reply.words(WORDS[:1])
    await reply.raw(b'data: {"choices": [{"delta": {"content": \n\n')
    await reply.words(WORDS[1:], role=False)
    await reply.finish()


@scenario
async def not_http(reply: Reply) -> None:
    assert reply.request.transport is not None
    reply.request.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await asyncio.sleep(0.05)
    cut(reply.request)


@scenario
async def huge_line(reply: Reply, size: str = str(HUGE_LINE_BYTES)) -> None:
    """One event of 2 MB, then the rest of a good answer."""
    await reply.words(WORDS[:1])
    await reply.event(reply.chunk({"content": "x" * int(size)}))
    await reply.finish()


@scenario
async def huge_line_unfinished(reply: Reply, size: str = str(HUGE_LINE_BYTES)) -> None:
    """A line of 2 MB that never ends."""
    await reply.words(WORDS[:1])
    for _ in range(int(size) // 65536):
        await reply.raw(b"x" * 65536)
    await asyncio.sleep(LONG_S)


@scenario
async def html(reply: Reply) -> web.StreamResponse:
    """200, but a page: a captive portal or a wrong base URL."""
    return web.Response(text="<html><body>Welcome</body></html>", content_type="text/html")


# -- refusals

MESSAGES = {
    400: ("invalid_request_error", "invalid_value", "Invalid value for 'messages'."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-a****z."),
    402: ("insufficient_funds", "insufficient_funds", "Payment required."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Not here."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    413: ("invalid_request_error", "request_too_large", "Request too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
}


def refused(status: int, shape: str) -> web.Response:
    """An error answer in one of the body shapes that are found in the wild."""
    kind, code, message = MESSAGES.get(status, ("server_error", "server_error", "Trouble."))
    bodies: dict[str, object] = {
        "openai": {"error": {"message": message, "type": kind, "param": None, "code": code}},
        "code-int": {"error": {"message": message, "type": kind, "param": None, "code": status}},
        "gemini": [{"error": {"code": status, "message": message, "status": "UNAVAILABLE"}}],
        "gemini-object": {"error": {"code": status, "message": message, "status": "UNAVAILABLE"}},
        "xai": {"code": code, "error": message},
        "anthropic": {"type": "error", "error": {"type": kind, "message": message}},
        "openrouter": {
            "error": {"code": status, "message": message, "metadata": {}},
            "user_id": "u",
        },
        "vllm": {"object": "error", "message": message, "type": kind, "code": status},
        "bare": {"message": message, "type": kind, "param": None, "code": code},
        "azure": {"statusCode": status, "message": message},
        "fastapi": {"detail": [{"loc": ["body", "messages"], "msg": message, "type": "missing"}]},
        "quota": {
            "error": {
                "message": "You exceeded your current quota.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            }
        },
        "context": {
            "error": {
                "message": "This model's maximum context length is 8192 tokens.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
        "parameter": {
            "error": {
                "message": "Unsupported parameter: 'verbosity'.",
                "type": "invalid_request_error",
                "param": "verbosity",
                "code": "unsupported_parameter",
            }
        },
    }
    request_id = {"x-request-id": "req_fake_1"}
    if shape == "html":
        page = f"<html><head><title>{status}</title></head><body>nginx</body></html>"
        return web.Response(status=status, text=page, content_type="text/html")
    if shape == "empty":
        return web.Response(status=status)
    return web.json_response(bodies[shape], status=status, headers=request_id)


ERROR_SHAPES = (
    "openai", "code-int", "gemini", "gemini-object", "xai", "anthropic", "openrouter", "vllm",
    "bare", "azure", "fastapi", "html", "empty",
)  # fmt: skip
ERROR_STATUSES = (
    400, 401, 402, 403, 404, 408, 409, 413, 422, 424, 429, 434, 498, 499,
    500, 502, 503, 504, 520, 529,
)  # fmt: skip


@scenario
async def status(reply: Reply, code: str = "500", shape: str = "openai") -> web.StreamResponse:
    return refused(int(code), shape)


@scenario
async def rate_limited(
    reply: Reply, hint: str = "seconds", wait_s: str = "2"
) -> web.StreamResponse:
    """429 with one of the forms of "come back later": seconds, ms, date, gemini, none."""
    response = refused(429, "gemini" if hint == "gemini" else "openai")
    match hint:
        case "seconds":
            response.headers["Retry-After"] = wait_s
        case "ms":
            response.headers["retry-after-ms"] = str(int(float(wait_s) * 1000))
        case "date":
            later = formatdate(time.time() + float(wait_s), usegmt=True)
            response.headers["Retry-After"] = later
        case "gemini":
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait_s}s"}
            error = {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}
            return web.json_response([{"error": {**error, "details": [info]}}], status=429)
    return response


# -- the server


def whole(chunks: Sequence[Json]) -> Json:
    """The answer to a request without `stream`, put together from the chunks of one with it."""
    content, refused_text, reason = "", "", None
    entries: dict[int, Json] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            delta = choice.get("delta") or {}
            content += delta.get("content") or ""
            refused_text += delta.get("refusal") or ""
            reason = choice.get("finish_reason") if choice.get("finish_reason") else reason
            for piece in delta.get("tool_calls") or []:
                entry = entries.setdefault(
                    piece.get("index", 0),
                    {"type": "function", "function": {"name": "", "arguments": ""}},
                )
                entry |= {key: piece[key] for key in ("id", "extra_content") if key in piece}
                function = piece["function"]
                entry["function"]["name"] = function.get("name", entry["function"]["name"])
                arguments = function.get("arguments", "")
                entry["function"]["arguments"] += (
                    arguments if isinstance(arguments, str) else json.dumps(arguments)
                )
    message: Json = {
        "role": "assistant",
        "content": content or None,
        "refusal": refused_text or None,
    }
    if entries:
        message["tool_calls"] = list(entries.values())
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    first = chunks[0] if chunks else {}
    kept = {key: first.get(key) for key in ("id", "created", "model", "service_tier")}
    return {**kept, "object": "chat.completion", "choices": [choice], "usage": usage or USAGE}


class WholeReply(Reply):
    """Collects the chunks of a scenario where the client did not ask for a stream."""

    def __init__(self, request: web.Request, exchange: Exchange) -> None:
        super().__init__(request, exchange)
        self.chunks: list[Json] = []

    async def headers(self) -> web.StreamResponse:
        return web.StreamResponse()

    async def raw(self, data: bytes) -> None:
        return

    async def event(self, payload: object) -> None:
        assert isinstance(payload, dict)
        self.chunks.append(payload)


class FakeOpenAI(FakeServer):
    """Serves the chat completions of an OpenAI-compatible provider."""

    def __init__(
        self, models: Sequence[str] = ("gpt-4.1-mini", "gpt-4.1"), default: str = "text"
    ) -> None:
        super().__init__()
        self.models, self.default = tuple(models), default

    @property
    def base_url(self) -> str:
        """What a client is given as its base URL."""
        return f"{self.url}/v1"

    @property
    def completions(self) -> list[Exchange]:
        """What was received, without requests for the list of models."""
        return [one for one in self.received if one.path.endswith("/chat/completions")]

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/chat/completions", self._complete),
            ("GET", "/v1/models", self._list),
            ("POST", "/v1/embeddings", self._embed),
        ]

    def chosen(self, body: object) -> str:
        scripted = self.next_scripted()
        if scripted is not None:
            return scripted
        if isinstance(body, dict):
            for turn in reversed(body.get("messages") or []):
                said = turn.get("content") if isinstance(turn, dict) else None
                if isinstance(said, list):
                    said = "".join(part.get("text", "") for part in said if isinstance(part, dict))
                if isinstance(said, str) and said.startswith("say: "):
                    return said.removeprefix("say: ").strip()
            model = str(body.get("model", ""))
            if model.partition(":")[0] in SCENARIOS:
                return model
        return self.default

    async def _complete(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        exchange.scenario = self.chosen(exchange.body)
        name, *arguments = exchange.scenario.split(":")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return refused(401, "openai")
        streamed = isinstance(exchange.body, dict) and exchange.body.get("stream")
        reply = Reply(request, exchange) if streamed else WholeReply(request, exchange)
        answer = await SCENARIOS[name](reply, *arguments)
        if answer is not None:
            return answer
        if isinstance(reply, WholeReply):
            return web.json_response(whole(reply.chunks), headers={"x-request-id": "req_fake_1"})
        response = await reply.headers()
        if request.transport is not None and not request.transport.is_closing():
            await response.write_eof()
        return response

    async def _embed(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        """A number for each text, its length; a text "busy" is answered 503, "endless" not."""
        given = exchange.body["input"] if isinstance(exchange.body, dict) else ""
        texts = given if isinstance(given, list) else [given]
        if "busy" in texts and self.default == "text":
            return web.json_response({"error": {"message": "busy"}}, status=503)
        if "endless" in texts:
            await asyncio.sleep(LONG_S)
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(text))]}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return web.json_response({"object": "list", "data": data, "model": "fake", "usage": usage})

    async def _list(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        data = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "fake"}
            for name in self.models
        ]
        return web.json_response({"object": "list", "data": data})


def main() -> None:
    """Serve until interrupted, for trying a client by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--default", default="text", help="scenario where the request names none")
    options = parser.parse_args()
    with FakeOpenAI(default=options.default) as fake:
        print(fake.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
