"""What a speech conversation asks of a provider, and what it hears back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What a provider is asked for: its own model and voice, and the rate it shall deliver.

    `options` are the client's `extra` with the deployment's own merged over them. What is None
    is the provider's default.
    """

    model: str
    voice: str | None
    language: str | None
    sample_rate: int
    options: Mapping[str, Any] = field(default_factory=dict)


# What is heard of one synthesis (one try at some sentences by one provider).


@dataclass(frozen=True, slots=True)
class Audio:
    """Raw s16le mono samples, at the asked rate; may be cut anywhere, also inside a sample.

    `encoded` is the base64 of just these bytes, if the provider sent that: what is passed on
    unchanged need not be encoded again.
    """

    pcm: bytes
    encoded: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rate:
    """The audio that follows has this rate, whatever was asked for (a WAV header said so)."""

    sample_rate: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A word (without the space after it) or a character, and its seconds on the provider's
    clock."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Words:
    """Timings of words. `spaced` is False where the words carry their own spaces already."""

    words: tuple[Timed, ...]
    spaced: bool = True


@dataclass(frozen=True, slots=True)
class Chars:
    """Timings of characters, spaces among them."""

    chars: tuple[Timed, ...]


class Restart:
    """From here on, times count from the audio that follows."""

    __slots__ = ()


class PartSpoken:
    """All audio of the next text that was said is out: one for each `say`, in order."""

    __slots__ = ()


class Finished:
    """All audio of the synthesis is out."""

    __slots__ = ()


class Released:
    """A cancelled synthesis is over at the provider; its place is free again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Retried:
    """A kept connection turned out to be dead before anything was heard; the same texts have gone
    to the same provider over a new one. `failure` is how the old one ended."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Failed:
    """The synthesis ends here, without what is missing."""

    failure: Failure


SynthesisEvent = (
    Audio | Rate | Words | Chars | Restart | PartSpoken | Finished | Released | Retried | Failed
)

Sink = Callable[[SynthesisEvent], Awaitable[object] | None]
"""Takes what is heard of one synthesis, at once. Returns None, or what to await before more is
read, for a source that serves this synthesis alone; it may be ignored."""


class LiveSynthesis(Protocol):
    """A synthesis under way at a provider. No call waits; what is heard goes to its sink, up to
    Finished or Failed."""

    def say(self, text: str) -> None:
        """Speak this text after those before."""

    def finish(self) -> None:
        """No more text comes."""

    def cancel(self, *, suspect: bool = False) -> None:
        """Stop, and let nothing more be heard. `suspect`: it was silent for too long, so its
        connection must not serve another synthesis."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A spoken text for the cache: s16le mono samples at the client's rate, and its words in
    seconds from the first sample."""

    pcm: bytes
    words: tuple[Timed, ...] = ()


@dataclass(frozen=True, slots=True)
class OptionsRead:
    """A client's options as one vendor takes them, and the names of those that are left out."""

    options: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


class OptionReader(Protocol):
    """What a vendor makes of a client's options."""

    def read(self, extra: Mapping[str, Any], asked: str) -> OptionsRead:
        """`extra` are options of the vendor `asked`: this one's own are checked, another's are
        translated as far as that goes."""


class CancelMode(Enum):
    """How a provider is made to stop a synthesis."""

    AT_ONCE = "a message; what still comes is known as late by its context"
    ACKNOWLEDGED = "a message; the socket may be used again after the answer"
    CLOSE = "only by closing the socket"


class Times(Enum):
    """Which clock a provider's timings are on."""

    ABSOLUTE = "seconds since the synthesis's first sample"
    RESTARTING = "may begin again at 0 at any message"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can and cannot do, as data.

    `rates`: sample rates it delivers by itself, Hz, ascending. `text_chars_max`: longest text in
    one message. `contexts`: syntheses one socket carries at a time (1 with CancelMode.CLOSE).
    `lines_max`: sockets an account may have. A socket is closed after `idle_s` without a
    synthesis and takes no new ones after `life_s`; one that is not `reusable` carries one
    synthesis. `expires_s`: silence after which we finish a context, because the provider would
    drop it. `look_ahead`: HTTP requests that may run ahead of the one being heard. `marks`: the
    provider reports the end of every text (PartSpoken). `waits_for_finish`: it may say nothing
    before it knows that no more text comes. `options`: how a client's options are read; None: they
    are taken as they are.
    """

    rates: tuple[int, ...]
    text_chars_max: int
    cancel: CancelMode = CancelMode.CLOSE
    times: Times = Times.ABSOLUTE
    contexts: int = 1
    lines_max: int = 1000
    idle_s: float = 240.0
    life_s: float = 3300.0
    reusable: bool = True
    expires_s: float | None = None
    look_ahead: int = 1
    marks: bool = False
    waits_for_finish: bool = False
    options: OptionReader | None = None

    def rate_for(self, wanted: int) -> int:
        """The rate to ask for: `wanted`, else the next higher one, else the highest."""
        return next((rate for rate in self.rates if rate >= wanted), self.rates[-1])


class Dialogue(Protocol):
    """The protocol on one socket: what to send, and what a frame means. Pure.

    `context` names a synthesis; where a protocol has no names, only one is open at a time.
    """

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str | bytes]:
        """Frames that open a synthesis."""

    def say(self, context: str, text: str) -> Sequence[str | bytes]:
        """Frames that add `text` to it."""

    def finish(self, context: str) -> Sequence[str | bytes]:
        """Frames that say that no more text comes; text was said before."""

    def cancel(self, context: str) -> Sequence[str | bytes]:
        """Frames that stop it."""

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        """What a frame means, and for which synthesis (None: every one on this socket)."""

    def closed(self, code: int, reason: str) -> Failure:
        """What it means that the provider closed the socket."""


@runtime_checkable
class SocketVoice(Protocol):
    """A provider that speaks over a WebSocket. Pure."""

    @property
    def traits(self) -> Capabilities: ...

    def dial(self, request: SpeechRequest) -> Dial:
        """The socket on which `request` can be served; requests with equal dials share one."""

    def dialogue(self) -> Dialogue:
        """The protocol of a new socket."""


class BodyReader(Protocol):
    """Reads one successful HTTP answer."""

    def head(self, headers: Mapping[str, str]) -> None:
        """The answer's headers, names in lower case."""

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        """The next bytes of the body."""

    def finish(self) -> Sequence[SynthesisEvent]:
        """The body has ended; Failed if it was not complete."""


@runtime_checkable
class RequestVoice(Protocol):
    """A provider that speaks one text for each HTTP request. Pure."""

    @property
    def traits(self) -> Capabilities: ...

    def dial(self, request: SpeechRequest, text: str) -> Dial:
        """The request that asks for `text`."""

    def reader(self, request: SpeechRequest) -> BodyReader:
        """A reader for one answer."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means. Header names are in lower case."""


@runtime_checkable
class KnowsVoices(Protocol):
    """A voice adapter that can tell which voices there are."""

    def has_voice(self, voice: str) -> bool: ...


@runtime_checkable
class ProcessVoice(Protocol):
    """A voice that runs beside the gateway, in a process of its own (see
    runtime/voice_worker.py)."""

    @property
    def traits(self) -> Capabilities: ...

    def command(self) -> Sequence[str]:
        """The program and its arguments."""

    def check(self) -> str | None:
        """None if it can run here, else what is missing and how to get it."""


TtsUpstream = SocketVoice | RequestVoice | ProcessVoice
