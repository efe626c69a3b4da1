"""What a client may say on /stt, and the forms of what it is told (contract, section 4).

The forms obey what three generations of clients do with each field: no null where a number or
a string belongs, speaker ids as strings, error codes as integers, nothing without text.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.upstreams.errors import Failure, Kind

RATE_MIN: Final = 8_000
RATE_MAX: Final = 48_000

FRAME_S_MAX: Final = 5.0
"""Longest audio of one message; the clients send 0.05 s."""

FALLBACKS_MAX: Final = 8
"""Fallback models that a client may name."""

RETRIES_MAX: Final = 10
TIMEOUT_S_MAX: Final = 60.0
EXTRA_ENTRIES_MAX: Final = 64
NAME_CHARS_MAX: Final = 200

INACTIVITY_CODE: Final = 2007
"""LiveKit's code for a session that was idle for too long; Node's client does not come back."""

_AUDIO_FORMS: Final = ('{"type": "input_audio", "audio": "', '{"type":"input_audio","audio":"')
"""How the clients in Python and in JavaScript begin the message that comes 20 times a second."""

_NO_MODEL: Final = frozenset({"", "auto", "NOT_GIVEN"})
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_SUFFIX = re.compile(r":(multi|[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)$")


@dataclass(frozen=True, slots=True)
class FallbackModel:
    """A model that the client names for when the first one fails."""

    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a session is to do: a model of None is chosen by language."""

    model: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[FallbackModel, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """session.create"""

    asked: Asked
    sample_rate: int = 16_000
    timeout_s: float | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """session.update: None is unchanged."""

    model: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] | None = None


class FinalizeSession:
    """session.finalize"""


class CloseSession:
    """session.close"""


FINALIZE, CLOSE = FinalizeSession(), CloseSession()


def read_message(text: str) -> bytes | Create | Update | FinalizeSession | CloseSession | Failure:
    """A text message of the client; audio as the bytes that it carries."""
    for form in _AUDIO_FORMS:
        if text.startswith(form) and text.endswith('"}', len(form)):
            try:
                # whatever is base64 and nothing else needs no parser of JSON
                return binascii.a2b_base64(text[len(form) : -2], strict_mode=True)
            except (binascii.Error, ValueError):
                break
    try:
        message: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _bad(f"the message is not JSON: {error.msg}")
    if not isinstance(message, dict):
        return _bad("the message: expected a JSON object")
    match message.get("type"):
        case "input_audio":
            audio = message.get("audio")
            if not isinstance(audio, str):
                return _bad("audio: expected a string of base64", "audio")
            try:
                return binascii.a2b_base64(audio, strict_mode=True)
            except (binascii.Error, ValueError):
                return _bad("audio: not valid base64", "audio")
        case "session.finalize":
            return FINALIZE
        case "session.close":
            return CLOSE
        case "session.create":
            return _read_create(message)
        case "session.update":
            return _read_update(message)
        case _:
            return _bad(
                "type: expected session.create, input_audio, session.update, session.finalize "
                "or session.close",
                "type",
            )


def check_audio(pcm: bytes, rate: int) -> Failure | None:
    """What is wrong with the audio of one message, if anything."""
    if len(pcm) % 2:
        return _bad(
            f"audio: {len(pcm)} bytes are no whole number of 16-bit samples (s16le)", "audio"
        )
    if len(pcm) > 2 * rate * FRAME_S_MAX:
        return Failure(
            Kind.TOO_LARGE,
            f"audio: {len(pcm) / 2 / rate:.1f} s in one message: expected at most "
            f"{FRAME_S_MAX:g} s (50 ms are usual)",
            "audio",
        )
    return None


def split_language(model: str) -> tuple[str, str | None]:
    """`deepgram/nova-3:en` as ("deepgram/nova-3", "en")."""
    found = _SUFFIX.search(model)
    return (model[: found.start()], found.group(1)) if found else (model, None)


def _read_create(message: dict[str, Any]) -> Create | Failure:
    settings = message.get("settings", {})
    if not isinstance(settings, dict):
        return _bad("settings: expected an object", "settings")
    rate = settings.get("sample_rate", 16_000)
    if isinstance(rate, str) and rate.isascii() and rate.isdigit():
        rate = int(rate[:8])
    if not _is_whole(rate) or not RATE_MIN <= rate <= RATE_MAX:
        return _bad(
            f"settings.sample_rate: expected Hz from {RATE_MIN} to {RATE_MAX}",
            "settings.sample_rate",
        )
    if settings.get("encoding", "pcm_s16le") not in ("pcm_s16le", "s16le"):
        return _bad("settings.encoding: expected pcm_s16le", "settings.encoding")
    channels = settings.get("num_channels", settings.get("channels", 1))
    if channels not in (1, "1"):
        return _bad("settings.num_channels: expected 1", "settings.num_channels")
    model = _read_model(message.get("model"), "model")
    language = _read_language(settings.get("language"))
    extra = _read_extra(settings.get("extra"), "settings.extra")
    fallbacks = _read_fallbacks(message.get("fallback"))
    connection = _read_connection(message.get("connection"))
    for part in (model, language, extra, fallbacks, connection):
        if isinstance(part, Failure):
            return part
    assert not isinstance(model, Failure)
    assert not isinstance(language, Failure)
    assert not isinstance(extra, Failure)
    assert not isinstance(fallbacks, Failure)
    assert not isinstance(connection, Failure)
    timeout_s, retries = connection
    return Create(Asked(model, language, extra or {}, fallbacks), rate, timeout_s, retries)


def _read_update(message: dict[str, Any]) -> Update | Failure:
    settings = message.get("settings")
    if not isinstance(settings, dict):
        return _bad("settings: expected an object", "settings")
    model = _read_model(settings.get("model"), "settings.model")
    language = _read_language(settings.get("language"))
    extra = _read_extra(settings.get("extra"), "settings.extra")
    if isinstance(model, Failure):
        return model
    if isinstance(language, Failure):
        return language
    if isinstance(extra, Failure):
        return extra
    return Update(model, language, extra)


def _read_model(value: Any, name: str) -> str | Failure | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > NAME_CHARS_MAX:
        return _bad(f"{name}: expected the name of a model, a string", name)
    return None if value in _NO_MODEL else value


def _read_language(value: Any) -> str | Failure | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 35 or not _LANGUAGE.fullmatch(value):
        return _bad(
            "settings.language: expected a language tag such as en or pt-BR, or multi",
            "settings.language",
        )
    return value


def _read_extra(value: Any, name: str) -> dict[str, Any] | Failure | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return _bad(f"{name}: expected an object of provider options", name)
    if len(value) > EXTRA_ENTRIES_MAX:
        return _bad(f"{name}: more than {EXTRA_ENTRIES_MAX} options", name)
    return value


def _read_fallbacks(value: Any) -> tuple[FallbackModel, ...] | Failure:
    if value is None:
        return ()
    models = value.get("models") if isinstance(value, dict) else None
    if not isinstance(models, list) or len(models) > FALLBACKS_MAX:
        return _bad(
            f"fallback.models: expected a list of at most {FALLBACKS_MAX} models",
            "fallback.models",
        )
    read = []
    for i, entry in enumerate(models):
        if isinstance(entry, str):
            entry = {"model": entry}
        name = f"fallback.models.{i}"
        if not isinstance(entry, dict):
            return _bad(f"{name}: expected an object with a model", name)
        model = _read_model(entry.get("model"), f"{name}.model")
        extra = _read_extra(entry.get("extra"), f"{name}.extra")
        if isinstance(model, Failure):
            return model
        if isinstance(extra, Failure):
            return extra
        if model is None:
            return _bad(f"{name}.model: expected the name of a model, a string", f"{name}.model")
        read.append(FallbackModel(model, extra or {}))
    return tuple(read)


def _read_connection(value: Any) -> tuple[float | None, int | None] | Failure:
    if value is None:
        return None, None
    if not isinstance(value, dict):
        return _bad("connection: expected an object", "connection")
    timeout_s, retries = value.get("timeout"), value.get("retries")
    if timeout_s is not None:
        if not _is_number(timeout_s) or timeout_s <= 0:
            return _bad("connection.timeout: expected seconds above 0", "connection.timeout")
        timeout_s = min(float(timeout_s), TIMEOUT_S_MAX)
    if retries is not None:
        if not _is_whole(retries) or retries < 0:
            return _bad("connection.retries: expected a whole number from 0", "connection.retries")
        retries = min(retries, RETRIES_MAX)
    return timeout_s, retries


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(message: str, param: str | None = None) -> Failure:
    return Failure(Kind.BAD_REQUEST, message, param=param)


# -- told


@dataclass(frozen=True, slots=True)
class OutgoingTranscript:
    """A transcript on the session's clock, as the client gets it. Times in seconds."""

    text: str
    start: float
    end: float
    language: str | None
    confidence: float
    words: tuple[tuple[str, float, float, float, str | None], ...]
    """text, start, end, confidence, speaker"""
    speaker: str | None
    request_id: str
    extra: Mapping[str, Any] | None = None


def transcript(kind: str, said: OutgoingTranscript, session_id: str) -> str:
    """`interim_transcript`, `preflight_transcript` or `final_transcript`."""
    message: dict[str, Any] = {
        "type": kind,
        "session_id": session_id,
        "request_id": said.request_id,
        "transcript": said.text,
        "start": _time(said.start),
        "duration": _time(said.end - said.start),
        "confidence": _share(said.confidence),
        "words": [
            {
                "word": text,
                "start": _time(start),
                "end": _time(end),
                "confidence": _share(confidence),
                **({"speaker_id": speaker} if speaker else {}),
            }
            for text, start, end, confidence, speaker in said.words
        ],
    }
    if said.language:
        message["language"] = said.language
    if said.speaker:
        message["speaker_id"] = said.speaker
    if said.extra:
        message["extra"] = said.extra
    try:
        return orjson.dumps(message).decode()
    except TypeError:  # what a provider put into `extra` cannot be said in JSON
        message.pop("extra", None)
        return orjson.dumps(message).decode()


def simple(kind: str, session_id: str) -> str:
    """A message that has only its type and the session's id."""
    return orjson.dumps({"type": kind, "session_id": session_id}).decode()


def error(failure: Failure, session_id: str) -> str:
    """`error`; the code is an HTTP status, for one client decides by it whether to come back."""
    code = INACTIVITY_CODE if failure.kind is Kind.IDLE else failure.status
    message: dict[str, Any] = {
        "type": "error",
        "session_id": session_id,
        "code": code,
        "kind": failure.kind.value,
        "message": failure.message,
    }
    if failure.param:
        message["param"] = failure.param
    return orjson.dumps(message).decode()


def _time(seconds: float) -> float:
    return round(max(0.0, seconds), 3)


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)
