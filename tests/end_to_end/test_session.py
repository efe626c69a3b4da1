"""A whole AgentSession of the current client, told where Parley is by environment variables alone.

Its own voice activity detection finds the speech, its language model and its interruption
decisions are Parley's; the agent stops speaking or goes on accordingly.
"""

from __future__ import annotations

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import Recording, recordings
from tests.end_to_end.server import Server

CHOSEN = {
    recording.path.stem: recording
    for recording in recordings()
    if recording.path.stem
    in ("interruption-libri-1723", "backchannel-ami-okay-tst01", "cough-32beb616")
}


@pytest.fixture(scope="module")
def sessions(current_client: Client, server: Server) -> dict[str, list[Event]]:
    """One session for each recording, all at the same time: name -> events."""
    events = current_client.drive(
        "drive_session",
        *(recording.argument for recording in CHOSEN.values()),
        environment=server.agent_environment(),
    )
    return {
        name: [event for event in events if event.get("clip") == str(recording.path)]
        for name, recording in CHOSEN.items()
    }


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


@pytest.mark.parametrize("recording", CHOSEN.values(), ids=CHOSEN)
def test_the_agent_stops_for_an_interruption_only(
    sessions: dict[str, list[Event]], recording: Recording
) -> None:
    events = sessions[recording.path.stem]

    (reply,) = of_kind(events, "replied")
    assert reply["text"] == "Hello there, how can I help?"
    assert reply["interrupted"] is (recording.label == "interruption")
    verdicts = [event["is_interruption"] for event in of_kind(events, "overlapping_speech")]
    assert any(verdicts) is reply["interrupted"]
    assert of_kind(events, "failed") == []
