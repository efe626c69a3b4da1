"""What a client may say to /chat/completions, and the forms of what it is told."""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.chat.upstream import ChatRequest
from gateway.errors import Failure, Kind, error_body

SSE_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEPALIVE: Final = b": keepalive\n\n"
"""An SSE comment: clients ignore it, but it counts as a sign of life."""


def read_request(body: bytes) -> ChatRequest | Failure:
    """The client's request; only what the gateway itself needs is checked."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Failure(Kind.BAD_REQUEST, f"the body is not JSON: {error.msg}")
    if not isinstance(parsed, dict):
        return Failure(Kind.BAD_REQUEST, "the body: expected a JSON object")
    model = parsed.get("model")
    if not isinstance(model, str) or not model:
        return Failure(
            Kind.BAD_REQUEST, "model: expected the name of a model, a string", param="model"
        )
    messages = parsed.get("messages")
    if not isinstance(messages, list) or not messages:
        return Failure(
            Kind.BAD_REQUEST, "messages: expected a list with at least one message", "messages"
        )
    stream = parsed.get("stream")
    if stream is not None and not isinstance(stream, bool):
        return Failure(Kind.BAD_REQUEST, "stream: expected true or false", param="stream")
    return ChatRequest(parsed, model, bool(stream))


def error_event(failure: Failure) -> bytes:
    """An error inside a stream: the client raises on it."""
    return b"data: " + orjson.dumps(error_body(failure)) + b"\n\n"
