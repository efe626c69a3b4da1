"""The pool of upstream sockets, over sockets that are values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.runtime.voice_pool import ConnectionPool
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketFrame
from gateway.upstreams.tts import (
    Audio,
    CancelMode,
    Capabilities,
    Failed,
    Finished,
    Released,
    SpeechRequest,
    SynthesisEvent,
)

TRAITS = Capabilities(rates=(24000,), text_chars_max=400, cancel=CancelMode.AT_ONCE)
REQUEST = SpeechRequest("m", "ann", None, 24000)
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")


class Socket:
    """What was sent, and a way to let the provider speak."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.closed = False
        self._inbox: Any = None
        self._over = asyncio.Event()

    async def send(self, frame: str | bytes) -> None:
        self.sent.append(frame)

    async def listen(self, attempt: int, inbox: Any) -> None:
        self._inbox = inbox
        await self._over.wait()

    async def close(self) -> None:
        self.closed = True

    def say(self, frame: str) -> None:
        self._inbox.post(SocketFrame(0, frame))

    def break_off(self) -> None:
        self._inbox.post(ConnectionFailed(0, BROKEN))


class Connector:
    """Opens sockets, or does not."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.dials: list[Dial] = []
        self.failure: Failure | None = None

    async def websocket(self, dial: Dial, open_timeout_s: float) -> Socket | Failure:
        self.dials.append(dial)
        if self.failure is not None:
            return self.failure
        self.sockets.append(Socket())
        return self.sockets[-1]


class Voice:
    """A protocol of words: `name:what`."""

    def __init__(self, traits: Capabilities = TRAITS) -> None:
        self.traits = traits

    def dial(self, request: SpeechRequest) -> Dial:
        return Dial(f"wss://voice/{request.voice}")

    def dialogue(self) -> Voice:
        return self

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        return (f"{context}:begin",)

    def say(self, context: str, text: str) -> Sequence[str]:
        return (f"{context}:{text}",)

    def finish(self, context: str) -> Sequence[str]:
        return (f"{context}:finish",)

    def cancel(self, context: str) -> Sequence[str]:
        return (f"{context}:cancel",)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        context, _, what = str(frame).partition(":")
        heard: SynthesisEvent = {
            "done": Finished(),
            "released": Released(),
            "failed": Failed(BROKEN),
        }.get(what) or Audio(what.encode())
        return ((context or None, heard),)

    def closed(self, code: int, reason: str) -> Failure:
        return BROKEN


class Ear:
    def __init__(self) -> None:
        self.heard: list[SynthesisEvent] = []

    def __call__(self, heard: SynthesisEvent) -> None:
        self.heard.append(heard)

    @property
    def audio(self) -> bytes:
        return b"".join(h.pcm for h in self.heard if isinstance(h, Audio))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., tuple[ConnectionPool, Connector]]]:
    made: list[ConnectionPool] = []

    def lines(spare_max: int = 4) -> tuple[ConnectionPool, Connector]:
        connector = Connector()
        made.append(ConnectionPool(connector, 1.0, spare_max))  # type: ignore[arg-type]
        return made[-1], connector

    yield lines
    for one in made:
        await one.close()


Make = Callable[..., tuple[ConnectionPool, Connector]]


async def test_what_is_said_before_the_socket_is_open_is_sent_in_order(make: Make):
    lines, connector = make()
    speech = lines.begin("acme", Voice(), REQUEST, Ear())
    speech.say("one")
    speech.finish()
    await settle()
    name = speech.context
    assert connector.sockets[0].sent == [f"{name}:begin", f"{name}:one", f"{name}:finish"]


async def test_a_reserved_line_is_open_before_it_is_needed_and_then_used(make: Make):
    lines, connector = make()
    lines.reserve("acme", Voice(), REQUEST)
    await settle()
    assert len(connector.sockets) == 1
    lines.begin("acme", Voice(), REQUEST, Ear())
    await settle()
    assert len(connector.sockets) == 1


async def test_as_many_lines_are_kept_ready_as_sessions_wait_within_the_bound(make: Make):
    lines, connector = make(spare_max=2)
    for _ in range(5):
        lines.reserve("acme", Voice(), REQUEST)
    await settle()
    assert len(connector.sockets) == 2


async def test_a_line_serves_one_speech_after_the_other(make: Make):
    lines, connector = make()
    for _ in range(3):
        ear = Ear()
        speech = lines.begin("acme", Voice(), REQUEST, ear)
        await settle()
        connector.sockets[0].say(f"{speech.context}:pcm")
        connector.sockets[0].say(f"{speech.context}:done")
        assert ear.audio == b"pcm"
    assert len(connector.sockets) == 1


async def test_what_the_url_fixes_has_a_line_of_its_own(make: Make):
    lines, connector = make()
    lines.begin("acme", Voice(), REQUEST, Ear())
    lines.begin("acme", Voice(), replace(REQUEST, voice="bob"), Ear())
    await settle()
    assert [dial.url for dial in connector.dials] == ["wss://voice/ann", "wss://voice/bob"]


async def test_speeches_at_the_same_time_share_a_line_only_when_they_must(make: Make):
    lines, connector = make()
    voice = Voice(replace(TRAITS, contexts=2, lines_max=2))
    ears = [Ear() for _ in range(5)]
    speeches = [lines.begin("acme", voice, REQUEST, ear) for ear in ears]
    await settle()
    assert len(connector.sockets) == 2
    assert isinstance(ears[4].heard[0], Failed)
    for i in range(4):
        connector.sockets[i % 2].say(f"{speeches[i].context}:{i}")
    assert [ear.audio for ear in ears[:4]] == [b"0", b"1", b"2", b"3"]


async def test_a_cancelled_speech_is_told_at_once_and_its_late_words_are_dropped(make: Make):
    lines, connector = make()
    ear = Ear()
    speech = lines.begin("acme", Voice(), REQUEST, ear)
    await settle()
    speech.cancel()
    await settle()
    assert connector.sockets[0].sent[-1] == f"{speech.context}:cancel"
    connector.sockets[0].say(f"{speech.context}:late")
    assert ear.heard == []
    lines.begin("acme", Voice(), REQUEST, Ear())
    await settle()
    assert len(connector.sockets) == 1


async def test_a_line_without_names_is_used_again_only_once_the_cancellation_is_confirmed(
    make: Make,
):
    lines, connector = make()
    voice = Voice(replace(TRAITS, cancel=CancelMode.ACKNOWLEDGED))
    first = lines.begin("acme", voice, REQUEST, Ear())
    await settle()
    first.cancel()
    lines.begin("acme", voice, REQUEST, Ear())
    await settle()
    assert len(connector.sockets) == 2
    connector.sockets[0].say(":late")
    connector.sockets[0].say(":released")
    third = Ear()
    lines.begin("acme", voice, REQUEST, third)
    await settle()
    assert len(connector.sockets) == 2
    connector.sockets[0].say(":mine")
    assert third.audio == b"mine"


async def test_where_nothing_else_stops_a_speech_its_socket_is_closed(make: Make):
    lines, connector = make()
    speech = lines.begin("acme", Voice(replace(TRAITS, cancel=CancelMode.CLOSE)), REQUEST, Ear())
    await settle()
    speech.cancel()
    await settle()
    assert connector.sockets[0].closed
    assert lines.open_lines == 0


async def test_a_socket_for_one_speech_is_closed_after_it(make: Make):
    lines, connector = make()
    voice = Voice(replace(TRAITS, reusable=False))
    speech = lines.begin("acme", voice, REQUEST, Ear())
    await settle()
    connector.sockets[0].say(f"{speech.context}:done")
    await settle()
    assert connector.sockets[0].closed
    lines.begin("acme", voice, REQUEST, Ear())
    await settle()
    assert len(connector.sockets) == 2


async def test_a_socket_that_died_unnoticed_costs_the_speech_nothing(make: Make):
    lines, connector = make()
    first = lines.begin("acme", Voice(), REQUEST, Ear())
    await settle()
    connector.sockets[0].say(f"{first.context}:done")
    ear = Ear()
    second = lines.begin("acme", Voice(), REQUEST, ear)
    second.say("one")
    await settle()
    connector.sockets[0].break_off()
    await settle()
    assert ear.heard == []
    assert connector.sockets[1].sent == [f"{second.context}:begin", f"{second.context}:one"]


async def test_a_socket_that_breaks_in_the_middle_fails_its_speeches(make: Make):
    lines, connector = make()
    ear = Ear()
    speech = lines.begin("acme", Voice(), REQUEST, ear)
    await settle()
    connector.sockets[0].say(f"{speech.context}:pcm")
    connector.sockets[0].break_off()
    assert ear.heard == [Audio(b"pcm"), Failed(BROKEN)]
    assert lines.open_lines == 0


async def test_a_failure_without_a_name_is_everybodys_on_that_socket(make: Make):
    lines, connector = make()
    voice = Voice(replace(TRAITS, contexts=2, lines_max=1))
    ears = [Ear(), Ear()]
    for ear in ears:
        lines.begin("acme", voice, REQUEST, ear)
    await settle()
    connector.sockets[0].say(":failed")
    assert [ear.heard for ear in ears] == [[Failed(BROKEN)], [Failed(BROKEN)]]


async def test_a_provider_that_is_not_there_fails_the_speech_and_is_not_dialled_ahead(make: Make):
    lines, connector = make()
    connector.failure = Failure(Kind.UNREACHABLE, "not there")
    ear = Ear()
    lines.begin("acme", Voice(), REQUEST, ear)
    await settle()
    assert ear.heard == [Failed(connector.failure)]
    lines.reserve("acme", Voice(), REQUEST)
    await settle()
    assert len(connector.dials) == 1


async def test_a_path_that_is_not_there_is_told_as_what_it_is(make: Make):
    lines, connector = make()
    connector.failure = Failure(Kind.UPSTREAM_NOT_FOUND, "refused with 404")
    ear = Ear()
    lines.begin("acme", Voice(), REQUEST, ear)
    await settle()
    (failed,) = ear.heard
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.UPSTREAM_NOT_FOUND


async def test_an_idle_line_of_another_voice_makes_room(make: Make):
    lines, connector = make()
    voice = Voice(replace(TRAITS, lines_max=1))
    first = lines.begin("acme", voice, REQUEST, Ear())
    await settle()
    connector.sockets[0].say(f"{first.context}:done")
    lines.begin("acme", voice, replace(REQUEST, voice="bob"), Ear())
    await settle()
    assert connector.sockets[0].closed
    assert len(connector.sockets) == 2
