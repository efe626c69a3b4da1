"""/realtime: what the gateway itself reads of OpenAI's Realtime protocol, and what it says in it.
Pure.

All else is passed on as it came: events that are not known here too. Source:
https://platform.openai.com/docs/api-reference/realtime-client-events and -server-events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.conversations.messages import NAME_CHARS_MAX, bad_request, parse
from gateway.upstreams.chat import token_count
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.realtime import ClientEvent, TokensUsed

TYPE_CHARS_MAX: Final = 128
"""Of an event's type."""

BYTES_PER_S: Final[Mapping[str, int]] = {
    "audio/pcm": 48_000,  # 24 kHz, s16le, mono
    "audio/pcmu": 8_000,
    "audio/pcma": 8_000,
}
"""Of the caller's audio, by its format; pcm at 24 kHz where it says nothing."""

AUDIO_TOKEN_S: Final = 0.1
"""Seconds of a caller's audio in one token of OpenAI's."""

TRANSCRIBED_S_MAX: Final = 3600.0
"""Of one turn; a longer one is nonsense."""

LIVE_S_MAX: Final = 86_400.0
"""Of one session; more is nonsense."""

SESSION_EXPIRED: Final = "session_expired"
"""OpenAI's code of the error that ends a session which has lasted too long."""


def read_event(text: str) -> ClientEvent | Failure:
    """What the client says."""
    body = parse(text, "the event")
    if isinstance(body, Failure):
        return body
    kind = body.get("type")
    if not isinstance(kind, str) or not 0 < len(kind) <= TYPE_CHARS_MAX:
        return bad_request("type: expected the type of an event", "type")
    return ClientEvent(kind, body, text)


def error_event(failure: Failure, event_id: str, about: str | None = None) -> str:
    """`failure` as the protocol's `error`. `about`: the client's id of the event that is to
    blame."""
    code = SESSION_EXPIRED if failure.kind is Kind.SESSION_LIMIT else failure.kind.value
    error = {
        "type": failure.policy.type,
        "code": code,
        "message": failure.message,
        "param": failure.param,
        "event_id": about,
    }
    return orjson.dumps({"type": "error", "event_id": event_id, "error": error}).decode()


def live_error_event(failure: Failure, event_id: str, about: str | None = None) -> str:
    """The same in the Live protocol."""
    error: dict[str, Any] = {
        "type": failure.policy.type,
        "code": failure.kind.value,
        "message": failure.message,
        "param": failure.param,
        "client_event_id": about,
    }
    error.update(failure.details or {})
    return orjson.dumps({"type": "error", "event_id": event_id, "error": error}).decode()


def live_seconds(body: Mapping[str, Any]) -> float:
    """The seconds of the voice that were used in a session so far."""
    match body:
        case {"usage": {"seconds": int() | float() as seconds}}:
            return min(max(0.0, seconds), LIVE_S_MAX) if math.isfinite(seconds) else 0.0
    return 0.0


def item_deleted(item_id: str, event_id: str) -> str:
    """That an item is no longer in the conversation."""
    event = {"type": "conversation.item.deleted", "event_id": event_id, "item_id": item_id}
    return orjson.dumps(event).decode()


def audio_seconds(event: ClientEvent, bytes_per_s: int) -> float:
    """Seconds of audio in an `input_audio_buffer.append`."""
    audio = event.body.get("audio")
    if not isinstance(audio, str):
        return 0.0
    return (len(audio) * 3 // 4 - audio[-2:].count("=")) / bytes_per_s


def input_bytes_per_s(session: object, before: int) -> int:
    """Bytes in a second of the caller's audio after a `session.update` with this session."""
    match session:
        case {"audio": {"input": {"format": {"type": str(form)}}}}:
            return BYTES_PER_S.get(form, before)
    return before


def transcriber(session: object, before: str) -> str:
    """The model that writes down what the caller says, after a `session.update` with this
    session; "": none."""
    match session:
        case {"audio": {"input": {"transcription": {"model": str(model)}}}}:
            return model[:NAME_CHARS_MAX]
        case {"audio": {"input": {"transcription": None}}}:
            return ""
    return before


def transcribed_s(body: Mapping[str, Any]) -> float:
    """Seconds of the caller's speech that a completed transcription is of."""
    match body.get("usage"):
        case {"type": "duration", "seconds": int() | float() as seconds}:
            return min(max(0.0, seconds), TRANSCRIBED_S_MAX) if math.isfinite(seconds) else 0.0
        case {"type": "tokens", "input_token_details": {"audio_tokens": int()} as details}:
            tokens = _count(details, "audio_tokens")
            return min(tokens * AUDIO_TOKEN_S, TRANSCRIBED_S_MAX)
    return 0.0


def item_id_of(body: Mapping[str, Any]) -> str:
    """The id of the item that an event is about; "" if it is about none."""
    match body:
        case {"item": {"id": str(item_id)}} | {"item_id": str(item_id)}:
            return item_id
    return ""


def tokens_of(body: Mapping[str, Any]) -> TokensUsed | None:
    """What a `response.done` says was used, or a response of the Responses API; None: nothing."""
    match body:
        case {"response": {"usage": {} as usage}}:
            pass
        case _:
            return None
    read = _object(usage, "input_token_details") or _object(usage, "input_tokens_details")
    written = _object(usage, "output_token_details")
    cached = _object(read, "cached_tokens_details")
    given, made = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    from_cache = min(_count(read, "cached_tokens"), given)
    return TokensUsed(
        given,
        made,
        from_cache,
        min(_count(read, "audio_tokens"), given),
        min(_count(cached, "audio_tokens"), from_cache, _count(read, "audio_tokens")),
        min(_count(written, "audio_tokens"), made),
    )


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _count(body: Mapping[str, Any], name: str) -> int:
    return token_count(body.get(name)) or 0
