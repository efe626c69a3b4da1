"""What a speech-to-text conversation asks of a provider, and what it hears back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt

# -- asked


class Audio(NamedTuple):
    """s16le mono samples at the recogniser's rate."""

    pcm: bytes


class Flush:
    """Give finals for what was said so far; the connection stays."""


class KeepAlive:
    """Nothing is to be said, but the connection is to stay."""


class Finish:
    """Give finals for what was said so far, and end."""


Request = Audio | Flush | KeepAlive | Finish
FLUSH, KEEP_ALIVE, FINISH = Flush(), KeepAlive(), Finish()


# -- heard. Times are seconds of the connection: 0 is its first sample.


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    text: str
    start: float
    end: float
    confidence: float = 1.0
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. `start` and `end` are None where the provider does not tell; `end` of a final
    is how far the audio is done with, which may be behind the last word."""

    text: str
    start: float | None = None
    end: float | None = None
    language: str | None = None
    confidence: float = 1.0
    words: tuple[Word, ...] = ()
    speaker: str | None = None
    request_id: str | None = None
    extra: Mapping[str, Any] | None = None


class Ready:
    """The provider has accepted the settings; audio may be sent."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak, at `at` if the provider says when."""

    at: float | None = None


@dataclass(frozen=True, slots=True)
class InterimTranscript:
    """What the open utterance is taken for so far; it may change."""

    transcript: Transcript


@dataclass(frozen=True, slots=True)
class EagerEndOfTurn:
    """The utterance is probably over, with this text."""

    transcript: Transcript


class TurnResumed:
    """An `Eager` was wrong: the utterance goes on."""


@dataclass(frozen=True, slots=True)
class FinalTranscript:
    """What will not change any more. With empty text it says that nothing was said."""

    transcript: Transcript


class Flushed:
    """All that a `Flush` brings has come. One that nobody asked for does no harm. Where the vendor
    has no message for it, `SocketRecognizer.flushed` makes it after the final."""


class Ended:
    """After `Finish`: nothing more will come. Only for a vendor that says so in a message; where it
    just closes (1000, 1001, 1005), that close is the end. Before `Finish` the connection is taken
    for lost."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """The provider will end this connection in so many seconds."""

    in_s: float


class NotUpdated:
    """The provider refused a change of settings: a new connection is needed for it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider reports a failure; the connection is of no more use. The close that follows is
    not looked at: `closed` need not remember the failure."""

    failure: Failure


RecognizerEvent = (
    Ready
    | SpeechStarted
    | InterimTranscript
    | EagerEndOfTurn
    | TurnResumed
    | FinalTranscript
    | Flushed
    | Ended
    | Expiring
    | NotUpdated
    | Failed
)


# -- the adapter


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider needs and can do: data that the session acts on."""

    rates: tuple[int, ...] = ()
    """Sample rates taken; empty: any. Others are resampled to the first."""
    frame_s_min: float = 0.0
    """Shorter pieces of audio are merged, and padded with silence at a flush."""
    frame_s_max: float = 1.0
    """Longer pieces are split."""
    sends_ready: bool = False
    """Whether `Ready` comes, before which no audio may be sent."""
    ready_s: float = 5.0
    """How long that may take."""
    replay_rate: float = 1.0
    """Audio is sent at most so many times faster than real time."""
    keepalive_s: float | None = None
    """A line on which nothing was sent for so long is kept alive."""
    keepalive_by: Literal["message", "silence"] = "message"
    first_audio: bool = False
    """Whether a keepalive counts only after some audio was sent; then silence goes first."""
    needs_audio_to_end_turn: bool = False
    """Whether an utterance ends only while audio comes in; silence is sent when there is none."""
    flush_by: Literal["message", "silence"] = "message"
    flush_is_answered: bool = False
    """Whether `Flushed` always comes, also where nothing was said; then it is waited for, up to
    `final_within_s`. If in doubt, False."""
    final_within_s: float = 3.0
    """A final that has not come so long after the last speech is overdue."""
    deaf_after_s: float = 12.0
    """So much speech without a word of text means that the provider is deaf."""
    heartbeat_s: float | None = None
    """Something is heard at least every so many seconds of audio, even of silence."""
    session_s: float | None = None
    """The longest life of a connection; a new one takes over before."""


class Recognizer(Protocol):
    """One connection to a recogniser: translates, and does nothing else. Pure, but it may count
    what it sent. `attempt` and the client's sample rate are given when it is made."""

    traits: Capabilities
    rate: int
    """Sample rate of the audio that it wants."""

    def dial(self) -> Dial | LocalTarget:
        """Where the connection leads."""

    def opening(self) -> Sequence[Any]:
        """The first messages."""

    def encode(self, request: Request) -> Sequence[Any]:
        """The messages for `request`."""

    def decode(self, frame: Any) -> Sequence[RecognizerEvent]:
        """What a message means. Never raises, whatever the provider sent."""

    def closed(self, code: int, reason: str) -> Failure:
        """What it means that the provider closed the connection without being asked: not called
        after `Failed`, nor for a normal close after `Finish`."""

    def update(self, attempt: Attempt) -> Sequence[Any] | None:
        """The messages that change the settings to those of `attempt`; None where only a new
        connection will do."""


TERMS: Final = (
    "keyterm",
    "keyterms_prompt",
    "additional_vocab",
    "keywords",
    "custom_vocabulary",
    "keyterms",
)
"""What vendors call key terms: the client gives them under its main model's name alone."""

SPEAKERS: Final = ("diarize", "speaker_labels", "diarization")
"""What vendors call telling speakers apart."""


class SttUpstream(Protocol):
    """A provider's speech-to-text adapter, one for each configured provider. Pure."""

    def check(self, options: Mapping[str, Any]) -> Failure | None:
        """What is wrong with a client's options, if anything."""

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """`extra`, with what stands under another vendor's names of TERMS and SPEAKERS also
        under its own, where it has such an option and the client did not give it."""

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        """A recogniser for audio that comes in at `rate`."""


@dataclass(frozen=True, slots=True)
class EndpointingConfig:
    """How a voice detector cuts audio into utterances. Seconds."""

    silence_s: float = 0.45
    """Quiet for so long ends an utterance."""
    interim_s: float | None = 1.0
    """An open utterance is transcribed anew with so much more audio; None: never."""
    threshold: float = 0.5
    """Probability from which something is speech."""
    early_s: float | None = None
    """A pause of so long has the utterance transcribed as if it had ended: if it has, its final is
    there sooner. Each pause inside an utterance then costs a transcription; None: never."""


class HttpTranscriber(Protocol):
    """A server that turns a recording into text. Pure, but it may learn what the server takes."""

    def request(self, pcm: bytes, prompt: str) -> Dial:
        """The request for s16le samples at 16 kHz; `prompt` is what was said before."""

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> Transcript | Failure | None:
        """What an answer means; None: ask once more, with a new request."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A Whisper model on this machine: a folder, or a hub's name for one. A `compute_type` of None
    is what suits the device; `auto` is a GPU where that works."""

    name: str
    path: str
    device: str = "cpu"
    compute_type: str | None = None
    threads: int = 2
    workers: int = 1


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """In place of a `Dial`: something that hears whole utterances, cut by us (see `utterances`).

    Its frames are the `Request`s and tuples of the event themselves.
    """

    transcriber: HttpTranscriber | LocalModel
    cutting: EndpointingConfig = field(default_factory=EndpointingConfig)
    language: str | None = None
    prompt: str = ""
    refused: Failure | None = None
    """Why it cannot be used, if it cannot."""
