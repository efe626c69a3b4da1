"""What a client may say on /tts, and the forms of what it is told (contract, section 5)."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.tts import Timed

SAMPLE_RATES: Final = range(8000, 48001)
"""Hz a client may ask for; providers without it are resampled."""

TEXT_CHARS_MAX: Final = 20_000
"""In one message. The clients send a sentence at a time, of a few hundred characters."""

NAME_CHARS_MAX: Final = 256
"""Of a model, voice or language."""

FALLBACKS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Style:
    """How a text shall be spoken: the client's own names, None being the default."""

    model: str
    voice: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Create:
    """session.create; `style` is for texts that do not say otherwise."""

    sample_rate: int
    style: Style
    fallback: tuple[Style, ...] = ()


@dataclass(frozen=True, slots=True)
class InputText:
    """input_transcript; what is None is as in session.create."""

    text: str
    model: str | None = None
    voice: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] | None = None


class Flush:
    """session.flush"""


class CloseSession:
    """session.close"""


Message = Create | InputText | Flush | CloseSession

_FLUSH: Final = Flush()
_CLOSE: Final = CloseSession()


def read_message(text: str, default_model: str | None) -> Message | Failure:
    """A text message of the client; `default_model` is that of the URL or of the config."""
    try:
        message: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _bad(f"the message is not JSON: {error.msg}")
    if not isinstance(message, dict):
        return _bad("the message: expected a JSON object")
    match message.get("type"):
        case "input_transcript":
            return _read_transcript(message)
        case "session.flush":
            return _FLUSH
        case "session.close":
            return _CLOSE
        case "session.create":
            return _read_create(message, default_model)
        case _:
            return _bad(
                "type: expected session.create, input_transcript, session.flush or session.close",
                "type",
            )


def _read_transcript(message: dict[str, Any]) -> InputText | Failure:
    text = message.get("transcript")
    if not isinstance(text, str):
        return _bad("transcript: expected a string", "transcript")
    if len(text) > TEXT_CHARS_MAX:
        return Failure(
            Kind.TOO_LARGE,
            f"transcript: {len(text)} characters, expected at most {TEXT_CHARS_MAX}",
            param="transcript",
        )
    config = message.get("generation_config")
    if config is None:
        config = {}
    if not isinstance(config, dict):
        return _bad("generation_config: expected an object", "generation_config")
    names: list[str | None] = []
    for name in ("model", "voice", "language"):
        value = _name(config.get(name), f"generation_config.{name}")
        if isinstance(value, Failure):
            return value
        names.append(value)
    extra = message.get("extra")
    if extra is not None and not isinstance(extra, dict):
        return _bad("extra: expected an object", "extra")
    return InputText(text, names[0], names[1], names[2], extra)


def _read_create(message: dict[str, Any], default_model: str | None) -> Create | Failure:
    rate = _rate(message.get("sample_rate", "24000"))
    if isinstance(rate, Failure):
        return rate
    if message.get("encoding", "pcm_s16le") != "pcm_s16le":
        return _bad("encoding: expected pcm_s16le", "encoding")
    style = _read_style(message, "", default_model)
    if isinstance(style, Failure):
        return style
    given = message.get("fallback") or {}
    models = given.get("models") if isinstance(given, dict) else given
    if models is None:
        models = []
    if not isinstance(models, list) or len(models) > FALLBACKS_MAX:
        return _bad(
            f"fallback.models: expected a list of at most {FALLBACKS_MAX}", "fallback.models"
        )
    fallback = []
    for i, one in enumerate(models):
        if not isinstance(one, dict):
            return _bad(f"fallback.models.{i}: expected an object", "fallback.models")
        other = _read_style(one, f"fallback.models.{i}.", None)
        if isinstance(other, Failure):
            return other
        fallback.append(other)
    return Create(rate, style, tuple(fallback))


def _read_style(message: dict[str, Any], place: str, default_model: str | None) -> Style | Failure:
    names: list[str | None] = []
    for name in ("model", "voice", "language"):
        value = _name(message.get(name), place + name)
        if isinstance(value, Failure):
            return value
        names.append(value)
    model = names[0] or default_model
    if model is None:
        return _bad(f"{place}model: expected the name of a model, provider/model", f"{place}model")
    extra = message.get("extra")
    if extra is not None and not isinstance(extra, dict):
        return _bad(f"{place}extra: expected an object", f"{place}extra")
    return Style(model, names[1], names[2], extra or {})


def _name(value: Any, place: str) -> str | Failure | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > NAME_CHARS_MAX:
        return _bad(f"{place}: expected a string of at most {NAME_CHARS_MAX} characters", place)
    return value


def _rate(value: Any) -> int | Failure:
    """The clients send it as a string."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) in SAMPLE_RATES):
        return _bad(
            f"sample_rate: expected a whole number from {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}",
            "sample_rate",
        )
    return int(text)


def _bad(message: str, param: str | None = None) -> Failure:
    return Failure(Kind.BAD_REQUEST, message, param=param)


class Encoder:
    """The messages to one client. All carry its `session_id`: the Python client opens its audio
    segment at the first one it sees."""

    __slots__ = ("_audio_tail", "_id", "created", "done", "keepalive", "session_closed")

    def __init__(self, session_id: str) -> None:
        self._id = session_id
        tail = f'","session_id":{orjson.dumps(session_id).decode()}}}'
        self._audio_tail = tail.encode()
        self.created = self._plain("session.created")
        self.done = self._plain("done")
        self.session_closed = self._plain("session.closed")
        # no such type exists: both clients ignore it, and their clocks start anew
        self.keepalive = self._plain("keepalive")

    def _plain(self, type_name: str) -> str:
        return orjson.dumps({"type": type_name, "session_id": self._id}).decode()

    def audio(self, pcm: bytes) -> str:
        """output_audio"""
        encoded = binascii.b2a_base64(pcm, newline=False)
        return str(b'{"type":"output_audio","audio":"' + encoded + self._audio_tail, "ascii")

    def words(self, words: Sequence[Timed], base_s: float, after: str) -> str:
        """output_alignment with words, each followed by `after`; `base_s` is where their speech
        begins on the utterance's clock."""
        return self._alignment(
            "words",
            [
                {
                    "word": word.text + after,
                    "start": round(base_s + word.start, 4),
                    "end": round(base_s + word.end, 4),
                }
                for word in words
            ],
        )

    def chars(self, chars: Sequence[Timed], base_s: float) -> str:
        """output_alignment with characters."""
        return self._alignment(
            "chars",
            [
                {
                    "char": char.text,
                    "start": round(base_s + char.start, 4),
                    "end": round(base_s + char.end, 4),
                }
                for char in chars
            ],
        )

    def _alignment(self, key: str, entries: list[dict[str, Any]]) -> str:
        return orjson.dumps(
            {"type": "output_alignment", "session_id": self._id, key: entries}
        ).decode()

    def error(self, failure: Failure) -> str:
        """error; `code` is the HTTP status of its kind."""
        return orjson.dumps(
            {
                "type": "error",
                "message": failure.message,
                "code": failure.status,
                "session_id": self._id,
            }
        ).decode()
