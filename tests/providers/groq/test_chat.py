"""What Groq is asked."""

from __future__ import annotations

from tests.providers.chats import asked


def test_tiers_that_groq_does_not_have_are_left_out() -> None:
    assert "service_tier" not in asked("groq", service_tier="priority")
    assert asked("groq", service_tier="flex")["service_tier"] == "flex"
