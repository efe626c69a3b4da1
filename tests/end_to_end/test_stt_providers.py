"""Every recogniser's fake behind the real server: words, and a failure in mid-sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.end_to_end.server import Server, running
from tests.end_to_end.stt_caller import converse, words
from tests.fakes.assemblyai_stt import FakeAssemblyAI
from tests.fakes.cartesia_stt import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.elevenlabs_stt import FakeElevenLabs
from tests.fakes.google_stt import FakeGoogleLive
from tests.fakes.inworld_stt import FakeInworld
from tests.fakes.openai_stt import FakeOpenAIRealtime
from tests.fakes.speech import KEY, SpeechFake
from tests.fakes.speechmatics_stt import FakeSpeechmatics
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.fakes.xai_stt import FakeXai
from tests.services import wait_until

FIRST, SECOND = VOCABULARY[:7], VOCABULARY[7:12]
RECORDING = hush(0.3) + spoken(FIRST) + hush(0.8) + spoken(SECOND) + hush(1.0)

FAKES: dict[str, tuple[type[SpeechFake], str, list[str]]] = {
    "deepgram": (FakeDeepgram, "", ["nova-3", "nova-2", "flux-general-en"]),
    "assemblyai": (FakeAssemblyAI, "", ["universal-streaming-english", "u3-rt-pro"]),
    "cartesia": (FakeCartesia, "", ["ink-2", "ink-whisper"]),
    "elevenlabs": (FakeElevenLabs, "", ["scribe_v2_realtime"]),
    "speechmatics": (FakeSpeechmatics, "", ["enhanced", "linden-1"]),
    "xai": (FakeXai, "/v1", ["stt-1"]),
    "openai": (FakeOpenAIRealtime, "/v1", ["gpt-live-transcribe"]),
    "inworld": (FakeInworld, "", ["inworld/inworld-stt-1"]),
    "google": (FakeGoogleLive, "", ["gemini-3.5-transcribe-live"]),
}
SCENARIOS = {
    "well": "",
    "drop": "drop:1.2",
    "fault": "error:1.2",
    "stall": "stall:1.0",
    "garbage": "garbage:0.5",
}

Heard = dict[tuple[str, str], list[dict[str, Any]]]


@pytest.fixture(scope="module", params=FAKES)
def name(request: pytest.FixtureRequest) -> str:
    """A provider. What follows is made for each of them anew."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def server(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For each scenario an account of its own; behind each a good Deepgram."""
    lines = ["log: {format: console}", "stt: {stall_s: 4, overdue_s: 4}", "providers:"]
    models = ["models:"]
    kind, path, served = FAKES[name]
    with ExitStack() as stack:
        good = stack.enter_context(FakeDeepgram())
        lines.append(f"  good: {{type: deepgram, base_url: '{good.url}', api_key: {KEY}}}")
        for scenario, faults in SCENARIOS.items():
            fake = stack.enter_context(kind(faults))
            lines.append(
                f"  at-{scenario}: {{type: {name}, base_url: '{fake.url}{path}', api_key: {KEY}}}"
            )
            for model in served:
                models += [
                    f"  test/{model.split('/')[-1]}-{scenario}:",
                    f"    - {{provider: at-{scenario}, model: {model}}}",
                    "    - {provider: good, model: nova-3}",
                ]
        with running(tmp_path_factory.mktemp("stt"), "\n".join(lines + models) + "\n") as started:
            yield started


@pytest.fixture(scope="module")
def heard(name: str, server: Server) -> Heard:
    """Every conversation with this provider, all at once."""
    settings = {"language": "en"}
    asked = [(model, scenario) for model in FAKES[name][2] for scenario in SCENARIOS]

    async def all_at_once() -> Heard:
        told = await asyncio.gather(
            *(
                converse(
                    server,
                    RECORDING,
                    model=f"test/{model.split('/')[-1]}-{scenario}",
                    settings=settings,
                )
                for model, scenario in asked
            )
        )
        return dict(zip(asked, told, strict=True))

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_word_is_lost_or_doubled(heard: Heard, name: str, scenario: str) -> None:
    for model in FAKES[name][2]:
        told = heard[model, scenario]

        assert [one for one in told if one["type"] == "error"] == [], model
        assert words(told) == [*FIRST, *SECOND], model
        assert [one["type"] for one in told[-2:]] == ["session.closed", "close"], model
        assert told[-1]["code"] == 1000, model


def test_nothing_is_left_open_when_callers_have_gone(heard: Heard, server: Server) -> None:
    assert heard
    wait_until(lambda: server.metric("parley_open_sessions", route="stt") == 0)

    assert server.metric("parley_fallbacks_total", route="stt") > 0
