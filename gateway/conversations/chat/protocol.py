"""What a client may say to /chat/completions, and the forms of what it is told."""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.upstreams.chat import MARKS, ChatRequest, Fallback
from gateway.upstreams.errors import Failure, Kind, error_body

SSE_TYPE: Final = b"text/event-stream; charset=utf-8"
KEEPALIVE: Final = b": keepalive\n\n"
"""An SSE comment: clients ignore it, but it counts as a sign of life."""


FALLBACKS_MAX: Final = 8
"""Models that a client may list in addition to the one it asks for."""

_FALLBACK_KEYS: Final = ("fallback", "fallbacks", "models")
"""Under which a client lists them: as LiveKit's speech clients do (an object with a list `models`
of objects with `model` and `extra`), or LiteLLM and OpenRouter (a list of names)."""


def read_request(
    body: bytes, request_id: str = "chatcmpl-0", created: int = 0
) -> ChatRequest | Failure:
    """The client's request; only what the gateway itself needs is checked. `request_id` and
    `created` (Unix time) are for answers that the gateway writes itself."""
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
    if parsed.get("n") not in (None, 1):
        return Failure(Kind.BAD_REQUEST, "n: expected 1; answers have one choice here", param="n")
    fallbacks = _read_fallbacks(parsed)
    if isinstance(fallbacks, Failure):
        return fallbacks
    options = parsed.get("stream_options")
    return ChatRequest(
        parsed,
        model,
        bool(stream),
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        fallbacks=fallbacks,
        marks=frozenset(mark for mark in MARKS if mark.encode() in body),
        id=request_id,
        created=created,
    )


def _read_fallbacks(parsed: dict[str, Any]) -> tuple[Fallback, ...] | Failure:
    """The client's own list, taken out of `parsed`: it is not for upstreams."""
    found: list[Fallback] = []
    for key in _FALLBACK_KEYS:
        if key not in parsed:
            continue
        given: Any = parsed.pop(key)
        if isinstance(given, dict):
            given = given.get("models")
        if not isinstance(given, list):
            return Failure(Kind.BAD_REQUEST, f"{key}: expected a list of models", param=key)
        for i, one in enumerate(given):
            model, extra = one, None
            if isinstance(one, dict):
                model, extra = one.get("model"), one.get("extra")
            if not isinstance(model, str) or not isinstance(extra, dict | None):
                return Failure(
                    Kind.BAD_REQUEST,
                    f'{key}[{i}]: expected a name or {{"model": name, "extra": parameters}}',
                    param=f"{key}[{i}]",
                )
            found.append(Fallback(model, extra or {}))
    if len(found) > FALLBACKS_MAX:
        return Failure(
            Kind.BAD_REQUEST, f"fallback: expected at most {FALLBACKS_MAX} models", param="fallback"
        )
    return tuple(found)


def error_event(failure: Failure) -> bytes:
    """An error inside a stream: the client raises on it."""
    return b"data: " + orjson.dumps(error_body(failure)) + b"\n\n"
