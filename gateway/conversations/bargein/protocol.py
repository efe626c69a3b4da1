"""/bargein, WebSocket and HTTP: what a client may say, and the forms of what it is told. Pure.

A window is the newest audio, mono s16le at 16 kHz, at most 3 s: up to 1 s before the user's speech
began and everything since. It grows, then slides; one is asked about for every 100 ms of new audio
while the user talks over the agent. The answer has one probability for each 25 ms of it, that the
user means to take the floor.

WebSocket (Python since 1.6, Node since 1.4.11)
    -> {"type": "session.create", "settings": {"sample_rate": 16000, "num_channels": 1,
        "threshold": 0.5, "min_frames": 2, "encoding": "s16le"}}
    <- {"type": "session.created", "default_threshold": 0.5}
        `threshold` may be missing; then `default_threshold` is what the client goes by.
    -> binary: `created_at` (8 bytes, uint64, little-endian), then the samples
    <- {"type": "inference_done" or "bargein_detected", "created_at": N,
        "prediction_duration": 0.004, "probabilities": [...]}
        Every window has exactly one answer, with its own `created_at`: it is the client's key.
        `bargein_detected` when at least `min_frames` frames in a row reach the threshold.
    -> {"type": "session.close"}  <- {"type": "session.closed"}
    <- {"type": "error", "message": "...", "code": 400, "session_id": "..."}, all three required.

    An error, a broken socket, or one answer that takes over 0.7 s ends adaptive interruption for
    the rest of the call: there is no second try, so under load an older window is answered at once
    with what is known. A minute without a window is usual.

HTTP (Python 1.5.x, Node 1.2 to 1.4.5)
    POST /bargein?threshold=0.5&min_frames=2&created_at=N, the body is the samples
    {"created_at": N, "is_bargein": true, "probabilities": [...], "prediction_duration": 0.004}
        Node's `created_at` may have a fraction. A late answer ends the detector here as well, and
        so does a 400: a client whose setting comes to no frame at all, or to more than a window
        has, sends 0 or more than 120 as `min_frames`. Both are taken for what comes nearest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from gateway.conversations.messages import (
    Expected,
    Message,
    Share,
    Whole,
    bad_request,
    expected,
    read,
    required,
    validated,
)
from gateway.engines.types import Floats
from gateway.upstreams.errors import Failure

HEADER_BYTES: Final = 8
"""`created_at`, uint64 little-endian, before the samples."""

SAMPLE_RATE: Final = 16_000
"""Hz. The only one that the clients send."""

MIN_FRAMES_MAX: Final = 120
"""As many frames as the longest window has."""


def _within_window(frames: int) -> int:
    return min(max(frames, 1), MIN_FRAMES_MAX)


def _as_written(value: Any) -> int | float:
    """A number from a URL, which is echoed as it was written."""
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise expected("a number")
    return number


MinFrames = Annotated[Annotated[Whole, Expected("a whole number")], AfterValidator(_within_window)]
"""Frames in a row that make an interruption."""


class Settings(Message):
    """What a session asked for; a threshold of None means the model's own."""

    sample_rate: Annotated[
        Whole, Field(ge=SAMPLE_RATE, le=SAMPLE_RATE), Expected(f"{SAMPLE_RATE}")
    ] = SAMPLE_RATE
    num_channels: Annotated[Whole, Field(ge=1, le=1), Expected("1")] = 1
    encoding: Annotated[Literal["s16le", "pcm_s16le"], Expected("s16le")] = "s16le"
    threshold: Share | None = None
    min_frames: MinFrames = 2


class Create(Message):
    """session.create"""

    type: Literal["session.create"]
    settings: Settings = required()


class CloseSession(Message):
    """session.close"""

    type: Literal["session.close"]


class Query(Message):
    """The parameters of POST /bargein."""

    threshold: Share | None = None
    min_frames: MinFrames = 2
    created_at: Annotated[int | float, BeforeValidator(_as_written)] = 0


_Heard = Create | CloseSession
_HEARD: Final[TypeAdapter[_Heard]] = TypeAdapter(Annotated[_Heard, Field(discriminator="type")])
_QUERY: Final = TypeAdapter(Query)


def read_message(text: str) -> Create | CloseSession | Failure:
    """A text message of the client."""
    return read(text, _HEARD)


def read_query(parameters: Mapping[str, str]) -> Query | Failure:
    """The parameters of POST /bargein."""
    return validated(dict(parameters), _QUERY)


def check_window(samples_bytes: int, sample_rate: int, seconds_max: float) -> Failure | None:
    """What is wrong with a window of so many bytes of s16le, if anything."""
    if samples_bytes == 0:
        return bad_request("the window is empty: expected mono s16le samples")
    if samples_bytes % 2:
        return bad_request(
            f"the window has {samples_bytes} bytes: s16le samples have two bytes each"
        )
    if samples_bytes > 2 * sample_rate * seconds_max:
        return bad_request(
            f"the window has {samples_bytes / 2 / sample_rate:.2f} s: "
            f"expected at most {seconds_max:g} s"
        )
    return None


def session_created(default_threshold: float) -> str:
    return orjson.dumps(
        {"type": "session.created", "default_threshold": default_threshold}
    ).decode()


SESSION_CLOSED: Final = '{"type":"session.closed"}'


def error(failure: Failure, session_id: str) -> str:
    """All three of message, code and session_id are required by the clients."""
    return orjson.dumps(
        {
            "type": "error",
            "message": failure.message,
            "code": failure.status,
            "session_id": session_id,
        }
    ).decode()


def verdict(created_at: int, detected: bool, prediction_s: float, probabilities: str) -> str:
    """One answer; `probabilities` is a JSON array (see `probabilities_json`)."""
    kind = "bargein_detected" if detected else "inference_done"
    return (
        f'{{"type":"{kind}","created_at":{created_at},'
        f'"prediction_duration":{prediction_s:.6f},"probabilities":{probabilities}}}'
    )


def http_answer(
    created_at: int | float, detected: bool, prediction_s: float, probabilities: Floats
) -> str:
    """The body of an answer to POST /bargein; `created_at` is echoed as it was written."""
    return (
        f'{{"created_at":{created_at},"is_bargein":{"true" if detected else "false"},'
        f'"prediction_duration":{prediction_s:.6f},'
        f'"probabilities":{probabilities_json(probabilities)}}}'
    )


def probabilities_json(probabilities: Floats) -> str:
    """A JSON array of `probabilities`, four decimals each."""
    return orjson.dumps(probabilities.round(4), option=orjson.OPT_SERIALIZE_NUMPY).decode()
