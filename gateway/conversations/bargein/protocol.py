"""What a client may say on /bargein, and the forms of what it is told (contract, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.engines.types import Floats
from gateway.upstreams.errors import Failure, Kind

HEADER_BYTES: Final = 8
"""`created_at`, uint64 little-endian, before the samples."""

MIN_FRAMES_MAX: Final = 120
"""As many frames as the longest window has."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session asked for; a threshold of None means the model's own."""

    threshold: float | None = None
    min_frames: int = 2


@dataclass(frozen=True, slots=True)
class Create:
    """session.create"""

    settings: Settings


class CloseSession:
    """session.close"""


def read_message(text: str, sample_rate: int) -> Create | CloseSession | Failure:
    """A text message of the client; `sample_rate` is the only one that is served."""
    try:
        message: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _bad(f"the message is not JSON: {error.msg}")
    if not isinstance(message, dict):
        return _bad("the message: expected a JSON object")
    match message.get("type"):
        case "session.create":
            settings = message.get("settings")
            if not isinstance(settings, dict):
                return _bad("settings: expected an object", "settings")
            return read_settings(settings, sample_rate)
        case "session.close":
            return CloseSession()
        case _:
            return _bad("type: expected session.create or session.close", "type")


def read_settings(settings: dict[str, Any], sample_rate: int) -> Create | Failure:
    """The settings of session.create."""
    rate = settings.get("sample_rate", sample_rate)
    if rate not in (sample_rate, str(sample_rate)) or isinstance(rate, bool):
        return _bad(f"settings.sample_rate: expected {sample_rate}", "settings.sample_rate")
    channels = settings.get("num_channels", 1)
    if channels != 1 or isinstance(channels, bool):
        return _bad("settings.num_channels: expected 1", "settings.num_channels")
    encoding = settings.get("encoding", "s16le")
    if encoding not in ("s16le", "pcm_s16le"):
        return _bad("settings.encoding: expected s16le", "settings.encoding")
    threshold = settings.get("threshold")
    if threshold is not None and not is_threshold(threshold):
        return _bad("settings.threshold: expected a number from 0 to 1", "settings.threshold")
    min_frames = settings.get("min_frames", 2)
    if not is_min_frames(min_frames):
        return _bad(
            f"settings.min_frames: expected a whole number from 1 to {MIN_FRAMES_MAX}",
            "settings.min_frames",
        )
    return Create(Settings(None if threshold is None else float(threshold), min_frames))


def is_threshold(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_min_frames(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MIN_FRAMES_MAX


def check_window(samples_bytes: int, sample_rate: int, seconds_max: float) -> Failure | None:
    """What is wrong with a window of so many bytes of s16le, if anything."""
    if samples_bytes == 0:
        return _bad("the window is empty: expected mono s16le samples")
    if samples_bytes % 2:
        return _bad(f"the window has {samples_bytes} bytes: s16le samples have two bytes each")
    if samples_bytes > 2 * sample_rate * seconds_max:
        return _bad(
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


def _bad(message: str, param: str | None = None) -> Failure:
    return Failure(Kind.BAD_REQUEST, message, param=param)
