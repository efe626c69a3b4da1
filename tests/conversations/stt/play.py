"""Plays both sides of a session without sockets or clocks: a caller, and recognisers by script."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.conversations.stt.actions import (
    Admit,
    Close,
    Drop,
    Heard,
    Linger,
    Meter,
    Open,
    Pause,
    Resume,
    Send,
    SendToClient,
)
from gateway.conversations.stt.protocol import Asked
from gateway.conversations.stt.session import SttSession
from gateway.conversations.stt.standby import Places
from gateway.routing.breaker import Breaker
from gateway.routing.hedging import HedgeBudget
from gateway.settings.stt import SttConfig
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    ClientLeft,
    ConnectionFailed,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
    FinalTranscript,
    InterimTranscript,
    RecognizerEvent,
    Request,
    Transcript,
    Word,
)

RATE = 16_000
FRAME_S = 0.05
ACME = Attempt("acme", "ear-1")
ZEUS = Attempt("zeus", "ear-2")
FAST = Capabilities(replay_rate=float("inf"))


def tone(seconds: float, amplitude: int = 8000) -> bytes:
    """Something loud enough to be speech."""
    count = round(seconds * RATE)
    return struct.pack(f"<{count}h", *(int(amplitude * math.sin(0.2 * i)) for i in range(count)))


def voice(seconds: float, pitch_hz: int = 120) -> bytes:
    """Periodic, and louder and quieter with syllables: what sounds like somebody who speaks."""
    count, period = round(seconds * RATE), RATE // pitch_hz
    shapes = [math.exp(-6.0 * i / period) for i in range(period)]
    return struct.pack(
        f"<{count}h",
        *(
            int(16000 * shapes[i % period] * (0.15 + 0.85 * math.sin(math.pi * 4 * i / RATE) ** 2))
            for i in range(count)
        ),
    )


TONE = tone(FRAME_S)
HUSH = bytes(len(TONE))


class Scripted:
    """A recogniser whose messages are the very things that are asked and heard."""

    def __init__(self, attempt: Attempt, traits: Capabilities, rate: int, lively: bool) -> None:
        self.attempt = attempt
        self.traits = traits
        self.rate = rate if not traits.rates or rate in traits.rates else traits.rates[0]
        self._lively = lively

    def dial(self) -> Dial:
        return Dial(f"wss://{self.attempt.provider}/{self.attempt.model}")

    def opening(self) -> Sequence[Any]:
        return ("hello",) if self.traits.sends_ready else ()

    def encode(self, request: Request) -> Sequence[Any]:
        return (request,)

    def decode(self, frame: Any) -> Sequence[RecognizerEvent]:
        return list(frame)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.CONNECTION_LOST, reason or "closed", upstream_status=code)

    def update(self, attempt: Attempt) -> Sequence[Any] | None:
        return ("changed",) if self._lively else None


class ScriptedUpstream:
    def __init__(self, traits: Capabilities, *, lively: bool = False) -> None:
        self.traits = traits
        self.lively = lively

    def check(self, options: Mapping[str, Any]) -> Failure | None:
        return None

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return dict(extra)

    def recognizer(self, attempt: Attempt, rate: int) -> Scripted:
        return Scripted(attempt, self.traits, rate, self.lively)


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.9)


def words(text: str, start: float, end: float) -> Transcript:
    """A transcript whose words are spread evenly."""
    parts = text.split()
    step = (end - start) / max(1, len(parts))
    return Transcript(
        text,
        start=start,
        end=end,
        words=tuple(
            word(part, start + i * step, start + (i + 1) * step) for i, part in enumerate(parts)
        ),
    )


def interim(text: str, start: float = 0.0, end: float = 1.0) -> InterimTranscript:
    return InterimTranscript(words(text, start, end))


def final(text: str, start: float = 0.0, end: float = 1.0) -> FinalTranscript:
    return FinalTranscript(words(text, start, end))


class Play:
    """A session between a caller and recognisers. Time goes on by what is played."""

    def __init__(
        self,
        plan: Plan = (ACME, ZEUS),
        traits: Capabilities | Mapping[str, Capabilities] = FAST,
        config: SttConfig | None = None,
        health: Breaker | None = None,
        lively: bool = False,
        ends_itself: bool = False,
        charged: bool = False,
        hedges: HedgeBudget | None = None,
        standby: Plan = (),
        places: Places | None = None,
        tells_words: bool = False,
        **create: Any,
    ) -> None:
        self.admits: list[Admit] = []
        self.meters = 0
        self.now = 100.0
        self.plan = plan
        self.health = health or Breaker()
        by_name = (
            traits
            if isinstance(traits, Mapping)
            else {attempt.provider: traits for attempt in (ACME, ZEUS)}
        )
        self.session = SttSession(
            config or SttConfig(),
            self.planned,
            {name: ScriptedUpstream(one, lively=lively) for name, one in by_name.items()},
            self.health,
            "stt_1",
            self.now,
            hedges=hedges,
            standbys=lambda asked: tuple(replace(one, language=asked.language) for one in standby),
            places=places,
            ends_itself=ends_itself,
            charged=charged,
            tells_words=tells_words,
        )
        self.words: list[Heard] = []
        self.told: list[dict[str, Any]] = []
        self.opened: list[Open] = []
        self.sent: dict[int, list[Any]] = {}
        self.dropped: list[int] = []
        self.paused = self.lingered = False
        self.ended: Close | None = None
        self.create = {"type": "session.create", "model": "acme/ear-1", "settings": {}, **create}

    def planned(self, asked: Asked) -> Plan | Failure:
        if asked.model == "unknown":
            return Failure(Kind.NOT_FOUND, "the model 'unknown' is not served here", "model")
        plan = self.plan
        if asked.model == "zeus/ear-2":
            plan = (ZEUS,)
        return tuple(replace(a, language=asked.language, options=dict(asked.extra)) for a in plan)

    # -- what happens

    def event(self, event: Any) -> None:
        for action in self.session.handle(event, self.now):
            match action:
                case SendToClient(text):
                    self.told.append(json.loads(text))
                case Open():
                    self.opened.append(action)
                    self.sent[action.number] = []
                case Send(number, frames):
                    assert number not in self.dropped, "sent on a connection that was let go"
                    self.sent[number] += frames
                case Drop(number):
                    self.dropped.append(number)
                case Heard():
                    self.words.append(action)
                case Admit():
                    self.admits.append(action)
                case Meter():
                    self.meters += 1
                case Linger():
                    self.lingered = True
                case Pause():
                    self.paused = True
                case Resume():
                    self.paused = False
                case Close():
                    self.ended = action

    def say(self, message: Any) -> None:
        self.event(Text(message if isinstance(message, str) else json.dumps(message)))

    def started(self) -> Play:
        """session.create, and the first recogniser is there."""
        self.say(self.create)
        self.accept()
        return self

    def accept(self, number: int | None = None) -> None:
        self.event(SocketOpened(number or self.opened[-1].number))

    def hear(self, *heard: RecognizerEvent, number: int | None = None) -> None:
        frame: Any = heard  # what a scripted recogniser decodes to itself
        self.event(SocketFrame(number or self.opened[-1].number, frame))

    def fail(self, kind: Kind = Kind.UNREACHABLE, number: int | None = None) -> None:
        self.event(ConnectionFailed(number or self.opened[-1].number, Failure(kind, "no")))

    def close_upstream(self, code: int = 1006, number: int | None = None) -> None:
        self.event(SocketClosed(number or self.opened[-1].number, code, ""))

    def leave(self) -> None:
        self.event(ClientLeft(1006))

    def audio(self, pcm: bytes) -> None:
        self.say({"type": "input_audio", "audio": base64.b64encode(pcm).decode()})

    def speak(self, seconds: float, pcm: bytes = TONE) -> None:
        """The caller is heard for so long."""
        for _ in range(round(seconds / FRAME_S)):
            self.wait(FRAME_S)
            self.audio(pcm)

    def talk(self, seconds: float) -> None:
        """The caller says words for so long."""
        pcm, size = voice(seconds), len(TONE)
        for at in range(0, len(pcm), size):
            self.wait(FRAME_S)
            self.audio(pcm[at : at + size])

    def hush(self, seconds: float) -> None:
        """Silence comes for so long."""
        self.speak(seconds, HUSH)

    def wait(self, seconds: float) -> None:
        """Time goes by; the session is woken when it wishes to be."""
        until = self.now + seconds
        for _ in range(10_000):
            deadline = self.session.deadline
            if deadline is None or deadline > until + 1e-9:
                break
            self.now = max(self.now, deadline)
            self.event(DEADLINE_PASSED)
        else:
            raise AssertionError("the session spins")
        self.now = until

    # -- what came of it

    @property
    def providers(self) -> list[str]:
        """Who was dialled, in order."""
        return [
            one.dial.url.removeprefix("wss://").split("/")[0]
            for one in self.opened
            if isinstance(one.dial, Dial)
        ]

    @property
    def number(self) -> int:
        return self.opened[-1].number

    def audio_s(self, number: int | None = None) -> float:
        """Seconds of audio sent on a connection."""
        return sum(
            len(one.pcm) / 2 / RATE
            for one in self.sent[number or self.number]
            if isinstance(one, Audio)
        )

    def asked(self, kind: type, number: int | None = None) -> int:
        """How often something was asked on a connection."""
        return sum(isinstance(one, kind) for one in self.sent[number or self.number])

    def types(self) -> list[str]:
        """Types of what the client was told."""
        return [one["type"] for one in self.told]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["type"] == kind]

    def finals(self) -> list[str]:
        return [one["transcript"] for one in self.of("final_transcript")]
