"""The vendors' own clients accept our fakes of the vendors."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client, Event
from tests.fakes.assemblyai_tts import FakeAssemblyAIVoice
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_tts import FakeDeepgramVoice
from tests.fakes.elevenlabs_tts import FakeElevenLabs
from tests.fakes.fishaudio_tts import FakeFishAudio
from tests.fakes.inworld_tts import FakeInworld
from tests.fakes.rime_tts import FakeRime
from tests.fakes.voices import FakeVoice, times_said
from tests.fakes.xai_tts import FakeXaiVoice

SENTENCES = ("Hello there my dear friend.", "This is the second one of them.")

OFFICIAL: dict[str, type[FakeVoice]] = {
    "assemblyai": FakeAssemblyAIVoice,
    "assemblyai-sdk": FakeAssemblyAIVoice,
    "cartesia": FakeCartesia,
    "deepgram": FakeDeepgramVoice,
    "deepgram-sdk": FakeDeepgramVoice,
    "elevenlabs": FakeElevenLabs,
    "fishaudio": FakeFishAudio,
    "fishaudio-sdk": FakeFishAudio,
    "inworld": FakeInworld,
    "rime": FakeRime,
    "xai": FakeXaiVoice,
}

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(os.environ.get("PARLEY_SKIP_CLIENTS") == "1", reason="no clients"),
]


CLIENTS = Client("livekit-plugins-tts-1.8.9", "python", ("livekit-plugins-tts-1.8.9.txt",))


@dataclass
class Told:
    """What a client told last, and what it left behind."""

    events: list[Event]
    out: Path
    said: str  # what was said to the fake


def drive(folder: Path, *scripted: str) -> dict[str, Told]:
    """Every client with its fake, all at the same time."""
    CLIENTS.ensure()
    with ExitStack() as stack:
        fakes = {name: stack.enter_context(fake()) for name, fake in OFFICIAL.items()}
        arguments: list[str] = []
        for name, fake in fakes.items():
            fake.script(*scripted)
            arguments += ["--client", name, fake.url, str(folder / name)]
        events = CLIENTS.drive("drive_voice", *SENTENCES, *arguments, environment={})
        return {
            name: Told(
                [event for event in events if event.get("client") == name],
                folder / name,
                " ".join("".join(f"{text} " for text in fake.said).split()),
            )
            for name, fake in fakes.items()
        }


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return drive(tmp_path_factory.mktemp("heard"))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return drive(tmp_path_factory.mktemp("refused"), *["status:401"] * 8)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_client_hears_its_text(heard: dict[str, Told], name: str) -> None:
    told = heard[name]
    assert [e["event"] for e in told.events][-1] == "spoken", told.events
    assert told.said == " ".join(SENTENCES)
    audio = told.out.read_bytes()
    for sentence in SENTENCES:
        assert times_said(sentence, audio) == 1


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_client_takes_a_refusal_for_one(refused: dict[str, Told], name: str) -> None:
    events = refused[name].events
    assert [e["event"] for e in events][-1] == "failed", events
