"""Every fake recogniser is first accepted by the provider's own client."""

from __future__ import annotations

import wave
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import installed
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

PROVIDERS = Client("stt-providers", "python", ("stt-providers.txt",))
FIRST, SECOND = VOCABULARY[:4], VOCABULARY[4:7]

FAKES: dict[str, type[SpeechFake]] = {
    "deepgram": FakeDeepgram,
    "deepgram-flux": FakeDeepgram,
    "assemblyai": FakeAssemblyAI,
    "cartesia-ink-2": FakeCartesia,
    "cartesia-ink-whisper": FakeCartesia,
    "elevenlabs": FakeElevenLabs,
    "speechmatics-rt": FakeSpeechmatics,
    "speechmatics-agent": FakeSpeechmatics,
    "xai": FakeXai,
    "inworld": FakeInworld,
    "openai-realtime": FakeOpenAIRealtime,
    "google": FakeGoogleLive,
}


@dataclass
class Told:
    """What a client has told, and the fake that it spoke with."""

    events: list[Event]
    fake: SpeechFake


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """Every provider's client with its fake, all at the same time."""
    installed(PROVIDERS)
    folder = tmp_path_factory.mktemp("tones")
    with ExitStack() as stack:
        fakes = {name: stack.enter_context(fake()) for name, fake in FAKES.items()}
        arguments: list[str] = []
        for name, fake in fakes.items():
            wav = recording(folder, 24_000 if name == "openai-realtime" else 16_000)
            arguments += ["--client", name, fake.url, str(wav)]
        events = PROVIDERS.drive("drive_provider_stt", KEY, *arguments, environment={})
    return {
        name: Told([event for event in events if event.get("client") == name], fake)
        for name, fake in fakes.items()
    }


def recording(folder: Path, rate: int) -> Path:
    path = folder / f"{rate}.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        said = spoken(FIRST, rate) + hush(0.6, rate) + spoken(SECOND, rate)
        file.writeframes(hush(0.2, rate) + said + hush(0.8, rate))
    return path


@pytest.mark.parametrize("name", FAKES)
def test_the_providers_own_client_hears_the_words_from_the_fake(
    told: dict[str, Told], name: str
) -> None:
    events, fake = told[name].events, told[name].fake

    finals = [e["text"] for e in events if e.get("type") == "final_transcript"]
    words = " ".join(finals).lower().replace(".", "").split()
    assert [e for e in events if e["event"] == "failed"] == []
    assert words == [*FIRST, *SECOND]
    assert [one.failure for one in fake.received] == [None] * len(fake.received)
