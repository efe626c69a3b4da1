"""Synthesis over HTTP, with answers that are values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import pytest

from gateway.runtime.loop import Inbox
from gateway.runtime.voice_requests import ERROR_BODY_BYTES_MAX, PIECES_MAX, RequestSynthesis
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import BodyChunk, BodyEnd, ConnectionFailed, ResponseHead
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Failed,
    Finished,
    PartSpoken,
    SpeechRequest,
    SynthesisEvent,
)

REQUEST = SpeechRequest("m", "ann", None, 24000)
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")
OK = ResponseHead(0, 200, {})


class Reader:
    def head(self, headers: Mapping[str, str]) -> None: ...

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        return (Failed(BROKEN),) if data == b"bad" else (Audio(data),)

    def finish(self) -> Sequence[SynthesisEvent]:
        return ()


class Voice:
    traits = Capabilities(rates=(24000,), text_chars_max=400, look_ahead=1, marks=True)

    def dial(self, request: SpeechRequest, text: str) -> Dial:
        return Dial(f"https://voice/{text}")

    def reader(self, request: SpeechRequest) -> Reader:
        return Reader()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return Failure(Kind.UPSTREAM_ERROR, body.decode()[:9], upstream_status=status)


class Connector:
    """Each request waits for its answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, asyncio.Queue[Any]] = {}
        self.taken = 0
        self.cancelled: list[str] = []

    def answer(self, text: str, *events: Any) -> None:
        queue = self.answers.setdefault(text, asyncio.Queue())
        for event in events:
            queue.put_nowait(event)

    async def request(
        self, dial: Dial, attempt: int, inbox: Inbox[Any], connect_timeout_s: float
    ) -> None:
        text = dial.url.rpartition("/")[2]
        self.asked.append(text)
        queue = self.answers.setdefault(text, asyncio.Queue())
        try:
            while True:
                event = await queue.get()
                await inbox.put(event)
                self.taken += 1
                if isinstance(event, (BodyEnd, ConnectionFailed)):
                    return
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise


class Ear:
    def __init__(self) -> None:
        self.heard: list[SynthesisEvent] = []
        self.full: Awaitable[object] | None = None
        self.end = asyncio.Event()

    def __call__(self, heard: SynthesisEvent) -> Awaitable[object] | None:
        self.heard.append(heard)
        if isinstance(heard, (Finished, Failed)):
            self.end.set()
        return self.full


class Setup:
    def __init__(self) -> None:
        self.connector, self.ear = Connector(), Ear()
        self.synthesis = RequestSynthesis(
            self.connector,  # type: ignore[arg-type]
            1.0,
            Voice(),
            REQUEST,
            self.ear,
        )

    async def end(self) -> list[SynthesisEvent]:
        await asyncio.wait_for(self.ear.end.wait(), 60)
        await asyncio.wait_for(self.synthesis._task, 60)
        return self.ear.heard


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_texts_are_heard_in_order_and_each_end_is_told(setup: Setup) -> None:
    for text in ("one", "two"):
        setup.synthesis.say(text)
    setup.synthesis.finish()
    setup.connector.answer("two", OK, BodyChunk(0, b"22"), BodyEnd(0))
    setup.connector.answer("one", OK, BodyChunk(0, b"11"), BodyEnd(0))
    kinds = [heard.pcm if isinstance(heard, Audio) else type(heard) for heard in await setup.end()]
    assert kinds == [b"11", PartSpoken, b"22", PartSpoken, Finished]


async def test_no_more_than_one_request_runs_ahead(setup: Setup) -> None:
    for text in ("one", "two", "three"):
        setup.synthesis.say(text)
    setup.synthesis.finish()
    setup.connector.answer("one", OK)
    await asyncio.sleep(0)
    assert setup.connector.asked == ["one", "two"]
    for text in ("one", "two", "three"):
        setup.connector.answer(text, OK, BodyChunk(0, b"11"), BodyEnd(0))
    await setup.end()
    assert setup.connector.asked == ["one", "two", "three"]


async def test_a_body_is_read_no_further_while_its_listener_has_enough(setup: Setup) -> None:
    room = asyncio.get_running_loop().create_future()
    setup.ear.full = room
    setup.synthesis.say("one")
    setup.synthesis.finish()
    chunks = [BodyChunk(0, b"11")] * (4 * PIECES_MAX)
    setup.connector.answer("one", OK, *chunks, BodyEnd(0))
    while setup.connector.taken <= PIECES_MAX:
        await asyncio.sleep(0)
    assert setup.ear.heard == [Audio(b"11")]
    assert setup.connector.taken < 2 * PIECES_MAX
    room.set_result(None)
    assert len(await setup.end()) == len(chunks) + 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((ResponseHead(0, 500, {}), BodyChunk(0, b"no"), BodyEnd(0)), Kind.UPSTREAM_ERROR),
        (
            (ResponseHead(0, 500, {}), BodyChunk(0, bytes(ERROR_BODY_BYTES_MAX + 1))),
            Kind.UPSTREAM_ERROR,
        ),
        ((ResponseHead(0, 302, {}), BodyEnd(0)), Kind.PROTOCOL_ERROR),
        ((OK, BodyEnd(0)), Kind.PROTOCOL_ERROR),
        ((OK, BodyChunk(0, b"bad")), Kind.CONNECTION_LOST),
        ((OK, ConnectionFailed(0, BROKEN)), Kind.CONNECTION_LOST),
    ],
)
async def test_what_goes_wrong_ends_the_synthesis_and_the_requests_ahead(
    setup: Setup, answer: Sequence[Any], kind: Kind
) -> None:
    for text in ("one", "two"):
        setup.synthesis.say(text)
    await asyncio.sleep(0)
    setup.connector.answer("one", *answer)
    (failed,) = await setup.end()
    assert isinstance(failed, Failed)
    assert failed.failure.kind is kind
    assert "two" in setup.connector.cancelled


async def test_a_cancelled_synthesis_is_heard_no_more_and_its_requests_are_cut(
    setup: Setup,
) -> None:
    setup.synthesis.say("one")
    await asyncio.sleep(0)
    setup.synthesis.cancel()
    await asyncio.gather(setup.synthesis._task, return_exceptions=True)
    assert setup.connector.cancelled == ["one"]
    assert setup.ear.heard == []


async def test_one_that_is_cancelled_as_soon_as_it_is_begun_leaves_no_request_behind(
    setup: Setup,
) -> None:
    setup.connector.answer("one", OK, *[BodyChunk(0, b"11")] * (4 * PIECES_MAX), BodyEnd(0))
    setup.synthesis.say("one")
    running = [task for _, task in setup.synthesis._running]
    setup.synthesis.cancel()  # its own task has not even begun
    await asyncio.gather(setup.synthesis._task, return_exceptions=True)
    await asyncio.sleep(0)
    assert [task.done() for task in running] == [True]
    assert setup.connector.asked == []
