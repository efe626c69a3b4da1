"""What Mistral is asked."""

from __future__ import annotations

from tests.providers.chats import asked, turn


def test_mistral_gets_ids_it_takes_the_same_for_call_and_result() -> None:
    messages = asked("mistral", messages=turn())["messages"]
    call_id = messages[1]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert messages[2]["tool_call_id"] == call_id


def test_names_of_mistrals_own_are_used() -> None:
    sent = asked("mistral", seed=4, tool_choice="required")
    assert sent["random_seed"] == 4
    assert "seed" not in sent
    assert sent["tool_choice"] == "any"


def test_an_id_that_mistral_takes_is_left_as_it_is() -> None:
    history = turn(id="abcDEF123")
    assert asked("mistral", messages=history)["messages"][1]["tool_calls"][0]["id"] == "abcDEF123"
