"""The real server, fake providers, and a client that sees every message."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import opened, token
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.voices import render

ONE, TWO, THREE = "Hello there my friend. ", "This is the second one. ", "Good bye then. "
LONG = ONE * 20  # some twenty seconds at the pace of speech: longer than any test waits


@dataclass
class Setup:
    server: Server
    first: FakeCartesia
    second: FakeCartesia

    def forget(self) -> None:
        self.first.forget()
        self.second.forget()


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(FakeCartesia()) for _ in range(2))
        config = f"""
log: {{format: console}}
tts:
  first_audio_timeout_s: 2
  last_audio_timeout_s: 20
  hole_timeout_s: 2
  blocked_timeout_s: 0.5
providers:
  cartesia: {{base_url: "{first.url}", api_key: key-1}}
  second: {{type: cartesia, base_url: "{second.url}", api_key: key-2}}
models:
  test/first: [{{provider: cartesia, model: sonic-3}}]
  test/both:
    - {{provider: cartesia, model: sonic-3}}
    - {{provider: second, model: sonic-3}}
"""
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), config))
        yield Setup(server, first, second)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    running_setup.forget()
    return running_setup


async def test_an_utterance_comes_as_the_provider_spoke_it(setup: Setup) -> None:
    async with opened(setup.server, "test/first", voice="v") as client:
        heard = await client.say(ONE, TWO)
    assert heard.types[-1] == "done"
    assert heard.audio == render(ONE) + render(TWO)
    assert [w["word"] for w in heard.words] == [f"{word} " for word in (ONE + TWO).split()]
    assert all("session_id" in message for message in heard.messages)
    sizes = [len(base64.b64decode(m["audio"])) for m in heard.messages if "audio" in m]
    assert max(sizes) <= 4800


async def test_many_utterances_share_one_upstream_socket(setup: Setup) -> None:
    async with opened(setup.server, "test/first") as client:
        for _ in range(5):
            assert (await client.say(ONE)).audio == render(ONE)
        assert (await client.say()).types == ["done"]
    assert sum(bool(e.heard) for e in setup.first.received) <= 1


async def test_a_socket_is_open_upstream_before_the_first_text(setup: Setup) -> None:
    async with opened(setup.server, "test/first", voice="warm"):
        assert setup.first.wait_until(lambda: True)


@pytest.mark.parametrize(
    "scenario", ["reset", "close", "error", "error-without-context", "garbage", "silent", "hole"]
)
async def test_what_fails_before_audio_costs_no_text(setup: Setup, scenario: str) -> None:
    setup.first.utterances(scenario)
    async with opened(setup.server, "test/both") as client:
        heard = await client.say(ONE, TWO)
    assert heard.types[-1] == "done"
    assert heard.audio == render(ONE) + render(TWO)


@pytest.mark.parametrize("scenario", ["reset", "close", "error", "garbage", "hole"])
async def test_what_fails_in_the_middle_repeats_the_cut_sentence_alone(
    setup: Setup, scenario: str
) -> None:
    one_s = len(render(ONE)) / 2 / 24000
    setup.first.utterances(f"{scenario}:{one_s + 0.4}")
    async with opened(setup.server, "test/both") as client:
        heard = await client.say(ONE, TWO, THREE)
    assert heard.types[-1] == "done"
    assert heard.audio.startswith(render(ONE))
    assert heard.audio.count(render(ONE)) == 1
    assert heard.audio.endswith(render(TWO) + render(THREE))
    starts = [w["start"] for w in heard.words]
    assert starts == sorted(starts)
    end_s = len(heard.audio) / 2 / 24000
    assert heard.words[-1]["end"] == pytest.approx(end_s - 0.25, abs=0.01)


@pytest.mark.parametrize("status", [401, 402, 429, 500])
async def test_a_refused_handshake_goes_to_the_next(setup: Setup, status: int) -> None:
    setup.first.script(*[f"status:{status}"] * 4)
    async with opened(setup.server, "test/both", voice=f"other-{status}") as client:
        heard = await client.say(ONE)
    assert heard.audio == render(ONE)


async def test_a_close_cancels_the_provider_at_once_and_keeps_its_socket(setup: Setup) -> None:
    setup.first.speed = 1.0
    try:
        async with opened(setup.server, "test/first") as client:
            await client.send({"type": "input_transcript", "transcript": LONG})
            while (await client.receive())["type"] != "output_audio":
                pass
    finally:
        setup.first.speed = 20.0
    async with opened(setup.server, "test/first") as client:
        assert (await client.say(TWO)).audio == render(TWO)
    assert setup.first.cancelled
    assert not setup.first.speaking, "still speaking to nobody while the next was served"
    assert setup.first.spoken_s < len(render(LONG)) / 2 / 24000 / 2
    assert len(setup.first.received) <= 1, "both were spoken over one socket"


async def test_a_client_that_stops_reading_has_its_provider_cancelled(setup: Setup) -> None:
    async with opened(setup.server, "test/first") as client:
        transport = client.socket.transport
        transport.pause_reading()
        for _ in range(5):
            await client.send({"type": "input_transcript", "transcript": ONE * 800})
        assert await asyncio.to_thread(setup.first.wait_until, lambda: setup.first.cancelled)
        transport.abort()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"\0\1", "binary"),
        ("{", "JSON"),
        (json.dumps({"type": "input_transcript", "transcript": "x" * 900_000}), "20000"),
        (json.dumps({"type": "session.create", "model": "nobody/x"}), "nobody/x"),
    ],
)
async def test_bad_input_is_answered_and_ended(
    setup: Setup, message: str | bytes, expected: str
) -> None:
    async with opened(setup.server, "test/first") as client:
        await client.socket.send(message)
        error = await client.receive()
        assert error["type"] == "error"
        assert expected in error["message"]
        with pytest.raises(ConnectionClosed):
            await client.receive()


async def test_the_door_is_shut_without_a_token(setup: Setup) -> None:
    url = setup.server.url.replace("http", "ws", 1)
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{url}/tts")
    assert refused.value.response.status_code == 401
    headers = {"Authorization": f"Bearer {token(setup.server)}"}
    async with connect(f"{url}/tts", additional_headers=headers):
        pass


async def test_metrics_tell_what_was_spoken(setup: Setup) -> None:
    before = setup.server.metric("parley_audio_seconds_total", route="tts", direction="out")
    async with opened(setup.server, "test/first") as client:
        heard = await client.say(ONE)
    after = setup.server.metric("parley_audio_seconds_total", route="tts", direction="out")
    assert after - before == pytest.approx(len(heard.audio) / 2 / 24000, abs=0.01)
