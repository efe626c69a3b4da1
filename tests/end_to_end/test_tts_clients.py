"""The real clients' inference.TTS with every provider's model, voice and options."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.server import Server, running
from tests.end_to_end.test_tts_providers import FAKES
from tests.fakes.voices import FakeVoice, render, sounds

ONE = "Hello there my dear friend, how are you?"
TWO = "This is the second of the sentences."

MODELS = {
    "cartesia/sonic-3": {"add_timestamps": True, "speed": 1.1},
    "deepgram/aura-2": {"mip_opt_out": True},
    "elevenlabs/eleven_flash_v2_5": {"sync_alignment": True, "stability": 0.4},
    "rime/coda": {"speed_alpha": 1.1},
    "inworld/inworld-tts-1.5-max": {"timestamp_type": "WORD", "temperature": 0.8},
    "xai/tts-1": {"speed": 1.1},
    "fishaudio/s2.1-pro": {"latency": "low"},
    "assemblyai/assemblyai-tts-1": {"word_timestamps": True},
}


@dataclass
class Setup:
    server: Server
    fakes: dict[str, FakeVoice]


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        fakes = {name: stack.enter_context(fake()) for name, (fake, _, _) in FAKES.items()}
        lines = ["providers:"]
        lines += [
            f'  {name}: {{base_url: "{fake.url}{FAKES[name][1]}", api_key: k}}'
            for name, fake in fakes.items()
        ]
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), "\n".join(lines)))
        yield Setup(server, fakes)


@dataclass
class Told:
    """What a client has told of a model, and where its audio is."""

    events: list[Event]
    audio: Path


def voice(client: Client) -> str:
    """One that no other client asks for."""
    return f"somebody-{client.name}"


@pytest.fixture(scope="module")
def told(
    client: Client, running_setup: Setup, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Told]:
    """Two utterances of each model, all models at the same time."""
    folder = tmp_path_factory.mktemp("heard")
    files = {model: folder / f"{number}.wav" for number, model in enumerate(MODELS)}
    jobs = [
        {"job": model, "model": model, "extra": extra, "out": str(files[model])}
        for model, extra in MODELS.items()
    ]
    events = client.drive(
        "drive_tts", "--rate", "24000", "--voice", voice(client),
        *(f"--job={json.dumps(job)}" for job in jobs), f"{ONE} {TWO}", ONE,
        environment=running_setup.server.agent_environment(),
    )  # fmt: skip
    return {
        model: Told([event for event in events if event.get("job") == model], files[model])
        for model in MODELS
    }


@pytest.mark.parametrize("model", MODELS)
def test_a_client_hears_two_utterances_of_every_provider(
    client: Client, told: dict[str, Told], running_setup: Setup, model: str
) -> None:
    fake, events = running_setup.fakes[model.partition("/")[0]], told[model].events
    assert [e for e in events if e["event"] in ("failed", "error")] == []
    with wave.open(str(told[model].audio), "rb") as file:
        heard = file.readframes(file.getnframes())
    assert sounds(heard) == sounds(render(f"{ONE} {TWO} {ONE}"))
    asked = [f"{e.path} {e.query}" for e in fake.received]
    asked += [str(frame) for e in fake.received for frame in e.heard]
    assert any(voice(client) in one for one in asked)
