"""What happens to a /tts session, and what it wants done."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.upstreams.errors import Failure
from gateway.upstreams.events import Binary, ClientLeft, Text
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.tts import Clip, SpeechRequest, SynthesisEvent

# Events


@dataclass(frozen=True, slots=True)
class Spoke:
    """Something was heard of the synthesis with this number."""

    number: int
    heard: SynthesisEvent


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to LookUp; None: the cache has no such clip."""

    key: str
    clip: Clip | None


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The client reads again after a send had to wait for it. The session could hear nothing
    meanwhile, so this time says nothing about its provider."""


# Actions


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Send a message to the client; `audio_s` is the audio in it."""

    text: str
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Sounded:
    """What a SendToClient just before lets the caller hear: s16le samples of `rate`, no sooner than
    at `plays_at`, on the session's clock. `begins`: they are an utterance's first."""

    pcm: bytes
    rate: int
    plays_at: float
    begins: bool


@dataclass(frozen=True, slots=True)
class Prepare:
    """A synthesis like this is to be expected: have a connection open."""

    provider: str
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a synthesis; what is heard of it comes back with its number."""

    number: int
    provider: str
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class Say:
    """Give a text to a synthesis."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """No more text comes for a synthesis."""

    number: int


@dataclass(frozen=True, slots=True)
class CancelSynthesis:
    """Stop a synthesis. `suspect`: it was silent for too long, so its connection must not serve
    another one."""

    number: int
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class LookUp:
    """Look for a clip in the cache: Found answers with the same key."""

    key: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Put a clip into the cache."""

    key: str
    clip: Clip


@dataclass(frozen=True, slots=True)
class Close:
    """Close the client's connection."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """How one try at a deployment ended. `failure` is None if it ended well; `switched`: another
    attempt follows. A kept connection that was found dead and replaced counts as a try.

    `began`: on the session's clock; `first_audio_s`: from then to its first audio, None without.
    `hedge`: it was made beside another; `lost`: the other one spoke first; `left`: the client left
    while it ran. `chars` it was given to speak, `audio_s` were heard of it.
    """

    provider: str
    model: str
    failure: Failure | None = None
    switched: bool = False
    began: float = 0.0
    first_audio_s: float | None = None
    hedge: bool = False
    lost: bool = False
    left: bool = False
    attempt: Attempt | None = field(default=None, compare=False)
    chars: int = field(default=0, compare=False)
    audio_s: float = field(default=0.0, compare=False)

    @property
    def is_billed(self) -> bool:
        """Whether its provider asks for money: who failed without a sound does not."""
        return self.failure is None or self.audio_s > 0


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance has ended. `first_audio_s`: from its first text to its first audio; `audio_s`
    and `chars`: what was sent and asked."""

    provider: str | None
    first_audio_s: float | None
    audio_s: float
    chars: int


@dataclass(frozen=True, slots=True)
class Looked:
    """A text was looked up in the cache."""

    hit: bool


@dataclass(frozen=True, slots=True)
class Admit:
    """Ask what of a plan may be used for an utterance under the name `asked`. Admitted answers.
    `count`: it begins with this; `chars` of its text are known."""

    asked: str
    plan: Plan
    count: bool
    chars: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of the plan may be used, or why nothing."""

    plan: Plan | Failure


Action = (
    SendToClient
    | Sounded
    | Admit
    | Prepare
    | Begin
    | Say
    | Finish
    | CancelSynthesis
    | LookUp
    | Keep
    | Close
    | Tried
    | Spoken
    | Looked
)
Event = Text | Binary | ClientLeft | Unblocked | Spoke | Found | Admitted
