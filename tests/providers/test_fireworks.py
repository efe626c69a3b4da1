"""What Fireworks is asked."""

from __future__ import annotations

from tests.providers.chats import asked


def test_an_effort_and_the_thinking_switch_are_not_sent_together() -> None:
    thinking = {"type": "enabled"}
    assert "reasoning_effort" not in asked("fireworks", reasoning_effort="low", thinking=thinking)
    assert asked("fireworks", reasoning_effort="low")["reasoning_effort"] == "low"
