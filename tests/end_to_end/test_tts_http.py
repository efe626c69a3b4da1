"""Servers with OpenAI's speech endpoint behind the real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest

from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import opened
from tests.fakes.openai_speech import FakeSpeechServer, spoken

ONE, TWO, THREE = "Hello there my friend. ", "This is the second one. ", "Good bye then. "
FORMS = ("pcm", "wav", "sse", "sse-delta")


@dataclass
class Setup:
    server: Server
    fakes: dict[str, FakeSpeechServer]

    def __getitem__(self, name: str) -> FakeSpeechServer:
        return self.fakes[name]


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        fakes = {name: FakeSpeechServer(name) for name in FORMS}
        fakes["wav-22050"] = FakeSpeechServer("wav", 22050)
        fakes["mp3"] = FakeSpeechServer("mp3")
        lines = ["tts: {first_audio_timeout_s: 2, last_audio_timeout_s: 20, hole_timeout_s: 2}"]
        lines.append("providers:")
        for name, fake in fakes.items():
            stack.enter_context(fake)
            lines.append(f'  {name}: {{type: openai-compatible, base_url: "{fake.base_url}"}}')
        lines.append("models:")
        for name in fakes:
            lines.append(f"  test/{name}: [{{provider: {name}, model: m, options: {{voice: v}}}}]")
            lines.append(f"  both/{name}:")
            lines += [
                f"    - {{provider: {one}, model: m, options: {{voice: v}}}}"
                for one in (name, "pcm")
            ]
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), "\n".join(lines)))
        yield Setup(server, fakes)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    for fake in running_setup.fakes.values():
        fake.forget()
    return running_setup


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_answer_comes_out_as_plain_samples(setup: Setup, form: str) -> None:
    async with opened(setup.server, f"test/{form}", extra={"speed": 1.5}) as client:
        heard = await client.say(ONE, TWO, THREE)
    assert heard.types[-1] == "done"
    assert heard.audio == spoken(ONE) + spoken(TWO) + spoken(THREE)
    assert setup[form].received[0].body["speed"] == 1.5


async def test_the_rate_in_a_wav_header_is_believed(setup: Setup) -> None:
    async with opened(setup.server, "test/wav-22050") as client:
        heard = await client.say(ONE)
    samples = np.frombuffer(heard.audio, np.int16).astype(float)
    wanted = np.frombuffer(spoken(ONE), np.int16).astype(float)
    assert abs(len(samples) - len(wanted)) < 50
    shorter = min(len(samples), len(wanted))
    assert np.corrcoef(samples[:shorter], wanted[:shorter])[0, 1] > 0.98


async def test_the_next_sentence_is_asked_for_while_one_is_heard(setup: Setup) -> None:
    fake = setup["pcm"]
    fake.speed = 0.5
    try:
        async with opened(setup.server, "test/pcm") as client:
            await client.say(ONE, TWO)
    finally:
        fake.speed = 20.0
    first, second = fake.received
    assert first.ended_at is not None
    assert second.started_at < first.ended_at


async def test_a_break_in_the_second_sentence_repeats_that_alone(setup: Setup) -> None:
    setup["wav"].utterances("ok", "close:0.3")
    async with opened(setup.server, "both/wav") as client:
        heard = await client.say(ONE, TWO, THREE)
    assert heard.types[-1] == "done"
    assert heard.audio.startswith(spoken(ONE))
    assert heard.audio.endswith(spoken(TWO) + spoken(THREE))
    assert heard.audio.count(spoken(ONE)) == 1
    assert list(setup["pcm"].said) == [TWO.strip(), THREE.strip()]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_a_refusal_goes_to_the_next(setup: Setup, status: int) -> None:
    setup["sse"].script(*[f"status:{status}"] * 3)
    async with opened(setup.server, "both/sse") as client:
        heard = await client.say(ONE)
    assert heard.audio == spoken(ONE)


@pytest.mark.parametrize("scenario", ["empty", "slow:30"])
async def test_a_server_without_audio_is_left(setup: Setup, scenario: str) -> None:
    setup["sse-delta"].script(scenario)
    async with opened(setup.server, "both/sse-delta") as client:
        assert (await client.say(ONE)).audio == spoken(ONE)


async def test_a_form_that_is_no_samples_is_left(setup: Setup) -> None:
    async with opened(setup.server, "both/mp3") as client:
        assert (await client.say(ONE)).audio == spoken(ONE)


async def test_a_missing_voice_is_named(setup: Setup) -> None:
    async with opened(setup.server, "pcm/m") as client:
        heard = await client.say(ONE)
    assert heard.types[-1] == "error"
    assert heard.messages[-1]["message"] == "voice: missing"
    assert heard.messages[-1]["code"] == 502  # what a provider refuses is not its caller's fault
