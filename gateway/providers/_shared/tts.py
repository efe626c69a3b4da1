"""What the vendors of voices share: reading their errors, and small conversions."""

from __future__ import annotations

import binascii
from typing import Any, Final

import orjson
import pybase64

from gateway.upstreams.bounded_json import loads
from gateway.upstreams.errors import Failure, Kind, kind_of_status, presentable
from gateway.upstreams.tts import Audio

LINE_PING_S: Final = 20.0
"""Pings on a quiet socket: routers forget connections after a minute at the earliest, and a dead
one is found before a caller needs it. Without an answer within half of this the socket is closed.
"""

MOMENT_MAX: Final = 1e12
"""A later moment, in seconds or milliseconds, is nonsense; a sum of two such may be infinite."""


def by_status(status: int, message: str) -> Failure:
    """A failure by its HTTP-like status."""
    text = presentable(message) or f"the provider answered with status {status}"
    return Failure(kind_of_status(status), text, upstream_status=status)


def by_close(code: int, reason: str) -> Failure:
    """A socket that the provider closed in the middle."""
    detail = f": {presentable(reason)}" if reason else ""
    return Failure(
        Kind.CONNECTION_LOST,
        f"the provider closed the connection with code {code}{detail}",
        upstream_status=code,
    )


def read_object(frame: str | bytes) -> dict[str, Any] | Failure:
    """A frame that has to be a JSON object."""
    try:
        message = loads(frame)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        return Failure(Kind.PROTOCOL_ERROR, "the provider sent a message that is no JSON object")
    return message


def samples(encoded: Any) -> bytes | None:
    """Base64 of audio; None if it is none."""
    if not isinstance(encoded, str):
        return None
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError:  # no base64 (binascii.Error), or not as it is written: read leniently
        try:
            return binascii.a2b_base64(encoded)
        except ValueError:  # not even ASCII
            return None


def encoded_audio(encoded: Any) -> Audio | None:
    """Audio in base64; with its text if that stands for these bytes alone."""
    pcm = samples(encoded)
    if pcm is None:
        return None
    padding = 2 if encoded.endswith("==") else encoded.endswith("=")
    # base64 is decoded leniently: what has other characters in it has another length
    exact = len(encoded) % 4 == 0 and len(encoded) // 4 * 3 - padding == len(pcm)
    return Audio(pcm, encoded if exact else None)


def context_of(message: dict[str, Any]) -> str | None:
    """Which synthesis a message names; None: none, so that it is about all of its socket."""
    context = message.get("contextId") or message.get("context_id")
    return context if isinstance(context, str) else None


def moment(value: Any) -> float:
    """A time on a provider's clock. Raises ValueError or TypeError if it can be none."""
    seconds = float(value)
    if not abs(seconds) <= MOMENT_MAX:
        raise ValueError("no time")
    return seconds


def query_value(value: Any) -> str:
    """As it stands in a URL: booleans in lower case, lists with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(query_value(one) for one in value)
    return str(value)


def base_language(language: str | None) -> str | None:
    """`en` of `en-US`."""
    return language.replace("_", "-").partition("-")[0].lower() if language else None
