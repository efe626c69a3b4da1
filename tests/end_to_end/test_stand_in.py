"""An unmodified agent with the names of LiveKit's starter, and a server that has no key at all."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.conftest import each_client
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fetched_weights import fetched, smollm2
from tests.services import wait_until

SPEECH = made_folder() / "interruption-libri-1034.wav"
VOICE = "9626c31c-bec5-4cca-baa8-f8ba9e84c8bc"  # the starter's, at Cartesia
TOLD = {
    ("local/smollm2-135m", "openai/gpt-4.1-mini"),
    ("local/kokoro", "cartesia/sonic-3"),
    ("local/whisper", "deepgram/nova-3"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "PARLEY_CACHE": str(fetched("silero-vad", "whisper-base", "kokoro")),
        "PYTHONPATH": str(smollm2()),
    }
    with running(tmp_path_factory.mktemp("stand_in"), environment=environment) as started:
        yield started


def told(server: Server) -> set[tuple[str | None, str | None]]:
    """What served and what was asked for, of each request in the log."""
    lines = server.log.read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return {(line.get("model"), line.get("asked_model")) for line in found}


@each_client("model", [], current_only=["deepgram/nova-3"])
def test_the_starters_models_are_served_by_what_is_on_this_machine(
    client: Client, server: Server, model: str
) -> None:
    agent = server.agent_environment()
    replied = client.drive(
        "drive_llm", "Say hello.", "--model", "openai/gpt-4.1-mini", "--retries", "3",
        "--timeout-s", "60", environment=agent,
    )[-1]  # fmt: skip
    spoken = client.drive(
        "drive_tts", "Good morning to you.", "--model", "cartesia/sonic-3", "--voice", VOICE,
        "--extra", '{"speed": "fast", "emotion": ["calm"]}', "--timeout-s", "60", environment=agent,
    )[-1]  # fmt: skip
    heard = client.drive(
        "drive_stt", str(SPEECH), "--model", model, "--language", "multi",
        "--extra", '{"smart_format": true}', "--tail-s", "2", "--patience-s", "40",
        environment=agent,
    )  # fmt: skip

    assert replied["text"].strip()
    assert spoken["event"] == "spoken"
    assert spoken["audio_s"] > 0.5
    finals = [one["text"] for one in heard if one.get("type") == "final_transcript"]
    assert "chapter" in " ".join(finals).lower()
    wait_until(lambda: told(server) >= TOLD)
    assert server.metric("parley_tokens_total", provider="local", model="local/smollm2-135m") > 0
