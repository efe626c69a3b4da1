"""WebSocket /stt: what a client may say, and the forms of what it is told. Pure.

The URL is `/stt?model=<name>`, but the model that counts is that of `session.create`: Python
clients without one write `model=NOT_GIVEN` there. Text messages of JSON in both directions.

The client
    {"type": "session.create", "model": "deepgram/nova-3",
     "settings": {"sample_rate": "16000", "encoding": "pcm_s16le", "language": "en", "extra": {}},
     "fallback": {"models": [{"model": "assemblyai/universal-streaming", "extra": null}]},
     "connection": {"timeout": 10.0, "retries": 3}}
        comes first. `sample_rate` is a string. No `model`, "", "auto" and "NOT_GIVEN" ask for one
        by language. `language`, `fallback` and `connection` may be missing. `extra` holds options
        by the names of the main model's provider; 1.8.9 always has its key terms there, as an
        empty list when there are none. A model may end in `:language`.
    {"type": "input_audio", "audio": "<base64>"}
        every 50 ms: mono s16le. It may follow session.create without waiting for the answer.
    {"type": "session.finalize"}
        at the end of the input, and for some models whenever the client's VAD finds the end of
        speech: the recogniser is to say what is pending. The session stays open.
    {"type": "session.update", "settings": {"model"?, "language"?, "extra"?}}
        only what has changed. Options of another provider are among them at times. Nothing that
        is merely unsupported may be answered by an error.
    {"type": "session.close"}
        the last finals, `session.closed`, a normal close. 1.8.9 closes its socket right behind it;
        1.5.x never sends it and waits without limit until the server closes.

The gateway
    `session.created`, `session.finalized`, `session.closed`, each with `session_id`. A
    `session.closed` before the end of the input is taken for a failure.
    `start_of_speech`: the onset, about 0.8 s before the first text otherwise.
    `interim_transcript`, `preflight_transcript` (lets the agent prepare its reply; ignored unless
    speech has begun), `final_transcript` (ends the utterance, even without text: so none is sent
    without).
    `error` with `message`, `code`, `session_id`: ends this attempt; the client reconnects while its
    input is open and loses what was said in between. Of 1.5.x and Node only where `code` as an
    HTTP status is 408, 429, 499 or 5xx.

What three generations of clients do with fields
    `start`, `duration`, `start` and `end` of words: seconds since the session's first sample,
        whichever provider recognised it. null ends a Python client's stream and makes Node drop
        the message; the same goes for `language`, which is left out where it is not known.
    `transcript`: a string, always.
    `confidence`: 0..1; missing is 1 for a transcript but 0 for a word, so it is always sent.
    `speaker_id`: a string or missing; for a number Node drops the whole message.
    `request_id` is what Python goes by, `session_id` what Node does: both are sent.
    `code`: an integer. A string ends a 1.5.x stream; 2007 tells Node not to come back.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import orjson
import pybase64
from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter

from gateway.conversations.messages import (
    Connection,
    Expected,
    Fallback,
    Message,
    Name,
    SpeechOptions,
    Whole,
    bad_request,
    expected,
    read,
    required,
)
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import FallbackModel

RATE_MIN: Final = 8_000
RATE_MAX: Final = 48_000

FRAME_S_MAX: Final = 5.0
"""Longest audio of one message; the clients send 0.05 s."""

RETRIES_MAX: Final = 10
TIMEOUT_S_MAX: Final = 60.0
LANGUAGE_CHARS_MAX: Final = 35
"""RFC 5646 has no longer tag that means something."""

INACTIVITY_CODE: Final = 2007
"""LiveKit's code for a session that was idle for too long; Node's client does not come back."""

UPDATE_REFUSED: Final = "session.update_refused"
"""Type of the message for a session.update that cannot be obeyed; fields as of `error`."""

_AUDIO_FORMS: Final = ('{"type": "input_audio", "audio": "', '{"type":"input_audio","audio":"')
"""How the clients in Python and in JavaScript begin the message that comes 20 times a second."""

NO_MODEL: Final = frozenset({"", "auto", "NOT_GIVEN"})
"""Names that ask for no model."""
_SUFFIX = re.compile(r":(multi|[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)$")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a session is to do: a model of None is chosen by language."""

    model: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[FallbackModel, ...] = ()


# -- heard


def _chosen(value: Any) -> Any:
    return None if isinstance(value, str) and value in NO_MODEL else value


def _samples(value: Any) -> bytes:
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (TypeError, ValueError):
        raise expected("a string of base64") from None


Model = Annotated[Name | None, BeforeValidator(_chosen)]

Language = Annotated[
    Annotated[
        str,
        Field(max_length=LANGUAGE_CHARS_MAX, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"),
        Expected("a language tag such as en or pt-BR, or multi"),
    ]
    | None,
    BeforeValidator(lambda value: None if value == "" else value),
]


class InputAudio(Message):
    """Audio in a spelling that `read_message` does not know by heart."""

    type: Literal["input_audio"]
    audio: Annotated[bytes, BeforeValidator(_samples)] = required()


class Settings(Message):
    """`settings` of session.create."""

    sample_rate: Annotated[
        Whole, Field(ge=RATE_MIN, le=RATE_MAX), Expected(f"Hz from {RATE_MIN} to {RATE_MAX}")
    ] = 16_000
    encoding: Annotated[Literal["pcm_s16le", "s16le"], Expected("pcm_s16le")] = "pcm_s16le"
    num_channels: Annotated[Whole, Field(ge=1, le=1), Expected("1")] = Field(
        default=1, validation_alias=AliasChoices("num_channels", "channels")
    )
    language: Language = None
    extra: SpeechOptions | None = None


class Create(Message):
    """session.create"""

    type: Literal["session.create"]
    model: Model = None
    settings: Settings = Settings()
    fallback: Fallback | None = None
    connection: Connection | None = None

    @property
    def asked(self) -> Asked:
        fallbacks = () if self.fallback is None else self.fallback.models
        return Asked(
            self.model,
            self.settings.language,
            self.settings.extra or {},
            tuple(one.choice for one in fallbacks),
        )

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    @property
    def timeout_s(self) -> float | None:
        """How long opening a connection may take; None if the client does not say."""
        if self.connection is None or self.connection.timeout is None:
            return None
        return min(self.connection.timeout, TIMEOUT_S_MAX)

    @property
    def retries(self) -> int | None:
        """How often a failed provider may be asked again; None if the client does not say."""
        if self.connection is None or self.connection.retries is None:
            return None
        return min(self.connection.retries, RETRIES_MAX)


class UpdatedSettings(Message):
    """`settings` of session.update."""

    model: Model = None
    language: Language = None
    extra: SpeechOptions | None = None


class Update(Message):
    """session.update: None is unchanged."""

    type: Literal["session.update"]
    settings: UpdatedSettings = required()

    @property
    def model(self) -> str | None:
        return self.settings.model

    @property
    def language(self) -> str | None:
        return self.settings.language

    @property
    def extra(self) -> Mapping[str, Any] | None:
        return self.settings.extra


class FinalizeSession(Message):
    """session.finalize"""

    type: Literal["session.finalize"]


class CloseSession(Message):
    """session.close"""

    type: Literal["session.close"]


_Heard = Create | InputAudio | Update | FinalizeSession | CloseSession
_HEARD: Final[TypeAdapter[_Heard]] = TypeAdapter(Annotated[_Heard, Field(discriminator="type")])


def read_message(text: str) -> bytes | Create | Update | FinalizeSession | CloseSession | Failure:
    """A text message of the client; audio as the bytes that it carries."""
    for form in _AUDIO_FORMS:
        if text.startswith(form) and text.endswith('"}', len(form)):
            try:
                # whatever is base64 and nothing else needs no parser of JSON
                return pybase64.b64decode(text[len(form) : -2], validate=True)
            except (binascii.Error, ValueError):
                break
    message = read(text, _HEARD)
    return message.audio if isinstance(message, InputAudio) else message


def check_audio(pcm: bytes, rate: int) -> Failure | None:
    """What is wrong with the audio of one message, if anything."""
    if len(pcm) % 2:
        return bad_request(
            f"audio: {len(pcm)} bytes are no whole number of 16-bit samples (s16le)", "audio"
        )
    if len(pcm) > 2 * rate * FRAME_S_MAX:
        return Failure(
            Kind.TOO_LARGE,
            f"audio: {len(pcm) / 2 / rate:.1f} s in one message: expected at most "
            f"{FRAME_S_MAX:g} s (50 ms are usual)",
            "audio",
            bound=Bound.MESSAGE_AUDIO,
        )
    return None


def split_language(model: str) -> tuple[str, str | None]:
    """`deepgram/nova-3:en` as ("deepgram/nova-3", "en")."""
    found = _SUFFIX.search(model)
    return (model[: found.start()], found.group(1)) if found else (model, None)


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


def error(failure: Failure, session_id: str, kind: str = "error") -> str:
    """`error`, or another type of message with the same fields. The code is an HTTP status, for one
    client decides by it whether to come back."""
    code = INACTIVITY_CODE if failure.kind is Kind.IDLE else failure.status
    message: dict[str, Any] = {
        "type": kind,
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
