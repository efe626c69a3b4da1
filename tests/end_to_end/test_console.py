"""A whole unmodified agent with the names of LiveKit's quickstart, in console mode, and a server
that has no key at all: it is asked something, talks, is interrupted, and goes on.

It hears, thinks and speaks in real time on this machine's cores, and needs two for itself:
`PARLEY_CONSOLE=1 pytest tests/end_to_end/test_console.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fetched_weights import fetched, smollm2

if os.environ.get("PARLEY_CONSOLE") != "1":
    pytest.skip("the whole agent wants the cores for itself", allow_module_level=True)

AGENT = Path(__file__).parent / "agents" / "starter.py"
QUESTION = made_folder() / "interruption-libri-1034.wav"
INTERRUPTION = made_folder() / "interruption-libri-1723.wav"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "PARLEY_CACHE": str(fetched("silero-vad", "whisper-base", "kokoro")),
        "PYTHONPATH": str(smollm2()),
    }
    with running(tmp_path_factory.mktemp("console"), environment=environment) as started:
        yield started


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def test_the_quickstarts_agent_talks_is_interrupted_and_goes_on(
    current_client: Client, server: Server
) -> None:
    events = current_client.drive(
        "drive_console", str(AGENT), str(QUESTION), str(INTERRUPTION),
        environment=server.agent_environment(),
    )  # fmt: skip
    order = [event["event"] for event in events if event["event"] in ("sound", "interrupted")]
    assert of_kind(events, "done")
    assert order[:3] == ["sound", "interrupted", "sound"], order
    heard = " ".join(event["text"] for event in of_kind(events, "user_said")).lower()
    assert "chapter" in heard
    replies = [one for one in of_kind(events, "item") if "ASSISTANT" in one["role"]]
    assert replies
    assert replies[0]["text"].strip()
