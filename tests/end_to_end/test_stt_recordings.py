"""Servers that take recordings, behind the real server: utterances are cut by the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.end_to_end.server import Server, running
from tests.end_to_end.stt_caller import converse, words
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_transcriptions import FakeTranscriptions
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

FIRST, SECOND = VOCABULARY[:5], VOCABULARY[5:9]
RECORDING = hush(0.5) + spoken(FIRST) + hush(1.0) + spoken(SECOND) + hush(1.0)
SCENARIOS = {
    "well": "",
    "json-only": "json-only",
    "text": "text",
    "localai": "localai",
    "slow": "slow:1",
    "status-401": "status:401",
    "status-500": "status:500",
    "status-429": "status:429",
    "garbage": "garbage",
}


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, FakeTranscriptions]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(FakeTranscriptions(default))
            for name, default in SCENARIOS.items()
        }


@pytest.fixture(scope="module")
def server(
    fakes: dict[str, FakeTranscriptions], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with FakeDeepgram() as good:
        lines = [
            "log: {format: console}",
            "stt: {local_last: false}",
            "providers:",
            f"  good: {{type: deepgram, base_url: '{good.url}', api_key: {KEY}}}",
        ]
        models = ["models:"]
        for name, fake in fakes.items():
            lines.append(
                f"  {name}: {{type: openai-compatible, base_url: '{fake.url}/v1', api_key: {KEY}}}"
            )
            models += [
                f"  test/{name}:",
                f"    - {{provider: {name}, model: whisper}}",
                "    - {provider: good, model: nova-3}",
            ]
        # tones are no speech to Silero's model: without it loudness finds them
        environment = {"PARLEY_CACHE": str(tmp_path_factory.mktemp("cache"))}
        folder = tmp_path_factory.mktemp("stt")
        with running(folder, "\n".join(lines + models) + "\n", environment) as started:
            yield started


@pytest.fixture(scope="module")
def heard(server: Server) -> dict[str, list[dict[str, Any]]]:
    async def all_at_once() -> dict[str, list[dict[str, Any]]]:
        told = await asyncio.gather(
            *(
                converse(server, RECORDING, model=f"test/{name}", settings={"language": "en"})
                for name in SCENARIOS
            )
        )
        return dict(zip(SCENARIOS, told, strict=True))

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_word_is_lost_or_doubled(heard: dict[str, list[dict[str, Any]]], name: str) -> None:
    assert [one for one in heard[name] if one["type"] == "error"] == []
    assert words(heard[name]) == [*FIRST, *SECOND]
    assert heard[name][-1]["code"] == 1000


def test_the_onset_is_told_and_words_have_the_sessions_times(
    heard: dict[str, list[dict[str, Any]]],
) -> None:
    told = heard["well"]
    assert [one["type"] for one in told].count("start_of_speech") == 2
    finals = [one for one in told if one["type"] == "final_transcript"]
    starts = [word["start"] for one in finals for word in one["words"]]
    expected = [0.5 + 0.25 * i for i in range(len(FIRST))]
    expected += [0.5 + 0.25 * len(FIRST) + 1.0 + 0.25 * i for i in range(len(SECOND))]
    assert starts == pytest.approx(expected, abs=0.08)


def test_the_server_is_asked_for_words_in_the_callers_language(
    heard: dict[str, list[dict[str, Any]]], fakes: dict[str, FakeTranscriptions]
) -> None:
    assert heard
    asked = fakes["well"].asked[0]
    assert asked["language"] == "en"
    assert asked["model"] == "whisper"
    assert asked["timestamp_granularities[]"] == "word"
