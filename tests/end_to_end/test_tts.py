"""The real clients' inference.TTS, through the real server, to fake voices."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.server import Server, running
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.openai_speech import FakeSpeechServer
from tests.fakes.voices import render, sounds, times_said

ONE = "Hello there my dear friend, how are you?"
TWO = "This is the second of the sentences."
THREE = "And here is one more to say good bye."
TEXT = f"{ONE} {TWO} {THREE}"


BREAKS = ("reset", "hole", "error")

JOBS: dict[str, dict[str, Any]] = {
    "several": {"utterances": [TEXT, TWO], "prewarm": True},
    **{
        name: {
            "model": f"{name}/sonic-3", "fallback": ["second/sonic-3"], "utterances": [TEXT],
        }
        for name in BREAKS
    },
    "http": {"model": "http/kokoro", "voice": "af_heart", "utterances": [TEXT]},
    "left": {"model": "left/sonic-3", "interrupt_s": 0.01, "utterances": [TEXT * 5, TWO]},
    "aligned": {"extra": {"add_timestamps": True}, "utterances": [TEXT]},
    "unknown": {"model": "nobody/x", "utterances": [TEXT]},
}  # fmt: skip
"""What a client is asked for, all of it at the same time."""


@dataclass
class Setup:
    server: Server
    fakes: dict[str, FakeCartesia]


@dataclass
class Told:
    """What a client has told of a job, and its audio."""

    events: list[Event]
    path: Path

    def failures(self) -> list[Event]:
        return [event for event in self.events if event["event"] in ("failed", "error")]

    def spoken(self) -> list[Event]:
        return [event for event in self.events if event["event"] == "spoken"]

    def audio(self) -> bytes:
        with wave.open(str(self.path), "rb") as file:
            return file.readframes(file.getnframes())


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        names = ("cartesia", "second", "left", *BREAKS)
        fakes = {name: stack.enter_context(FakeCartesia()) for name in names}
        http = stack.enter_context(FakeSpeechServer("wav"))
        providers = "\n".join(
            f'  {name}: {{type: cartesia, base_url: "{fake.url}", api_key: key-of-{name}}}'
            for name, fake in fakes.items()
        )
        config = f"""
tts: {{first_audio_timeout_s: 5, hole_timeout_s: 2}}
providers:
{providers}
  http: {{type: openai-compatible, base_url: "{http.base_url}"}}
models:
  cartesia/sonic-3: [{{provider: cartesia, model: sonic-3}}]
"""
        server = stack.enter_context(running(tmp_path_factory.mktemp("tts"), config))
        yield Setup(server, fakes)


@pytest.fixture(scope="module")
def told(client: Client, setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """Every job of this client: its name -> what came of it."""
    folder = tmp_path_factory.mktemp("heard")
    for fake in setup.fakes.values():
        fake.forget()
    for name in BREAKS:
        setup.fakes[name].utterances(f"{name}:2.0")
    jobs = [{"job": name, "out": str(folder / name), **job} for name, job in JOBS.items()]
    events = client.drive(
        "drive_tts", "--rate", "24000", *(f"--job={json.dumps(job)}" for job in jobs),
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    return {
        name: Told([event for event in events if event.get("job") == name], folder / name)
        for name in JOBS
    }


def test_the_client_hears_several_utterances_on_one_connection(told: dict[str, Told]) -> None:
    several = told["several"]
    assert several.failures() == []
    assert len(several.spoken()) == 2
    assert sounds(several.audio()) == sounds(render(f"{TEXT} {TWO}"))


@pytest.mark.parametrize("way", BREAKS)
def test_a_provider_that_dies_in_mid_sentence_costs_the_client_no_text(
    told: dict[str, Told], setup: Setup, way: str
) -> None:
    assert told[way].failures() == []
    heard = told[way].audio()
    assert times_said(ONE, heard) == 1
    # the sentence that is said again begins where the cut one broke off, without a pause
    first, _, rest = TWO.partition(" ")
    assert render(first).rstrip(b"\0") in heard
    assert times_said(f"{rest} {THREE}", heard) == 1
    assert setup.fakes[way].said


def test_a_server_with_openais_endpoint_is_heard(told: dict[str, Told]) -> None:
    assert sounds(told["http"].audio()) == sounds(render(TEXT))


def test_an_interrupted_utterance_leaves_the_connection_to_the_next(
    told: dict[str, Told], setup: Setup
) -> None:
    assert told["left"].events[-1]["event"] in ("interrupted", "spoken")
    left = setup.fakes["left"]
    assert left.wait_until(lambda: len(left.said) >= 2)


def test_the_clients_words_are_aligned(client: Client, told: dict[str, Told]) -> None:
    (spoken,) = told["aligned"].spoken()
    words = [w["word"].strip() for w in spoken["words"]]
    if client.kind == "python":
        assert words == TEXT.split()
        starts = [w["start"] for w in spoken["words"]]
        assert starts == sorted(starts)


def test_an_unknown_model_is_refused_with_its_name(client: Client, told: dict[str, Told]) -> None:
    failed = told["unknown"].failures()
    assert failed
    if client.kind == "python":  # Node's keeps the reason to itself
        assert "nobody/x" in failed[0]["message"]
