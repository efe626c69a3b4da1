"""Every fake recogniser is first accepted by the provider's own client."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client
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


@pytest.mark.parametrize("name", FAKES)
def test_the_providers_own_client_hears_the_words_from_the_fake(name: str, tmp_path: Path) -> None:
    if os.environ.get("PARLEY_SKIP_CLIENTS") == "1":
        pytest.skip("PARLEY_SKIP_CLIENTS=1 is set: NO REAL CLIENT WAS TRIED")
    PROVIDERS.ensure()
    rate = 24_000 if name == "openai-realtime" else 16_000
    recording = tmp_path / "tones.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        said = spoken(FIRST, rate) + hush(0.6, rate) + spoken(SECOND, rate)
        file.writeframes(hush(0.2, rate) + said + hush(0.8, rate))
    with FAKES[name]() as fake:
        events = PROVIDERS.drive(
            "drive_provider_stt", name, fake.url, KEY, str(recording), environment={}
        )

    finals = [e["text"] for e in events if e.get("type") == "final_transcript"]
    words = " ".join(finals).lower().replace(".", "").split()
    assert [e for e in events if e["event"] in ("failed", "crashed")] == []
    assert words == [*FIRST, *SECOND]
    assert [one.failure for one in fake.received] == [None] * len(fake.received)
