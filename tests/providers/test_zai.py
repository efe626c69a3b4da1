"""What GLM is asked."""

from __future__ import annotations

from tests.providers.chats import asked


def test_the_model_alone_decides_whether_it_calls_a_tool() -> None:
    assert asked("zai", tool_choice="required")["tool_choice"] == "auto"
    assert asked("zai", tool_choice="auto")["tool_choice"] == "auto"
    assert "tool_choice" not in asked("zai")
