"""Whole calls on a clock of their own, with no sockets: a caller, the session, a vendor's adapter,
and the fake of that vendor itself, which knows every word by its tone. Messages take time,
processes stand still now and then, and providers fail as in tests/load. A call takes 15 ms.

    call = Call(NOVA, Random(seed), words)
    call.run()
    assert call.heard == words, call.story()
"""

from __future__ import annotations

import base64
import heapq
import json
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from multidict import CIMultiDict

from gateway.conversations.stt.actions import Action, Close, Drop, Linger, Open, Send, SendToClient
from gateway.conversations.stt.session import SttSession
from gateway.routing.breaker import Breaker
from gateway.routing.hedging import HedgeBudget
from gateway.settings.stt import SttConfig
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, kind_of_status
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    ConnectionFailed,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, find
from tests.fakes import (
    assemblyai_stt,
    cartesia_stt,
    deepgram_stt,
    elevenlabs_stt,
    google_stt,
    inworld_stt,
    openai_stt,
    speechmatics_stt,
    xai_stt,
)
from tests.fakes.base import Exchange
from tests.fakes.speech import Connection, SpeechFake, _ResetError
from tests.fakes.tones import hush, spoken

RATE: Final = 16_000
FRAME_S: Final = 0.05
CALL_S_MAX: Final = 150.0

FAULTS: Final = (
    "drop:{at}", "close:{at}:1011:internal", "close:{at}:1000", "stall:{at}", "error:{at}",
    "garbage:{at}", "no-read:{at}", "status:503", "status:429",
)  # fmt: skip
"""Of connections to the provider that fails: those of tests/load, and one more."""


@dataclass(frozen=True)
class Vendor:
    """`kind`, `model`: its type and model in a configuration. `connection`: of its fake."""

    kind: str
    model: str
    connection: type[Connection]

    def attempt(self, provider: str) -> Attempt:
        return Attempt(provider, self.model, language="en")

    def account(self, provider: str) -> Account:
        settings = find(self.kind).settings(type=self.kind)
        return Account(provider, self.kind, f"http://{provider}", "key", settings=settings)


NOVA = Vendor("deepgram", "nova-3", deepgram_stt.Nova)
VENDORS: Final = {
    "nova": NOVA,
    "flux": Vendor("deepgram", "flux-general-en", deepgram_stt.Flux),
    "ink": Vendor("cartesia", "ink-2", cartesia_stt.Turns),
    "ink-whisper": Vendor("cartesia", "ink-whisper", cartesia_stt.Manual),
    "u3": Vendor("assemblyai", "u3-rt-pro", assemblyai_stt.Streaming),
    "universal": Vendor("assemblyai", "universal-streaming", assemblyai_stt.Streaming),
    "speechmatics": Vendor("speechmatics", "enhanced", speechmatics_stt.RealTime),
    "linden": Vendor("speechmatics", "linden", speechmatics_stt.Agent),
    "scribe": Vendor("elevenlabs", "scribe_v2_realtime", elevenlabs_stt.Scribe),
    "xai": Vendor("xai", "stt-1", xai_stt.Streaming),
    "inworld": Vendor("inworld", "inworld/inworld-stt-1", inworld_stt.Streaming),
    "gemini": Vendor("google", "gemini-live", google_stt.Live),
    "openai": Vendor("openai", "gpt-4o-transcribe", openai_stt.Realtime),
}

FLAKY, SOUND = "flaky", "sound"


class _StuckError(Exception):
    """The fake reads no further."""


class _Socket:
    """In place of the fake's WebSocket."""

    def __init__(self) -> None:
        self.said: Said = []
        self.closed = False

    async def send_str(self, text: str) -> None:
        if not self.closed:
            self.said.append(text)

    async def send_bytes(self, data: bytes) -> None:
        if not self.closed:
            self.said.append(data)

    async def close(self, code: int, message: bytes) -> None:
        if not self.closed:
            self.said.append((code, message.decode()))
        self.closed = True


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Nothing in it waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("a fake without a socket waits for something")


Said = list[str | bytes | tuple[int, str]]
"""Messages of a provider; a close is its code and reason, a cut connection 1006."""


class Provider:
    """One connection, as the provider sees it. What it says to a message is returned."""

    def __init__(self, vendor: Vendor, dial: Dial, scenario: str) -> None:
        url = urlsplit(dial.url)
        query = dict(parse_qsl(url.query))
        request: Any = SimpleNamespace(
            query=query, headers=CIMultiDict(dial.headers), path=url.path, transport=None
        )
        exchange = Exchange("GET", url.path, query, request.headers, scenario)
        self._socket = _Socket()
        self._fake = vendor.connection(SpeechFake(), request, exchange)
        self._fake.socket = self._socket  # type: ignore[assignment]
        self._misbehave = self._fake.misbehave
        self._fake.misbehave = self._fault  # type: ignore[method-assign]
        # neither of these two keeps time here
        if isinstance(self._fake, deepgram_stt.Nova):
            self._fake._reset_idle = lambda: None  # type: ignore[method-assign]
        if isinstance(self._fake, assemblyai_stt.Streaming):
            self._fake._started_at = -1e9
        self._ended = self._stuck = False

    async def _fault(self) -> None:
        if self._fake.due("no-read"):
            raise _StuckError
        await self._misbehave()

    def opened(self) -> Said:
        return self._told(self._fake.opened())

    def takes(self, frame: str | bytes) -> Said:
        if self._ended or self._stuck:
            return []
        fake = self._fake
        return self._told(fake.text(frame) if isinstance(frame, str) else fake.binary(frame))

    def _told(self, work: Coroutine[Any, Any, None]) -> Said:
        try:
            _run(work)
        except _StuckError:
            self._stuck = True
        except _ResetError:
            self._socket.said.append((1006, ""))
            self._ended = True
        said, self._socket.said = self._socket.said, []
        self._ended = self._ended or self._socket.closed
        return said


class Call:
    """One call. `share`: of connections to the provider that is asked first, so many fail."""

    def __init__(
        self,
        vendor: Vendor,
        chance: Random,
        words: Sequence[str],
        *,
        share: float = 0.6,
        faults: Iterable[str] | None = None,
        slow: float = 0.2,
        pause_s: float = 0.8,
        breaker: Breaker | None = None,
        says: Iterable[tuple[float, dict[str, Any]]] = (),
    ) -> None:
        """`faults`: of the connections to it in order, in place of those by chance. `slow`: how
        much longer than usual messages take, and how often processes stand still. `says`:
        further messages of the caller's, each after so many seconds."""
        cut = len(words) // 2
        self._pcm = (
            hush(0.3) + spoken(words[:cut]) + hush(pause_s) + spoken(words[cut:]) + hush(1.0)
        )
        self._chance = chance
        self._share, self._slow = share, slow
        self._says = tuple(says)
        self._faults = None if faults is None else deque(faults)
        self.now = 1000.0
        self._began = self.now
        self._wait: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._vendor = vendor
        offer = find(vendor.kind).stt
        assert offer is not None
        plan = (vendor.attempt(FLAKY), vendor.attempt(SOUND))
        config = SttConfig(local_last=False)
        self._session = SttSession(
            config,
            lambda asked: tuple(
                replace(one, language=asked.language or one.language, options=asked.extra)
                for one in plan
            ),
            {name: offer.adapter(vendor.account(name)) for name in (FLAKY, SOUND)},
            breaker or Breaker(),
            "stt_1",
            self.now,
            hedges=HedgeBudget(config.hedge.share_max, 5.0),
        )
        self._inbox: deque[Any] = deque()
        self._busy_until = 0.0
        self._rest: list[Action] = []
        self._providers: dict[int, Provider] = {}
        self._dropped: set[int] = set()
        self._arrives: dict[tuple[int, str], float] = {}
        self.told: list[dict[str, Any]] = []
        self.ended: Close | None = None
        self._story: list[tuple[float, str]] = []

    # -- what comes of it

    @property
    def heard(self) -> list[str]:
        text = " ".join(one["transcript"] for one in self.told if one["type"] == "final_transcript")
        return text.lower().replace(".", "").split()

    def story(self) -> str:
        """What happened, a line each, with the seconds since the call began."""
        return "\n".join(f"{at - self._began:8.3f} {what}" for at, what in self._story)

    def _note(self, what: str) -> None:
        self._story.append((self.now, what))

    # -- time

    def run(self) -> None:
        self._play()
        while self._wait and self.ended is None:
            at, _, what = heapq.heappop(self._wait)
            self.now = max(self.now, at)
            assert self.now < self._began + CALL_S_MAX, self.story()
            what()

    def _at(self, at: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._wait, (at, self._count, what))

    def _takes(self, way: tuple[int, str]) -> float:
        """When a message that is sent now arrives: after those before it."""
        delay_s = 0.002 + self._chance.expovariate(1 / (0.002 + 0.01 * self._slow))
        if self._chance.random() < 0.02 * self._slow:
            # a caller who is not heard for a second in the middle of a word has ended it
            delay_s += self._chance.uniform(0.1, 0.4 if way[0] == 0 else 1.5)
        self._arrives[way] = max(self._arrives.get(way, 0.0), self.now + delay_s)
        return self._arrives[way]

    # -- the caller

    def _play(self) -> None:
        self._at(self.now, lambda: self._say({"type": "session.create", "model": "m"}))
        for after_s, message in self._says:
            self._at(self._began + after_s, partial(self._say, message))
        size = 2 * round(RATE * FRAME_S)
        at = self.now
        for i in range(0, len(self._pcm), size):
            at = max(at, self._began + (i / size) * FRAME_S)
            if self._chance.random() < 0.01 * self._slow:
                at += self._chance.uniform(0.1, 0.4)
            audio = base64.b64encode(self._pcm[i : i + size]).decode()
            self._at(at, partial(self._say, {"type": "input_audio", "audio": audio}))
        at = max(at, self._began + len(self._pcm) / 2 / RATE)
        self._at(at, lambda: self._say({"type": "session.finalize"}))
        self._at(at, lambda: self._say({"type": "session.close"}))

    def _say(self, message: dict[str, Any]) -> None:
        if message["type"] != "input_audio":
            self._note(f"client: {message['type']}")
        event = Text(json.dumps(message))
        self._at(self._takes((0, "up")), partial(self._event, event))

    # -- the gateway

    def _event(self, event: Any) -> None:
        self._inbox.append(event)
        self._look()

    def _look(self) -> None:
        """Handle what waits, unless the process stands still or lingers; deadlines first."""
        while self.ended is None:
            if self.now < self._busy_until:
                self._at(self._busy_until, self._look)
                return
            if self._rest:
                actions, self._rest = self._rest, []
            else:
                deadline = self._session.deadline
                if deadline is not None and deadline <= self.now:
                    event = DEADLINE_PASSED
                elif self._inbox:
                    event = self._inbox.popleft()
                else:
                    if deadline is not None:
                        self._at(deadline, self._look)
                    return
                if self._chance.random() < 0.002 * self._slow:
                    self._busy_until = self.now + self._chance.uniform(0.05, 1.0)
                actions = self._session.handle(event, self.now)
            self._perform(actions)

    def _perform(self, actions: Sequence[Action]) -> None:
        for i, action in enumerate(actions):
            match action:
                case Linger(seconds):
                    self._busy_until = max(self._busy_until, self.now + seconds)
                    self._rest = list(actions[i + 1 :])
                    return
                case SendToClient(text):
                    self.told.append(json.loads(text))
                    self._note(f"told: {_short(self.told[-1])}")
                case Open(number, dial):
                    assert isinstance(dial, Dial)
                    self._open(number, dial)
                case Send(number, frames):
                    for frame in frames:
                        if isinstance(frame, str) and len(frame) < 200:
                            self._note(f"to {number}: {frame}")
                        self._at(
                            self._takes((number, "up")),
                            partial(self._provider_takes, number, frame),
                        )
                case Drop(number):
                    self._note(f"drop {number}")
                    self._dropped.add(number)
                case Close():
                    self.ended = action
                    self._note(f"end: {action}")

    # -- the providers

    def _open(self, number: int, dial: Dial) -> None:
        flaky = dial.url.startswith(f"ws://{FLAKY}")
        scenario = ""
        if flaky and self._faults is not None:
            scenario = self._faults.popleft() if self._faults else ""
        elif flaky and self._chance.random() < self._share:
            at = f"{self._chance.uniform(0.2, 3.0):.2f}"
            scenario = self._chance.choice(FAULTS).format(at=at)
        self._note(f"open {number}: {'flaky' if flaky else 'sound'} {scenario}")
        took_s = self._chance.uniform(0.005, 0.05)
        if self._chance.random() < 0.1 * self._slow:
            took_s += self._chance.uniform(0.1, 3.0)
        event: Any = SocketOpened(number)
        if scenario.startswith("status:"):
            status = int(scenario.split(":")[1])
            event = ConnectionFailed(
                number, Failure(kind_of_status(status), "refused", upstream_status=status)
            )
        else:
            self._providers[number] = Provider(self._vendor, dial, scenario)
        self._arrives[number, "down"] = self.now + took_s
        self._at(self.now + took_s, lambda: self._opened(number, event))

    def _opened(self, number: int, event: Any) -> None:
        self._from_provider(number, event)
        if number in self._providers:
            self._provider_says(number, self._providers[number].opened())

    def _provider_takes(self, number: int, frame: str | bytes) -> None:
        if number not in self._dropped:
            self._provider_says(number, self._providers[number].takes(frame))

    def _provider_says(self, number: int, messages: Said) -> None:
        for said in messages:
            event: Any
            if isinstance(said, tuple):
                event = SocketClosed(number, *said)
            else:
                event = SocketFrame(number, said)
            self._at(self._takes((number, "down")), partial(self._from_provider, number, event))

    def _from_provider(self, number: int, event: Any) -> None:
        if number in self._dropped:
            return
        if isinstance(event, SocketFrame):
            self._note(f"from {number}: {_short_frame(event.data)}")
        else:
            self._note(f"from {number}: {event}")
        self._event(event)


def _short(message: dict[str, Any]) -> str:
    return f"{message['type']} {message.get('transcript', '')}".strip()


def _short_frame(data: str | bytes) -> str:
    """Its kind, its text, and its times."""
    try:
        message = json.loads(data)
        text = message["channel"]["alternatives"][0]["transcript"]
        kind = "final" if message["is_final"] else "interim"
        return f"{kind} {text!r} {message['start']} + {message['duration']}"
    except (ValueError, KeyError, TypeError, IndexError):
        return str(data)[:160]
