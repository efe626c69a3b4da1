"""What Kimi is asked."""

from __future__ import annotations

from tests.providers.chats import asked


def test_newer_models_want_no_temperature_and_older_ones_at_most_one() -> None:
    assert "temperature" not in asked("moonshot", "kimi-k2.6", temperature=0.5)
    assert asked("moonshot", "kimi-k2", temperature=1.7)["temperature"] == 1.0


def test_a_call_cannot_be_required() -> None:
    assert asked("moonshot", tool_choice="required")["tool_choice"] == "auto"
    assert asked("moonshot", tool_choice="none")["tool_choice"] == "none"
