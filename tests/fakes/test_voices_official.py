"""The vendors' own clients accept our fakes of the vendors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_tts import FakeDeepgramVoice
from tests.fakes.elevenlabs_tts import FakeElevenLabs
from tests.fakes.fishaudio_tts import FakeFishAudio
from tests.fakes.inworld_tts import FakeInworld
from tests.fakes.rime_tts import FakeRime
from tests.fakes.voices import FakeVoice, render
from tests.fakes.xai_tts import FakeXaiVoice

SENTENCES = ("Hello there my dear friend.", "This is the second one of them.")

OFFICIAL: dict[str, type[FakeVoice]] = {
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
WORD_BY_WORD = ("deepgram", "xai", "elevenlabs")
"""Clients that send single words, so that the pauses between them are the fake's own."""

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(os.environ.get("PARLEY_SKIP_CLIENTS") == "1", reason="no clients"),
]


@pytest.fixture(scope="module")
def clients() -> Client:
    found = Client("livekit-plugins-tts-1.8.9", "python", ("livekit-plugins-tts-1.8.9.txt",))
    found.ensure()
    return found


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_client_hears_its_text(clients: Client, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.pcm"
    with OFFICIAL[name]() as fake:
        events = clients.drive("drive_voice", name, fake.url, str(out), *SENTENCES, environment={})
        said = " ".join("".join(f"{text} " for text in fake.said).split())
    assert [e["event"] for e in events][-1] == "spoken", events
    assert said == " ".join(SENTENCES)
    audio = out.read_bytes()
    for sentence in SENTENCES:
        for part in sentence.split() if name in WORD_BY_WORD else (sentence,):
            assert render(part).rstrip(b"\0") in audio


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_client_takes_a_refusal_for_one(
    clients: Client, name: str, tmp_path: Path
) -> None:
    with OFFICIAL[name]() as fake:
        fake.script(*["status:401"] * 8)
        events = clients.drive(
            "drive_voice", name, fake.url, str(tmp_path / "out"), *SENTENCES, environment={}
        )
    assert [e["event"] for e in events][-1] == "failed", events
