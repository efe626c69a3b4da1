"""What passes between a cascade and its parts: the recogniser, the models of turn and interruption,
the chat model and the voice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# -- what the parts say


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a part failed, in the words of its own error: `code` is a `Kind`'s value where the
    gateway told one, `type` is OpenAI's."""

    message: str
    code: str = "upstream_error"
    type: str = "server_error"


class Speech(NamedTuple):
    """The voice detector's word on the audio that ends at `until_ms` of the input: 0 to 1."""

    until_ms: float
    probability: float


class Interrupts(NamedTuple):
    """Whether the caller means to take the floor; None: nobody could tell."""

    number: int
    means_it: bool | None


class TurnEnds(NamedTuple):
    """Whether the caller's turn is over; None: nobody could tell."""

    number: int
    over: bool | None


@dataclass(frozen=True, slots=True)
class Heard:
    """Words that the recogniser will not change, between two moments of the input."""

    text: str
    start_ms: float
    end_ms: float


class Guessed(NamedTuple):
    """Words up to this moment of the input are known, and may still change."""

    until_ms: float


class Finalized(NamedTuple):
    """All words of the audio up to a `Finalize` have been told; one answer for each, in order."""


@dataclass(frozen=True, slots=True)
class HearingFailed:
    trouble: Trouble


class ModelSaid(NamedTuple):
    """A chunk of the chat model's answer, in OpenAI's form."""

    number: int
    chunk: Mapping[str, Any]


class ModelDone(NamedTuple):
    number: int


@dataclass(frozen=True, slots=True)
class ModelFailed:
    number: int
    trouble: Trouble


class Spoke(NamedTuple):
    """Audio of the voice: base64 of s16le at the rate that was asked for."""

    number: int
    audio: str


@dataclass(frozen=True, slots=True)
class SpokeWords:
    """Where words (or characters) stand in what was spoken: text, start and end in seconds."""

    number: int
    words: tuple[tuple[str, float, float], ...]


class VoiceDone(NamedTuple):
    number: int


@dataclass(frozen=True, slots=True)
class VoiceFailed:
    number: int
    trouble: Trouble


Part = (
    Speech
    | Interrupts
    | TurnEnds
    | Heard
    | Guessed
    | Finalized
    | HearingFailed
    | ModelSaid
    | ModelDone
    | ModelFailed
    | Spoke
    | SpokeWords
    | VoiceDone
    | VoiceFailed
)

# -- what the parts are told


class Tell(NamedTuple):
    """Send the client an event."""

    text: str


@dataclass(frozen=True, slots=True)
class Listen:
    """How the parts are needed from now on. `speech`: whether the voice detector hears the input;
    `language` is the recogniser's; `voice_rate`: Hz at which the voice will speak, None: not."""

    speech: bool
    language: str | None
    voice_rate: int | None


class Hear(NamedTuple):
    """Input audio, s16le; of one session always at one rate, unless its format is changed."""

    pcm: bytes
    rate: int


class Finalize(NamedTuple):
    """The recogniser is to tell all words of what it has heard."""


class AskInterruption(NamedTuple):
    """Whether the audio from `since_ms` of the input on is an interruption."""

    number: int
    since_ms: float


class AskTurn(NamedTuple):
    """Whether the turn that began at `since_ms` of the input is over."""

    number: int
    since_ms: float


class AskModel(NamedTuple):
    """Have the chat model answer `body`, the request of /chat/completions without its model."""

    number: int
    body: dict[str, Any]


class StopModel(NamedTuple):
    number: int


class Say(NamedTuple):
    """Speak a clause of utterance `number`, with s16le at `rate`. A `voice` of None is the
    cascade's own."""

    number: int
    text: str
    rate: int
    voice: str | None


class SaidAll(NamedTuple):
    """The utterance has no more text."""

    number: int


class StopSaying(NamedTuple):
    number: int


class Close(NamedTuple):
    """End the session."""

    code: int
    reason: str = ""


Order = (
    Tell
    | Listen
    | Hear
    | Finalize
    | AskInterruption
    | AskTurn
    | AskModel
    | StopModel
    | Say
    | SaidAll
    | StopSaying
    | Close
)
