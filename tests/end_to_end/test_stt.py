"""`inference.STT` of the real clients, through the real server, to recognisers that fail."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.server import Server, running
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

RATE = 16_000
FIRST, SECOND = VOCABULARY[:8], VOCABULARY[8:14]

# What the first recogniser of each model does; a good one stands behind it.
FAILURES = {
    "well": "",
    "refused": "refused",
    "status-401": "status:401",
    "status-429": "status:429",
    "status-500": "status:500",
    "drop": "drop:1.2",
    "close": "close:1.2:1011:NET-0000",
    "stall": "stall:1.2",
    "deaf": "stall:0",
    "garbage": "garbage:1.2",
    "no-final": "no-final+no-flush",
}


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, FakeDeepgram]]:
    with ExitStack() as stack:
        made = {
            name: stack.enter_context(FakeDeepgram(scenario.replace("refused", "")))
            for name, scenario in FAILURES.items()
        }
        made["good"] = stack.enter_context(FakeDeepgram())
        made["refused"].refuse()
        yield made


@pytest.fixture(scope="module")
def stt_server(
    fakes: dict[str, FakeDeepgram], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    lines = ["log: {format: console}", "stt: {stall_s: 4, overdue_s: 3}", "providers:"]
    for name, fake in fakes.items():
        lines.append(f"  {name}: {{type: deepgram, base_url: '{fake.url}', api_key: {KEY}}}")
    lines.append("models:")
    for name in FAILURES:
        lines += [
            f"  deepgram/{name}:",
            f"    - {{provider: {name}, model: nova-3}}",
            "    - {provider: good, model: nova-3}",
        ]
    with running(tmp_path_factory.mktemp("stt"), "\n".join(lines) + "\n") as started:
        yield started


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two utterances, a pause between them: the words lie at known times."""
    path = tmp_path_factory.mktemp("recording") / "tones.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(hush(0.3) + spoken(FIRST) + hush(0.8) + spoken(SECOND) + hush(2.5))
    return path


@pytest.fixture(scope="module")
def told(client: Client, stt_server: Server, recording: Path) -> dict[str, list[Event]]:
    """A session with each model, all of them at the same time: its name -> events."""
    asked = [f"--model=deepgram/{name}" for name in FAILURES]
    events = client.drive(
        "drive_stt", str(recording), *asked, "--language", "en", "--patience-s", "60",
        environment=stt_server.agent_environment(),
    )  # fmt: skip
    return {
        name: [event for event in events if event.get("model") == f"deepgram/{name}"]
        for name in FAILURES
    }


def said(events: list[Event], kind: str) -> list[Event]:
    return [e for e in events if e["event"] == "speech" and e["type"] == kind]


def words(events: list[Event]) -> list[str]:
    text = " ".join(e["text"] for e in said(events, "final_transcript"))
    return text.lower().replace(".", "").split()


@pytest.mark.parametrize("model", FAILURES)
def test_no_word_is_lost_or_doubled_whatever_the_first_recogniser_does(
    told: dict[str, list[Event]], model: str
) -> None:
    events = told[model]

    assert [e for e in events if e["event"] in ("error", "failed")] == []
    assert words(events) == [*FIRST, *SECOND]
    assert events[-1]["event"] == "ended"


def test_times_are_those_of_the_session_after_a_failover(told: dict[str, list[Event]]) -> None:
    heard = [word for e in said(told["drop"], "final_transcript") for word in e["words"]]
    starts = [0.3 + 0.25 * i for i in range(len(FIRST))]
    starts += [0.3 + 0.25 * len(FIRST) + 0.8 + 0.25 * i for i in range(len(SECOND))]
    assert [word["start"] for word in heard] == pytest.approx(starts, abs=0.1)
