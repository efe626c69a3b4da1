"""POST /chat/completions: what a client may send, and the forms of what it is told. Pure.

The request
    An OpenAI chat completions body. LiveKit's agents send `model` ("provider/name"), `messages`,
    `stream: true`, `stream_options: {"include_usage": true}`, `tools` with strict schemas,
    `tool_choice`, `parallel_tool_calls`, `response_format`, and whatever else their user added:
    what is not known here goes to the provider as it came. Other OpenAI clients use the route
    too, also without `stream`.
    An assistant's turn that only calls tools has no `content` key. System messages may stand
    anywhere. `extra_content` on a message or a tool call is a provider's own state (Google's
    thought signatures, for one); the client sends back what it got under the keys `google`,
    `livekit` and `xai`, and nothing else.
    `X-LiveKit-Inference-Provider` pins one provider, `X-LiveKit-Inference-Priority` is one of
    `priority`, `standard`, `low`. The token stands where an OpenAI key would.

The answer, streamed
    `data: <chunk>` and an empty line for each chunk, `data: [DONE]` at the end. Read are `id`,
    `choices[0].delta.content`, `.tool_calls[]` and `extra_content`, `finish_reason`, `usage` (a
    last chunk with empty `choices`; of several the last counts) and `service_tier`.
    * The client gives up when no byte comes for 10 s, headers included. A comment line (`: x`) is
      a byte, so one is sent every few seconds (KEEPALIVE).
    * A body that ends cleanly is a success for it, even without `finish_reason` and `[DONE]`.
      After a failure the connection must break, or an error event must be the last thing.
    * Each tool call needs an `index` of its own, an `id`, and its name just once: with a repeated
      index the first call is lost, without an id the call, with a repeated name the arguments.
      Calls are delivered when `finish_reason` is `tool_calls`, `function_call` or `stop`;
      with `length` or none they are not.
    * Until it has content or a whole tool call it tries again by itself, three times by default,
      unless the status forbids it: 400, 401, 403, 404, 409, 413 and 422 are final, 408, 429 and
      5xx are not. 499 is taken for a silent, empty answer: never sent.
    * `delta.reasoning*` is ignored, `delta: null` tolerated, a refusal that is not content is an
      empty turn.

Errors
    {"error": {"message", "type", "param", "code"}}, as the body of an HTTP error or as an event in
    the stream; the client raises on both. Of a 429 it logs the headers
    X-LiveKit-Inference-{RPM,TPM,Credits}-{Limit,Used}; a limit that is not enforced has none.

GET /models warms the client's connection up and tells other OpenAI clients what there is: an
OpenAI list of the models that can be served now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, StrictBool, TypeAdapter

from gateway.conversations.messages import (
    FALLBACKS_MAX,
    Expected,
    Fallbacks,
    JsonBudget,
    Message,
    Name,
    at_most,
    bad_request,
    embedded_json_failure,
    is_requests_own,
    parse,
    required,
    validated,
)
from gateway.upstreams.bounds import Bound
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.errors import Failure, error_body
from gateway.upstreams.plan import FallbackModel

SSE_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEPALIVE: Final = b": keepalive\n\n"
"""An SSE comment: clients ignore it, but it counts as a sign of life."""

LOADING: Final = b": loading\n\n"
"""The same while a local model is being loaded."""

MESSAGES_MAX: Final = 4096
"""Of one request; Azure takes 2048. Each is looked at, and translated for some vendors; so are the
parts of their contents and their tool calls, of which all messages together may have as many."""

TOOLS_MAX: Final = 1024
"""Of one request; OpenAI takes 128."""

_FALLBACK_KEYS: Final = ("fallback", "fallbacks", "models")
"""Under which a client lists them: as LiveKit's speech clients do (an object with a list `models`
of objects with `model` and `extra`), or LiteLLM and OpenRouter (a list of names)."""


_MESSAGES: Final = f"a list of 1 to {MESSAGES_MAX} messages"
_TOOLS: Final = f"a list of at most {TOOLS_MAX} tools"


class Envelope(Message):
    """The parameters that the gateway itself or an adapter reads. The messages inside are not
    checked here: prompts are long, and the provider knows best."""

    model: Name = required()
    messages: Annotated[
        list[Any],
        Field(min_length=1, max_length=MESSAGES_MAX),
        Expected(_MESSAGES),
        at_most(MESSAGES_MAX, _MESSAGES),
    ] = required()
    stream: Annotated[StrictBool | None, Expected("true or false")] = None
    n: Annotated[Literal[1] | None, Expected("1 (answers have one choice here)")] = None
    tools: Annotated[
        list[Any] | None,
        Field(max_length=TOOLS_MAX),
        Expected(_TOOLS),
        at_most(TOOLS_MAX, _TOOLS),
    ] = None
    stop: Annotated[str | list[Any] | None, Expected("a string or a list of strings")] = None
    reasoning_effort: Annotated[str | None, Expected("a string")] = None


_WHOLE_MAX: Final = 1 << 63
_KEYS_OF_PARTS: Final = frozenset({"prompt_cache_breakpoint", "cache_control"})

_ENVELOPE: Final = TypeAdapter(Envelope)
_FALLBACKS: Final[TypeAdapter[Fallbacks]] = TypeAdapter(Fallbacks)


def read_request(
    body: bytes, request_id: str = "chatcmpl-0", created: int = 0
) -> ChatRequest | Failure:
    """The client's request; only what the gateway itself needs is checked. `request_id` and
    `created` (Unix time) are for answers that the gateway writes itself."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    envelope = validated(parsed, _ENVELOPE)
    if isinstance(envelope, Failure):
        return envelope
    for name, value in parsed.items():
        if isinstance(value, float) and abs(value) >= _WHOLE_MAX:
            # orjson has read a whole number of more than 64 bits as a float (`seed`); the provider
            # would get another number than was sent
            return bad_request(f"{name}: expected a number of at most 64 bits", name[:64])
    marks = _read_messages(parsed["messages"])
    if isinstance(marks, Failure):
        return marks
    fallbacks = _read_fallbacks(parsed)
    if isinstance(fallbacks, Failure):
        return fallbacks
    options = parsed.get("stream_options")
    return ChatRequest(
        parsed,
        envelope.model,
        bool(envelope.stream),
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        fallbacks=fallbacks,
        marks=marks,
        size_bytes=len(body),
        id=request_id,
        created=created,
    )


def _read_messages(messages: list[Any]) -> frozenset[str] | Failure:
    """Which of MARKS the messages hold. The arguments of tool calls are looked at as well: an
    adapter may have to write them as JSON."""
    marks = set()
    budget = JsonBudget()
    parts = calls_made = 0
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        if message.get("role") == "developer":
            marks.add("developer")
        if "extra_content" in message:
            marks.add("extra_content")
        content = message.get("content")
        parts += len(content) if isinstance(content, list) else 0
        if parts > MESSAGES_MAX:
            return _too_many(f"messages.{i}.content", "parts")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                marks |= part.keys() & _KEYS_OF_PARTS
                if part.get("type") == "image_url":
                    marks.add("image_url")
        calls = message.get("tool_calls")
        if calls is None:
            continue
        if not isinstance(calls, list):
            place = f"messages.{i}.tool_calls"
            return bad_request(f"{place}: expected a list of tool calls", place)
        calls_made += len(calls)
        if calls_made > MESSAGES_MAX:
            return _too_many(f"messages.{i}.tool_calls", "tool calls")
        for j, call in enumerate(calls):
            if not isinstance(call, dict):
                continue
            if "extra_content" in call:
                marks.add("extra_content")
            function = call.get("function")
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, str):
                place = f"messages.{i}.tool_calls.{j}.function.arguments"
                failure = embedded_json_failure(arguments, place, budget)
                if failure is not None:
                    return failure
    return frozenset(marks)


def _too_many(place: str, what: str) -> Failure:
    words = f"{place}: expected at most {MESSAGES_MAX} {what} in all messages"
    return replace(bad_request(words, place), bound=Bound.FIELD_SIZE)


def _read_fallbacks(parsed: dict[str, Any]) -> tuple[FallbackModel, ...] | Failure:
    """The client's own list, taken out of `parsed`: it is not for upstreams."""
    found: list[FallbackModel] = []
    for key in _FALLBACK_KEYS:
        if key not in parsed:
            continue
        place: str = key
        given = parsed.pop(key)
        if isinstance(given, dict):
            place, given = f"{key}.models", given.get("models")
        entries = validated(given, _FALLBACKS, place)
        if isinstance(entries, Failure):
            return entries
        for i, entry in enumerate(entries):
            for name in entry.extra or ():
                if is_requests_own(name):
                    where = f"{place}.{i}.extra.{name}"
                    return bad_request(f"{where}: expected other parameters than this", where)
            found.append(entry.choice)
    if len(found) > FALLBACKS_MAX:
        failure = bad_request(f"fallback: expected at most {FALLBACKS_MAX} models", "fallback")
        return replace(failure, bound=Bound.FIELD_SIZE)
    return tuple(found)


def error_event(failure: Failure) -> bytes:
    """An error inside a stream: the client raises on it."""
    return b"data: " + orjson.dumps(error_body(failure)) + b"\n\n"
