"""What happens to a /tts session, and what it wants done."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.upstreams.errors import Failure
from gateway.upstreams.events import Binary, ClientLeft, Text
from gateway.upstreams.tts import SpeechRequest, SynthesisEvent


@dataclass(frozen=True, slots=True)
class Spoke:
    """Something was heard of the speech with this number."""

    number: int
    heard: SynthesisEvent


class Stalled:
    """The client does not read what it is sent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Send a message to the client; `audio_s` is the audio in it."""

    text: str
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Prepare:
    """A speech like this is to be expected: have a connection open."""

    provider: str
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class Begin:
    """Open a speech; what is heard of it comes back with its number."""

    number: int
    provider: str
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class Say:
    """Give a text to a speech."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """No more text comes for a speech."""

    number: int


@dataclass(frozen=True, slots=True)
class CancelSynthesis:
    """Stop a speech."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the client's connection."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """How a try at a provider ended; `failure` is None if well, `switched` if another followed."""

    provider: str
    failure: Failure | None
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance has ended, with `first_audio_s` from its first text to its first audio."""

    provider: str | None
    first_audio_s: float | None
    audio_s: float
    chars: int
    speeches: int


@dataclass(frozen=True, slots=True)
class Looked:
    """A text was looked up in the cache."""

    hit: bool


Action = (
    SendToClient
    | Prepare
    | Begin
    | Say
    | Finish
    | CancelSynthesis
    | Close
    | Tried
    | Spoken
    | Looked
)
Event = Text | Binary | ClientLeft | Stalled | Spoke
