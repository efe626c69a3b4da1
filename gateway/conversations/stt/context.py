"""What the states of one session's recogniser share. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.conversations.stt.actions import Action, Heard
from gateway.conversations.stt.client_state import ClientState
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.conversations.stt.stall_detector import StallDetector
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.conversations.timers import Timers
from gateway.routing.failover import Failover
from gateway.settings.stt import SttConfig
from gateway.telemetry.agreement import count_words

Act = Callable[[float], None]
"""What a timer does; it is given the time."""


@dataclass(frozen=True, slots=True)
class Context:
    """`out`: the actions that the event which is being handled leads to. `timeout_s`: for opening
    a connection. `tells_words`: somebody wants to know of words that were heard."""

    config: SttConfig
    client: ClientState
    failover: Failover
    buffer: ReplayBuffer
    transcripts: TranscriptAssembler
    stalls: StallDetector
    timers: Timers[Act]
    out: list[Action]
    timeout_s: float
    tells_words: bool = False

    @property
    def nothing_said(self) -> bool:
        """Whether no words are lost if the session ends now."""
        return self.buffer.speech() is None and not self.transcripts.is_open

    def take_actions(self) -> list[Action]:
        """What is to be done so far."""
        taken = self.out.copy()
        self.out.clear()
        return taken

    def settle(self) -> None:
        """No final comes: the last interim of an open utterance is passed on as one."""
        self.client.tell(self.transcripts.settle())

    def tell_words(self) -> None:
        """That the caller has said what the client was told last."""
        said = self.transcripts.told
        if self.tells_words and said is not None:
            words = len(said.words) or count_words(said.text)
            began = self.client.audio_at - self.buffer.end_s  # as if nothing had been held back
            self.out.append(Heard(words, began + said.start, began + said.end))

    def close_well(self, _: float = 0.0) -> None:
        """The client has all that it will get."""
        self.settle()
        self.client.close_well()

    def slow_down(self, connection: RecognizerConnection | None) -> None:
        """Hold back a client that is ahead of what this connection was sent."""
        cursor = 0 if connection is None else connection.cursor
        self.client.slow_down(self.buffer.seconds_from(cursor) / self.config.replay_s)

    def closing_s(self, connection: RecognizerConnection | None) -> float:
        """How long the last finals are awaited: audio that is unsent has to go out first."""
        close_s = self.config.close_s
        if connection is None:
            return close_s + self.buffer.seconds
        traits = connection.traits
        if traits.flush_is_answered:
            close_s = max(close_s, traits.final_within_s)
        return close_s + connection.behind_s(self.buffer) / traits.replay_rate
