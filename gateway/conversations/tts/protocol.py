"""WebSocket /tts: what a client may say, and the forms of what it is told. Pure.

The URL is `/tts?model=<name>`. Text messages of JSON in both directions. Sockets are pooled: one
carries many utterances one after the other, and is opened before there is one.

The client
    {"type": "session.create", "sample_rate": "24000", "encoding": "pcm_s16le",
     "model": "cartesia/sonic-3", "voice": "...", "language": "en", "extra": {},
     "fallback": {"models": [{"model": "rime/coda", "voice": "...", "extra": {}}]},
     "connection": {"timeout": 10.0, "retries": 3}}
        once a socket. `sample_rate` is a string. A model may end in `:voice`.
    {"type": "input_transcript", "transcript": "One sentence. ",
     "generation_config": {"voice": "...", "model": "...", "language": "..."}, "extra": {}}
        a sentence at a time while the LLM writes; what it says of voice and model wins over
        session.create, and may differ from one utterance to the next.
    {"type": "session.flush"}
        the end of the utterance, which may consist of this alone.
    {"type": "session.close"}
        Node's goodbye; Python closes the socket.
    When the user interrupts, the client stops reading and says nothing; it closes the socket when
    it next needs one. So a send that blocks means "cancel" as much as a close does. It does not
    answer pings while it is idle.

The gateway
    `session.created`, `output_audio` (`audio`: base64 of mono s16le at the asked rate, whole
    samples, any length), `output_alignment` (`words`: [{word, start, end}] or `chars`: [{char,
    start, end}], seconds since the utterance's first sample; where there are words, characters are
    ignored), `done`, `session.closed`, `error` (`message`, `code`).
    * Every message carries `session_id`: Python opens its audio segment at the first one that it
      sees in an utterance, and on a pooled socket no session.created comes again.
    * Words are joined as they come, except for cartesia's in Python 1.8.9: it adds the spaces.
    * `done` says that all audio was sent; what comes after it is played with the next utterance.
      `done` without audio for a text that can be spoken is a failure, and the utterance is tried
      again.
    * `error`, like a close in the middle, fails the utterance, and the client drops the socket. It
      tries again only if nothing was played.
    * No message at all for 10 s while an utterance is open, and the client gives up. Types that it
      does not know are ignored but start that clock anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import orjson
import pybase64
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from gateway.conversations.messages import (
    FALLBACKS_MAX,
    Connection,
    Expected,
    Fallback,
    FallbackEntry,
    Message,
    Name,
    OptionalName,
    SpeechOptions,
    Whole,
    as_list_entry,
    list_of_at_most,
    read,
    required,
    too_large,
    validated,
)
from gateway.upstreams.errors import Failure
from gateway.upstreams.tts import Timed

RATE_MIN: Final = 8_000
RATE_MAX: Final = 48_000

RETRIES_MAX: Final = 9
"""More rounds over all providers are not made for a client that asks for them."""

TEXT_CHARS_MAX: Final = 20_000
"""In one message. The clients send a sentence at a time, of a few hundred characters."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a text shall be spoken: the client's own names, None being the default."""

    model: str
    voice: str | None = None
    language: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def _short_enough(text: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        raise too_large(f"at most {TEXT_CHARS_MAX} characters")
    return text


class VoicedEntry(FallbackEntry):
    """A fallback model, and the voice that it is to have."""

    extra: SpeechOptions | None = None
    voice: OptionalName = None
    language: OptionalName = None

    @property
    def style(self) -> Style:
        return Style(self.model, self.voice, self.language, self.extra or {})


class VoicedFallback(Fallback):
    models: Annotated[
        tuple[Annotated[VoicedEntry, BeforeValidator(as_list_entry)], ...],
        list_of_at_most(FALLBACKS_MAX, "models"),
    ] = ()


class Create(Message):
    """session.create; its style is for texts that do not say otherwise."""

    type: Literal["session.create"]
    sample_rate: Annotated[
        Whole,
        Field(ge=RATE_MIN, le=RATE_MAX),
        Expected(f"a whole number from {RATE_MIN} to {RATE_MAX}"),
    ] = 24_000
    encoding: Annotated[Literal["pcm_s16le"], Expected("pcm_s16le")] = "pcm_s16le"
    model: OptionalName = None
    voice: OptionalName = None
    language: OptionalName = None
    extra: SpeechOptions | None = None
    fallback_models: VoicedFallback | None = Field(default=None, validation_alias="fallback")
    connection: Connection | None = None

    @property
    def timeout_s(self) -> float | None:
        """How long one provider may take to its first audio; None if the client does not say."""
        return None if self.connection is None else self.connection.timeout

    @property
    def rounds(self) -> int | None:
        """How often all providers may be gone through; None if the client does not say."""
        if self.connection is None or self.connection.retries is None:
            return None
        return 1 + min(self.connection.retries, RETRIES_MAX)

    @property
    def style(self) -> Style:
        assert self.model is not None  # `read_message` saw to it
        return Style(self.model, self.voice, self.language, self.extra or {})

    @property
    def fallback(self) -> tuple[Style, ...]:
        if self.fallback_models is None:
            return ()
        return tuple(one.style for one in self.fallback_models.models)


class GenerationConfig(Message):
    """How the text of one message is to be spoken."""

    model: OptionalName = None
    voice: OptionalName = None
    language: OptionalName = None


class InputText(Message):
    """input_transcript; what is None is as in session.create."""

    type: Literal["input_transcript"]
    transcript: Annotated[Annotated[str, Expected("a string")], AfterValidator(_short_enough)] = (
        required()
    )
    generation_config: GenerationConfig | None = None
    extra: SpeechOptions | None = None

    @property
    def text(self) -> str:
        return self.transcript

    @property
    def model(self) -> str | None:
        return None if self.generation_config is None else self.generation_config.model

    @property
    def voice(self) -> str | None:
        return None if self.generation_config is None else self.generation_config.voice

    @property
    def language(self) -> str | None:
        return None if self.generation_config is None else self.generation_config.language


class Flush(Message):
    """session.flush"""

    type: Literal["session.flush"]


class CloseSession(Message):
    """session.close"""

    type: Literal["session.close"]


_Heard = Create | InputText | Flush | CloseSession
_HEARD: Final[TypeAdapter[_Heard]] = TypeAdapter(Annotated[_Heard, Field(discriminator="type")])
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


def read_model(parameters: Mapping[str, str], default: str | None) -> str | Failure | None:
    """The model that the URL names, else `default`."""
    given = parameters.get("model")
    return _model(given) if given else default


def _model(name: Any) -> str | Failure:
    return validated(name, _NAME, "model")


def read_message(
    text: str, default_model: str | None
) -> Create | InputText | Flush | CloseSession | Failure:
    """A text message of the client; `default_model` is that of the URL or of the config."""
    message = read(text, _HEARD)
    if isinstance(message, Create) and message.model is None:
        model = _model(default_model)
        return model if isinstance(model, Failure) else message.model_copy(update={"model": model})
    return message


class Encoder:
    """The messages to one client. All carry its `session_id`: the Python client opens its audio
    segment at the first one it sees."""

    __slots__ = ("_id", "_tail", "created", "done", "keepalive", "session_closed")

    def __init__(self, session_id: str) -> None:
        self._id = session_id
        tail = f'","session_id":{orjson.dumps(session_id).decode()}}}'
        self._tail = tail
        self.created = self._plain("session.created")
        self.done = self._plain("done")
        self.session_closed = self._plain("session.closed")
        # no such type exists: both clients ignore it, and their clocks start anew
        self.keepalive = self._plain("keepalive")

    def _plain(self, type_name: str) -> str:
        return orjson.dumps({"type": type_name, "session_id": self._id}).decode()

    def audio(self, pcm: bytes) -> str:
        """output_audio"""
        return self.encoded_audio(pybase64.b64encode_as_string(pcm))

    def encoded_audio(self, encoded: str) -> str:
        """output_audio of samples that are base64 already."""
        return f'{{"type":"output_audio","audio":"{encoded}{self._tail}'

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
