"""Parts of a session on their own, for tests of one of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.conversations.stt.actions import Action
from gateway.conversations.stt.client_state import ClientState
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.context import Context
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.conversations.stt.report import Report
from gateway.conversations.stt.stall_detector import StallDetector
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.conversations.timers import Timers
from gateway.routing.breaker import Breaker
from gateway.routing.failover import Failover, RetryPolicy
from gateway.settings.stt import SttConfig
from gateway.upstreams.plan import Plan
from gateway.upstreams.stt import Audio, Capabilities
from tests.conversations.stt.play import ACME, FAST, RATE, ZEUS, Scripted


def connection(traits: Capabilities = FAST, number: int = 1) -> RecognizerConnection:
    """Made at time 0; it is not ready."""
    return RecognizerConnection(number, ACME, Scripted(ACME, traits, RATE, False), RATE, 0.0)


def ready(traits: Capabilities = FAST, number: int = 1) -> RecognizerConnection:
    """Made and ready at time 0."""
    made = connection(traits, number)
    made.became_ready(0.0)
    return made


def buffered(*parts: bytes, seconds_max: float = 30.0) -> ReplayBuffer:
    buffer = ReplayBuffer(RATE, seconds_max)
    for part in parts:
        buffer.add(part)
    return buffer


def seconds(frames: list[object]) -> float:
    """Of the audio in messages to a provider."""
    return sum(len(one.pcm) / 2 / RATE for one in frames if isinstance(one, Audio))


@dataclass
class Parts:
    """All that the states of a session share, at time 0."""

    buffer: ReplayBuffer = field(default_factory=buffered)
    plan: Plan = (ACME, ZEUS)
    config: SttConfig = field(default_factory=SttConfig)
    ends_itself: bool = False

    def __post_init__(self) -> None:
        self.out: list[Action] = []
        self.report = Report()
        self.client = ClientState("stt_1", self.report, self.out, 0.0, ends_itself=self.ends_itself)
        self.transcripts = TranscriptAssembler(self.buffer, "stt_1")
        self.stalls = StallDetector(self.config, self.buffer, self.transcripts)
        self.breaker = Breaker()
        policy = RetryPolicy(rounds=2, rounds_alone=2, ask_others_always=True)
        self.context = Context(
            config=self.config,
            client=self.client,
            failover=Failover(self.plan, policy, self.breaker, 0.0),
            buffer=self.buffer,
            transcripts=self.transcripts,
            stalls=self.stalls,
            timers=Timers(),
            out=self.out,
            timeout_s=5.0,
        )
