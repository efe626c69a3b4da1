"""What a client of the realtime protocol may say to a cascade. Pure.

The events are OpenAI's (https://platform.openai.com/docs/api-reference/realtime-client-events).
`session.update` is read in its form of today (`audio.input.format`, ...) and in that of the beta
(`input_audio_format`, ...), so that clients of both configure what they mean. Fields that mean
nothing here (noise reduction, tracing, truncation, speed) are taken and told back.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

import pybase64
from pydantic import BeforeValidator, Field, StrictBool, TypeAdapter

from gateway.audio import g711
from gateway.conversations.messages import (
    Expected,
    Message,
    OptionalName,
    Share,
    Whole,
    bad_request,
    list_of_at_most,
    read,
    required,
    validated,
)
from gateway.conversations.realtime.cascade.turns import Silences
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind

PCM_RATE: Final = 24_000
"""Hz of `audio/pcm`, which has no other rate in this protocol."""

AUDIO_BYTES_MAX: Final = 15 << 20
"""Audio of one `input_audio_buffer.append`, as OpenAI has it."""

INSTRUCTIONS_CHARS_MAX: Final = 200_000
TOOLS_MAX: Final = 128
"""Of one session; OpenAI takes as many."""

PARTS_MAX: Final = 64
"""Parts of one item's content."""

TEXT_CHARS_MAX: Final = 1 << 20
"""Of one part, one function call's arguments or its output."""

METADATA_MAX: Final = 16
"""Keys of a response's metadata, as OpenAI has it."""

OPENAI_VOICES: Final = frozenset(
    "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
)
"""Voices that clients name by default. They stand for the cascade's own."""

WAITS_MS: Final = {"low": 8000.0, "medium": 4000.0, "high": 2000.0, "auto": 4000.0}
"""`semantic_vad`: the silence that ends a turn whatever the model of turns says, by eagerness."""

BLIND_WAITS_MS: Final = {"low": 1200.0, "medium": 800.0, "high": 500.0, "auto": 800.0}
"""The same where there is no model of turns."""

Encoding = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
_BETA_FORMATS: Final = {
    "pcm16": "audio/pcm",
    "g711_ulaw": "audio/pcmu",
    "g711_alaw": "audio/pcma",
}


_Instructions = Annotated[
    str,
    Field(max_length=INSTRUCTIONS_CHARS_MAX),
    Expected(f"at most {INSTRUCTIONS_CHARS_MAX} characters"),
]
_Text = Annotated[
    str, Field(max_length=TEXT_CHARS_MAX), Expected(f"at most {TEXT_CHARS_MAX} characters")
]
_Object = Annotated[dict[str, Any], Expected("an object")]


def _format(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else value
    return _BETA_FORMATS.get(kind, kind) if isinstance(kind, str) else kind


Format = Annotated[
    Annotated[Encoding, Expected("audio/pcm (24000 Hz), audio/pcmu or audio/pcma")],
    BeforeValidator(_format),
]


def _voice(value: Any) -> Any:
    """GA clients may name a voice by an object with its id."""
    return value.get("id") if isinstance(value, dict) else value


Voice = Annotated[OptionalName, BeforeValidator(_voice)]

Modalities = Annotated[
    list[Literal["text", "audio"]],
    Field(min_length=1, max_length=2),
    Expected('["audio"] or ["text"]'),
]

Milliseconds = Annotated[Whole, Field(ge=0, le=60_000), Expected("milliseconds, at most 60000")]
MaxTokens = Annotated[
    Annotated[Whole, Field(ge=1)] | Literal["inf"], Expected('a whole number from 1, or "inf"')
]


class ServerVad(Message):
    """Turns end with a silence."""

    type: Literal["server_vad"]
    threshold: Share | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None
    idle_timeout_ms: Milliseconds | None = None
    create_response: StrictBool | None = None
    interrupt_response: StrictBool | None = None

    def silences(self, *, blind: bool) -> Silences:
        """`blind`: there is no model of turns."""
        threshold = 0.5 if self.threshold is None else self.threshold
        end_ms = 500.0 if self.silence_duration_ms is None else float(self.silence_duration_ms)
        return Silences(threshold, end_ms)


SERVER_VAD: Final = ServerVad(type="server_vad")
"""How turns end where the client does not say."""


class SemanticVad(Message):
    """Turns end when the model of turns says so."""

    type: Literal["semantic_vad"]
    eagerness: Annotated[
        Literal["low", "medium", "high", "auto"] | None, Expected("low, medium, high or auto")
    ] = None
    create_response: StrictBool | None = None
    interrupt_response: StrictBool | None = None

    def silences(self, *, blind: bool) -> Silences:
        """`blind`: there is no model of turns."""
        waits = BLIND_WAITS_MS if blind else WAITS_MS
        return Silences(end_ms=waits[self.eagerness or "auto"], asks=not blind)


Turns = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class Transcription(Message):
    """What the client wants told of the words. The recogniser is the cascade's, whatever `model`
    says."""

    model: str | None = Field(default=None, max_length=256)
    language: OptionalName = None
    prompt: str | None = Field(default=None, max_length=4000)


class AudioInput(Message):
    format: Format | None = None
    transcription: Transcription | None = None
    turn_detection: Turns | None = None
    noise_reduction: Any = None


class AudioOutput(Message):
    format: Format | None = None
    voice: Voice = None
    speed: Any = None


class Audio(Message):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class Tool(Message):
    """A function. Tools of other kinds are run by OpenAI itself, and mean nothing here."""

    type: Annotated[Literal["function"], Expected('"function", the only kind of tools here')]
    name: Annotated[str, Field(min_length=1, max_length=256), Expected("a name")] = required()
    description: _Text | None = None
    parameters: _Object | None = None

    @property
    def for_chat(self) -> dict[str, Any]:
        """As /chat/completions has it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}

    @property
    def told(self) -> dict[str, Any]:
        return {"type": "function", **self.for_chat["function"]}


class ChosenTool(Message):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256), Expected("a name")] = required()


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | ChosenTool,
    Expected('"none", "auto", "required" or {"type": "function", "name": ...}'),
]
Tools = Annotated[list[Tool], list_of_at_most(TOOLS_MAX, "tools")]


class Reasoning(Message):
    effort: Annotated[str | None, Field(max_length=32)] = None


class Options(Message):
    """What both a session and a response may say."""

    instructions: _Instructions | None = None
    output_modalities: Modalities | None = None
    modalities: Modalities | None = None
    audio: Audio | None = None
    voice: Voice = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    max_output_tokens: MaxTokens | None = None
    max_response_output_tokens: MaxTokens | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2), Expected("a number from 0 to 2")] = None
    reasoning: Reasoning | None = None
    parallel_tool_calls: StrictBool | None = None
    output_audio_format: Format | None = None


class SessionOptions(Options):
    """`session` of session.update, in both forms."""

    type: Annotated[
        Literal["realtime"] | None,
        Expected('"realtime"; transcription alone is what WebSocket /stt is for'),
    ] = None
    input_audio_format: Format | None = None
    input_audio_transcription: Transcription | None = None
    turn_detection: Turns | None = None


class Part(Message):
    """A part of an item's content."""

    type: Annotated[
        Literal["input_text", "text", "output_text", "input_audio", "output_audio", "audio",
                "input_image"],
        Expected("input_text, input_audio, input_image, output_text or output_audio"),
    ]  # fmt: skip
    text: _Text | None = None
    transcript: _Text | None = None
    image_url: Annotated[str | None, Field(max_length=16 << 20)] = None
    detail: Annotated[str | None, Field(max_length=16)] = None


class ItemFields(Message):
    """`item` of conversation.item.create."""

    type: Annotated[
        Literal["message", "function_call", "function_call_output"],
        Expected("message, function_call or function_call_output"),
    ] = required()
    id: OptionalName = None
    role: Annotated[
        Literal["user", "assistant", "system", "developer"] | None,
        Expected("user, assistant or system"),
    ] = None
    content: Annotated[list[Part] | None, list_of_at_most(PARTS_MAX, "parts")] = None
    call_id: OptionalName = None
    name: OptionalName = None
    arguments: _Text | None = None
    output: _Text | None = None


class ResponseOptions(Options):
    """`response` of response.create."""

    conversation: Annotated[Literal["auto", "none"] | None, Expected('"auto" or "none"')] = None
    metadata: Annotated[
        dict[str, Annotated[str, Field(max_length=512)]] | None,
        Field(max_length=METADATA_MAX),
        Expected(f"at most {METADATA_MAX} strings"),
    ] = None
    input: Annotated[list[Any] | None, list_of_at_most(512, "items")] = None


class _Event(Message):
    event_id: Annotated[str | None, Field(max_length=512)] = None


class UpdateSession(_Event):
    type: Literal["session.update"]
    session: SessionOptions = required()


class AppendAudio(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: Annotated[str, Expected("a string of base64")] = required()


class CommitAudio(_Event):
    type: Literal["input_audio_buffer.commit"]


class ClearAudio(_Event):
    type: Literal["input_audio_buffer.clear"]


class CreateItem(_Event):
    type: Literal["conversation.item.create"]
    previous_item_id: OptionalName = None
    item: ItemFields = required()


ItemId = Annotated[str, Field(min_length=1, max_length=256), Expected("an item's id")]


class DeleteItem(_Event):
    type: Literal["conversation.item.delete"]
    item_id: ItemId = required()


class RetrieveItem(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: ItemId = required()


class TruncateItem(_Event):
    type: Literal["conversation.item.truncate"]
    item_id: ItemId = required()
    content_index: Whole = 0
    audio_end_ms: Annotated[Whole, Field(ge=0), Expected("milliseconds from 0")] = required()


class CreateResponse(_Event):
    type: Literal["response.create"]
    response: ResponseOptions | None = None


class CancelResponse(_Event):
    type: Literal["response.cancel"]
    response_id: OptionalName = None


class ClearOutput(_Event):
    type: Literal["output_audio_buffer.clear"]


ClientEvent = (
    UpdateSession
    | AppendAudio
    | CommitAudio
    | ClearAudio
    | CreateItem
    | DeleteItem
    | RetrieveItem
    | TruncateItem
    | CreateResponse
    | CancelResponse
    | ClearOutput
)
_EVENTS: Final[TypeAdapter[ClientEvent]] = TypeAdapter(
    Annotated[ClientEvent, Field(discriminator="type")]
)
_ITEM: Final = TypeAdapter(ItemFields)
_ID: Final = TypeAdapter(_Event)


def read_event(text: str) -> ClientEvent | Failure:
    """An event of the client, or what is wrong with it."""
    return read(text, _EVENTS, "the event")


def read_item(value: Any, place: str) -> ItemFields | Failure:
    """An item inside of another event."""
    if not isinstance(value, dict):
        return bad_request(f"{place}: expected an object", place)
    return validated(value, _ITEM, place)


def event_id(text: str) -> str | None:
    """The id that the client gave an event which cannot be read, for the error to name."""
    found = read(text, _ID, "the event")
    return None if isinstance(found, Failure) else found.event_id


def samples(audio: str, encoding: Encoding) -> bytes | Failure:
    """s16le of one append: at PCM_RATE, or at that of G.711."""
    if len(audio) > AUDIO_BYTES_MAX * 4 // 3 + 4:
        return Failure(
            Kind.TOO_LARGE,
            f"audio: expected at most {AUDIO_BYTES_MAX} bytes in one event",
            "audio",
            bound=Bound.MESSAGE_AUDIO,
        )
    try:
        data = bytes(pybase64.b64decode(audio, validate=True))
    except (binascii.Error, ValueError):
        return bad_request("audio: expected a string of base64", "audio")
    if encoding == "audio/pcmu":
        return g711.from_ulaw(data)
    if encoding == "audio/pcma":
        return g711.from_alaw(data)
    if len(data) % 2:
        return bad_request(
            f"audio: {len(data)} bytes are no whole number of 16-bit samples", "audio"
        )
    return data


def rate_of(encoding: Encoding) -> int:
    """Hz."""
    return PCM_RATE if encoding == "audio/pcm" else g711.RATE


# -- what a session is set to


@dataclass(frozen=True, slots=True)
class Settings:
    """A session as it is set. `voice` is as the client named it, None the cascade's own; `turns`
    of None: the client commits its audio itself. `transcription` of None: no words are told.
    `other`: what means nothing here and is told back."""

    model: str
    instructions: str = ""
    modality: Literal["audio", "text"] = "audio"
    input: Encoding = "audio/pcm"
    output: Encoding = "audio/pcm"
    transcription: Transcription | None = None
    turns: ServerVad | SemanticVad | None = SERVER_VAD
    voice: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | ChosenTool = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    effort: str | None = None
    parallel_tool_calls: bool | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_voice(self) -> str | None:
        """The voice to ask for; None: the cascade's."""
        return None if self.voice in OPENAI_VOICES else self.voice

    @property
    def creates(self) -> bool:
        """Whether the end of a turn is answered."""
        return self.turns is not None and self.turns.create_response is not False

    @property
    def interrupts(self) -> bool:
        """Whether the caller may interrupt a response."""
        return self.turns is not None and self.turns.interrupt_response is not False

    def updated(self, new: SessionOptions) -> Settings:
        """With what `session.update` says; what it does not say stays as it is."""
        given: dict[str, Any] = _common(new)
        heard = new.audio.input if new.audio is not None else AudioInput()
        for encoding in (new.input_audio_format, heard.format):
            if encoding is not None:
                given["input"] = encoding
        # null has a meaning of its own here
        if "input_audio_transcription" in new.model_fields_set:
            given["transcription"] = new.input_audio_transcription
        if "transcription" in heard.model_fields_set:
            given["transcription"] = heard.transcription
        if "turn_detection" in new.model_fields_set:
            given["turns"] = new.turn_detection
        if "turn_detection" in heard.model_fields_set:
            given["turns"] = heard.turn_detection
        other = dict(self.other)
        for name, value in (
            ("noise_reduction", heard.noise_reduction),
            ("speed", None if new.audio is None else new.audio.output.speed),
        ):
            if value is not None:
                other[name] = value
        return replace(self, **given, other=other)

    def for_response(self, new: ResponseOptions | None) -> Settings:
        """With what `response.create` says, for that response alone."""
        return self if new is None else replace(self, **_common(new))


def _common(new: Options) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if new.instructions is not None:
        given["instructions"] = new.instructions
    for modalities in (new.modalities, new.output_modalities):
        if modalities is not None:
            given["modality"] = "audio" if "audio" in modalities else "text"
    spoken = new.audio.output if new.audio is not None else AudioOutput()
    for voice in (new.voice, spoken.voice):
        if voice is not None:
            given["voice"] = voice
    for encoding in (new.output_audio_format, spoken.format):
        if encoding is not None:
            given["output"] = encoding
    if new.tools is not None:
        given["tools"] = tuple(new.tools)
    if new.tool_choice is not None:
        given["tool_choice"] = new.tool_choice
    for most in (new.max_response_output_tokens, new.max_output_tokens):
        if most is not None:
            given["max_tokens"] = None if most == "inf" else most
    if new.temperature is not None:
        given["temperature"] = new.temperature
    if new.reasoning is not None:
        given["effort"] = new.reasoning.effort
    if new.parallel_tool_calls is not None:
        given["parallel_tool_calls"] = new.parallel_tool_calls
    return given


def format_told(encoding: Encoding) -> dict[str, Any]:
    """A format as the protocol writes it."""
    return {"type": encoding, "rate": PCM_RATE} if encoding == "audio/pcm" else {"type": encoding}


def session_told(settings: Settings, session_id: str) -> dict[str, Any]:
    """`session` of session.created and session.updated."""
    turns = settings.turns
    transcription = settings.transcription
    choice = settings.tool_choice
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": settings.model,
        "output_modalities": [settings.modality],
        "instructions": settings.instructions,
        "tools": [tool.told for tool in settings.tools],
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "max_output_tokens": settings.max_tokens or "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": format_told(settings.input),
                "transcription": None
                if transcription is None
                else transcription.model_dump(exclude_none=True),
                "noise_reduction": settings.other.get("noise_reduction"),
                "turn_detection": None if turns is None else _turns_told(turns),
            },
            "output": {
                "format": format_told(settings.output),
                "voice": settings.voice,
                "speed": settings.other.get("speed", 1.0),
            },
        },
    }


def _turns_told(turns: ServerVad | SemanticVad) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": turns.type,
        "create_response": turns.create_response is not False,
        "interrupt_response": turns.interrupt_response is not False,
    }
    if isinstance(turns, SemanticVad):
        return told | {"eagerness": turns.eagerness or "auto"}
    silences = turns.silences(blind=True)
    padding = PREFIX_MS if turns.prefix_padding_ms is None else turns.prefix_padding_ms
    return told | {
        "threshold": silences.threshold,
        "prefix_padding_ms": padding,
        "silence_duration_ms": int(silences.end_ms),
        "idle_timeout_ms": None,
    }


PREFIX_MS: Final = 300
"""Audio before an utterance that belongs to it, where the client does not say."""
