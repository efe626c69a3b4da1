"""LiveKit's DecisionModel, unmodified, over chat models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import FakeOpenAI


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(default="structured") as started:
        yield started


@pytest.fixture(scope="module")
def server(fake: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = (
        "chat: {decision_model: m}\nlocal_stand_in: false\nproviders:\n"
        f"  good: {{type: openai-compatible, base_url: {fake.base_url}, api_key: k}}\n"
        "models: {m: [{provider: good, model: one}]}\n"
    )
    folder: Path = tmp_path_factory.mktemp("decisions")
    with running(folder, config) as started:
        yield started


@pytest.mark.parametrize("model", ["m", "openai/gpt-6-luna-decisions", "typesafe/jev"])
def test_questions_are_answered_by_a_chat_model_and_asked_once(
    fake: FakeOpenAI, server: Server, current_client: Client, model: str
) -> None:
    before = len(fake.completions)
    events = current_client.drive("drive_decisions", model, environment=server.agent_environment())
    assert [one["event"] for one in events] == ["decided", "decided"], events
    results = events[0]["results"]
    assert not events[0]["errors"]
    assert results["handoff"]["value"] == 1.0
    assert results["mood"]["value"] == "calm"
    assert results["urgency"]["levels"] == ["not", "somewhat", "very"]
    assert events[0]["tokens"] == [9, 6]
    assert events[1]["results"] == results
    assert len(fake.completions) == before + 1  # the second time it was known
