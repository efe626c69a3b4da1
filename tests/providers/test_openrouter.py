"""What OpenRouter is asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.chats import asked


@pytest.mark.parametrize(
    ("effort", "reasoning"), [("none", {"enabled": False}), ("high", {"effort": "high"})]
)
def test_effort_is_part_of_an_object(effort: str, reasoning: dict[str, Any]) -> None:
    sent = asked("openrouter", reasoning_effort=effort)
    assert sent["reasoning"] == reasoning
    assert "reasoning_effort" not in sent


def test_a_client_that_sets_the_object_itself_is_not_overruled() -> None:
    sent = asked("openrouter", reasoning_effort="high", reasoning={"max_tokens": 9})
    assert sent["reasoning"] == {"max_tokens": 9}


def test_no_provider_that_keeps_prompts_is_asked_whatever_the_client_says() -> None:
    sent = asked("openrouter", provider={"order": ["a"], "data_collection": "allow"})
    assert sent["provider"] == {"order": ["a"], "data_collection": "deny"}
