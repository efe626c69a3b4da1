"""The real clients' inference.TTS, through the real server, to fake voices."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.server import Server, running
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.openai_speech import FakeSpeechServer
from tests.fakes.voices import render

ONE = "Hello there my dear friend, how are you?"
TWO = "This is the second of the sentences."
THREE = "And here is one more to say good bye."
TEXT = f"{ONE} {TWO} {THREE}"


@dataclass
class Setup:
    server: Server
    cartesia: FakeCartesia
    second: FakeCartesia
    http: FakeSpeechServer


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        cartesia, second = (stack.enter_context(FakeCartesia()) for _ in range(2))
        http = stack.enter_context(FakeSpeechServer("wav"))
        config = f"""
tts: {{first_audio_timeout_s: 1, hole_timeout_s: 0.5}}
providers:
  cartesia: {{base_url: "{cartesia.url}", api_key: key-1}}
  second: {{type: cartesia, base_url: "{second.url}", api_key: key-2}}
  http: {{type: openai-compatible, base_url: "{http.base_url}"}}
models:
  cartesia/sonic-3: [{{provider: cartesia, model: sonic-3}}]
"""
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), config))
        yield Setup(server, cartesia, second, http)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    for fake in (running_setup.cartesia, running_setup.second, running_setup.http):
        fake.forget()
    return running_setup


def samples(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())


def test_the_client_hears_several_utterances_on_one_connection(
    client: Client, setup: Setup, tmp_path: Path
) -> None:
    out = tmp_path / "out.wav"
    events = client.drive(
        "drive_tts", "--rate", "24000", "--prewarm", "--out", str(out), TEXT, TWO,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    assert [e["event"] for e in events if e["event"] in ("failed", "error")] == []
    assert len([e for e in events if e["event"] == "spoken"]) == 2
    heard = samples(out)
    for sentence in (ONE, TWO, THREE):
        assert render(sentence) in heard
    assert heard.count(render(TWO)) == 2


@pytest.mark.parametrize("scenario", ["reset:2.0", "hole:2.0", "error:2.0"])
def test_a_provider_that_dies_in_mid_sentence_costs_the_client_no_text(
    client: Client, setup: Setup, tmp_path: Path, scenario: str
) -> None:
    setup.cartesia.utterances(scenario)
    out = tmp_path / "out.wav"
    events = client.drive(
        "drive_tts", "--rate", "24000", "--out", str(out),
        "--fallback", "second/sonic-3", "--", TEXT,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    assert [e["event"] for e in events if e["event"] in ("failed", "error")] == []
    heard = samples(out)
    for sentence in (ONE, TWO, THREE):
        assert render(sentence) in heard
    assert heard.count(render(ONE)) == 1


def test_a_server_with_openais_endpoint_is_heard(
    client: Client, setup: Setup, tmp_path: Path
) -> None:
    out = tmp_path / "out.wav"
    client.drive(
        "drive_tts", "--rate", "24000", "--model", "http/kokoro",
        "--voice", "af_heart", "--out", str(out), TEXT,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    heard = samples(out)
    for sentence in (ONE, TWO, THREE):
        assert render(sentence) in heard


def test_an_interrupted_utterance_leaves_the_connection_to_the_next(
    client: Client, setup: Setup
) -> None:
    events = client.drive(
        "drive_tts", "--rate", "24000", "--interrupt-s", "0.01", TEXT * 5, TWO,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    assert events[-1]["event"] in ("interrupted", "spoken")
    assert setup.cartesia.wait_until(lambda: len(setup.cartesia.said) >= 2)


def test_the_clients_words_are_aligned(client: Client, setup: Setup) -> None:
    events = client.drive(
        "drive_tts", "--rate", "24000", "--extra", '{"add_timestamps": true}', TEXT,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    (spoken,) = [e for e in events if e["event"] == "spoken"]
    words = [w["word"].strip() for w in spoken["words"]]
    if client.kind == "python":
        assert words == TEXT.split()
        starts = [w["start"] for w in spoken["words"]]
        assert starts == sorted(starts)


def test_an_unknown_model_is_refused_with_its_name(client: Client, setup: Setup) -> None:
    events = client.drive(
        "drive_tts", "--rate", "24000", "--model", "nobody/x", TEXT,
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    failed = [e for e in events if e["event"] in ("failed", "error")]
    assert failed
    if client.kind == "python":  # Node's keeps the reason to itself
        assert "nobody/x" in failed[0]["message"]
