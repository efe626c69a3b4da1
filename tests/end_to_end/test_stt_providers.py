"""Every recogniser's fake behind the real server: words, and a failure in mid-sentence."""

from __future__ import annotations

import asyncio
import time
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
MODELS = [(name, model) for name, (_, _, models) in FAKES.items() for model in models]

SCENARIOS = {
    "well": "",
    "drop": "drop:1.2",
    "fault": "error:1.2",
    "stall": "stall:1.0",
    "garbage": "garbage:0.5",
}

TOGETHER = 12  # the fakes listen with one thread each, on whatever machine this is


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For each provider and scenario an account of its own; behind each a good Deepgram."""
    lines = ["log: {format: console}", "stt: {stall_s: 1.5, overdue_s: 1.5}", "providers:"]
    models = ["models:"]
    with ExitStack() as stack:
        good = stack.enter_context(FakeDeepgram())
        lines.append(f"  good: {{type: deepgram, base_url: '{good.url}', api_key: {KEY}}}")
        for name, (kind, path, served) in FAKES.items():
            for scenario, faults in SCENARIOS.items():
                fake = stack.enter_context(kind(faults))
                account = f"{name}-{scenario}"
                lines.append(
                    f"  {account}: {{type: {name}, base_url: '{fake.url}{path}', api_key: {KEY}}}"
                )
                for model in served:
                    models += [
                        f"  test/{name}-{model.split('/')[-1]}-{scenario}:",
                        f"    - {{provider: {account}, model: {model}}}",
                        "    - {provider: good, model: nova-3}",
                    ]
        with running(tmp_path_factory.mktemp("stt"), "\n".join(lines + models) + "\n") as started:
            yield started


@pytest.fixture(scope="module")
def heard(server: Server) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Every conversation of this module, TOGETHER at a time."""

    async def all_at_once() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
        names = [(name, model, scenario) for name, model in MODELS for scenario in SCENARIOS]
        places = asyncio.Semaphore(TOGETHER)

        async def one(name: str, model: str, scenario: str) -> list[dict[str, Any]]:
            async with places:
                return await converse(
                    server,
                    RECORDING,
                    model=f"test/{name}-{model.split('/')[-1]}-{scenario}",
                    settings={"language": "en"},
                )

        return dict(zip(names, await asyncio.gather(*(one(*n) for n in names)), strict=True))

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_no_word_is_lost_or_doubled(
    heard: dict[tuple[str, str, str], list[dict[str, Any]]], name: str, model: str, scenario: str
) -> None:
    told = heard[name, model, scenario]

    assert [one for one in told if one["type"] == "error"] == []
    assert words(told) == [*FIRST, *SECOND]
    assert [one["type"] for one in told[-2:]] == ["session.closed", "close"]
    assert told[-1]["code"] == 1000


def test_nothing_is_left_open_when_callers_have_gone(
    heard: dict[tuple[str, str, str], list[dict[str, Any]]], server: Server
) -> None:
    assert heard
    deadline = time.monotonic() + 5
    while server.metric("parley_open_sessions", route="stt") and time.monotonic() < deadline:
        time.sleep(0.05)

    assert server.metric("parley_open_sessions", route="stt") == 0
    assert server.metric("parley_fallbacks_total", route="stt") > 0
