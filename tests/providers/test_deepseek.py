"""What DeepSeek is asked."""

from __future__ import annotations

from tests.providers.chats import asked


def test_a_schema_becomes_words_where_there_are_no_schemas() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}}
    sent = asked("deepseek", response_format=wanted)
    assert sent["response_format"] == {"type": "json_object"}
    assert '{"a":1}' in sent["messages"][-1]["content"]


def test_a_client_that_sets_thinking_itself_is_not_overruled() -> None:
    sent = asked("deepseek", reasoning_effort="none", thinking={"type": "enabled"})
    assert sent["thinking"] == {"type": "enabled"}
    assert "reasoning_effort" not in sent


def test_it_does_not_think_while_a_caller_waits_unless_it_is_told_to() -> None:
    assert asked("deepseek")["thinking"] == {"type": "disabled"}
    assert asked("deepseek", reasoning_effort="low")["thinking"] == {"type": "enabled"}
