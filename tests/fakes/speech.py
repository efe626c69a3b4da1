"""What the fake recognisers share: a WebSocket that hears tones, and ways to fail.

A scenario is scripted for each connection (`fake.script("drop:1.5")`), several joined by "+":

    status:401        the handshake is refused
    mute              never greets, whatever is sent
    drop:1.5          the connection is reset once so much audio has come
    close:1.5:1011:x  it is closed with this code and reason
    stall:1.5         nothing is said any more
    deaf              nothing is recognised, though the protocol goes on
    no-read:1.5       nothing is read any more
    garbage:1.5       nonsense is sent, then it goes on
    error:1.5         the provider's own message of a fault (each fake knows what that is)
    no-final          utterances are never ended
    no-flush          a flush is not answered
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from tests.fakes.base import Exchange, FakeServer, Handler, reset
from tests.fakes.tones import Ear, HeardWord

KEY = "key-of-the-fake"
SILENCE_S = 0.3  # ends an utterance


class _ResetError(Exception):
    """The fake has cut the connection."""


class Hearing(Protocol):
    """What a fake knows words with: `tones.Ear`, or another."""

    words: list[HeardWord]
    time: float
    quiet_s: float
    rate: int
    """Samples per second of what it is fed."""

    def feed(self, pcm: bytes) -> list[HeardWord]: ...

    def settle(self) -> list[HeardWord]: ...


class Connection:
    """One client of a fake recogniser. Subclasses say the provider's words."""

    rate = 16_000

    def __init__(self, fake: SpeechFake, request: web.Request, exchange: Exchange) -> None:
        self.fake = fake
        self.request = request
        self.exchange = exchange
        self.socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 24)
        self.faults: dict[str, str] = {}
        for one in filter(None, exchange.scenario.split("+")):
            name, _, rest = one.partition(":")
            self.faults[name] = rest
        self.ear = fake.ear(self.rate)
        self.utterance: list[HeardWord] = []
        self.speaking = False
        self.stalled = False
        self.said_at: list[float] = []
        """Of each message in `exchange.said`, by `time.monotonic()`."""
        self._told_at = 0.0  # seconds of audio at the last hypothesis
        self._news = False  # words since then

    # -- for subclasses

    async def opened(self) -> None:
        """The handshake is done."""

    async def text(self, message: str) -> None:
        """A text message."""

    async def binary(self, data: bytes) -> None:
        """A binary message: audio, unless the provider does it otherwise."""
        await self.audio(data)

    async def speech_started(self, at: float) -> None:
        """Somebody has begun to speak."""

    async def hypothesis(self, words: list[HeardWord]) -> None:
        """The open utterance has another word."""

    async def utterance_over(self, words: list[HeardWord]) -> None:
        """The open utterance has ended in silence."""

    async def fault(self) -> None:
        """The provider's own message of a fault of its own."""
        await self.close(1011, "internal")

    # -- for them to call

    async def audio(self, pcm: bytes) -> None:
        """Audio has come."""
        ended = [] if "deaf" in self.faults else self.ear.feed(pcm)
        if "deaf" in self.faults:
            self.ear.time += len(pcm) / 2 / self.rate
        for word in ended:
            if not self.speaking:
                self.speaking = True
                await self.speech_started(word.start)
            self.utterance.append(word)
            self._news = True
        if self._news and self.ear.time - self._told_at >= self.fake.interim_every_s:
            self._told_at, self._news = self.ear.time, False
            await self.hypothesis(self.utterance)
        if self.utterance and self.ear.quiet_s >= SILENCE_S and "no-final" not in self.faults:
            await self.end_utterance()
        await self.misbehave()

    async def end_utterance(self) -> None:
        for word in self.ear.settle():
            self.utterance.append(word)
        words, self.utterance, self.speaking = self.utterance, [], False
        self._news = False
        await self.utterance_over(words)

    def due(self, fault: str) -> bool:
        after = self.faults.get(fault)
        return after is not None and self.ear.time >= float(after.partition(":")[0] or 0)

    async def misbehave(self) -> None:
        if self.due("stall"):
            self.stalled = True
        if self.due("drop"):
            reset(self.request)
            raise _ResetError
        if self.due("close"):
            _, code, reason = (self.faults.pop("close") + "::").split(":")[:3]
            await self.close(int(code or 1011), reason)
        if self.due("garbage"):
            del self.faults["garbage"]
            await self.socket.send_str("{ nonsense")
            await self.socket.send_str('["a", {"b": null}]')
            await self.socket.send_str('{"type": 7, "channel": [], "words": "none"}')
            await self.socket.send_bytes(b"\x00\xff\xfe")
        if self.due("error"):
            del self.faults["error"]
            await self.fault()
        if self.due("no-read"):
            await asyncio.Event().wait()

    async def say(self, message: dict[str, Any]) -> None:
        if self.stalled or "mute" in self.faults:
            return
        text = json.dumps(message)
        self.exchange.said.append(text)
        self.said_at.append(time.monotonic())
        await self.socket.send_str(text)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.socket.close(code=code, message=reason.encode())

    async def run(self) -> web.WebSocketResponse:
        await self.socket.prepare(self.request)
        await self.opened()
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    self.exchange.heard.append(message.data)
                    await self.text(message.data)
                elif message.type is WSMsgType.BINARY:
                    self.exchange.heard.append(message.data)
                    await self.binary(message.data)
        except (_ResetError, ConnectionError):
            return self.socket  # by either side
        if not self.socket.closed:
            await self.close()
        return self.socket


class SpeechFake(FakeServer):
    """A fake recogniser; `connections` are all that were accepted."""

    paths: Sequence[str] = ()
    interim_every_s = 0.0
    """Seconds of audio from one hypothesis to the next, at least."""
    connection: type[Connection] = Connection

    def __init__(self, default: str = "", ear: Callable[[int], Hearing] = Ear) -> None:
        super().__init__()
        self.default = default
        self.ear = ear
        self.connections: list[Connection] = []

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", path, self._handle) for path in self.paths]

    def refusal(self, request: web.Request) -> web.Response | None:
        """What is wrong with the handshake, if anything."""
        raise NotImplementedError

    def refused(self, status: int) -> web.Response:
        """How a handshake is refused."""
        return web.json_response({"error": "refused"}, status=status)

    def make(self, request: web.Request, exchange: Exchange) -> Connection:
        return self.connection(self, request, exchange)

    async def _handle(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        scripted = self.next_scripted()
        exchange.scenario = self.default if scripted is None else scripted
        if exchange.scenario.startswith("status:"):
            return self.refused(int(exchange.scenario.split(":")[1]))
        refusal = self.refusal(request)
        if refusal is not None:
            return refusal
        connection = self.make(request, exchange)
        self.connections.append(connection)
        return await connection.run()

    def words_heard(self) -> list[str]:
        """What all connections heard, in order."""
        return [word.text for one in self.connections for word in one.ear.words]
