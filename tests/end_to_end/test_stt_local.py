"""The engine on this machine behind the real server, heard by the real clients: no key needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.conftest import each_client
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fetched_weights import fetched

SPEECH = made_folder() / "interruption-libri-1034.wav"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with FakeDeepgram() as down:
        down.refuse()
        lines = [
            "log: {format: console}",
            "providers:",
            f"  deepgram: {{base_url: '{down.url}', api_key: {KEY}}}",
        ]
        environment = {"PARLEY_CACHE": str(fetched("silero-vad", "whisper-base"))}
        folder = tmp_path_factory.mktemp("stt")
        with running(folder, "\n".join(lines) + "\n", environment) as started:
            yield started


@each_client("model", ["deepgram/nova-3"], current_only=["local/whisper", "auto"])
def test_speech_is_transcribed_also_when_the_provider_asked_for_is_down(
    client: Client, server: Server, model: str
) -> None:
    events = client.drive(
        "drive_stt", str(SPEECH), "--model", model, "--language", "en", "--tail-s", "2",
        "--patience-s", "40", environment=server.agent_environment(),
    )  # fmt: skip

    finals = [e for e in events if e.get("type") == "final_transcript"]
    heard = " ".join(e["text"] for e in finals).lower()
    assert [e for e in events if e["event"] in ("error", "failed")] == []
    assert "chapter" in heard  # how much of the rest comes in time depends on the machine
    assert all(word["end"] >= word["start"] for e in finals for word in e["words"])
