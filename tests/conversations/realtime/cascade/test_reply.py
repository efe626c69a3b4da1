from __future__ import annotations

from itertools import count
from typing import Any

from gateway.conversations.realtime.cascade.history import Item
from gateway.conversations.realtime.cascade.parts import Trouble
from gateway.conversations.realtime.cascade.protocol import Settings
from gateway.conversations.realtime.cascade.reply import CALLS_MAX, Reply


class Made:
    """A response, what it told and what it added."""

    def __init__(self, **settings: Any) -> None:
        numbers = count(1)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.added: list[Item] = []
        self.reply = Reply(
            "resp_1",
            1,
            Settings("cascade/x", **settings),
            "conv_1",
            None,
            lambda kind, **fields: self.told.append((kind, fields)),
            lambda kind: f"{kind}_{next(numbers)}",
            self.added.append,
        )

    def takes(self, *deltas: dict[str, Any]) -> list[str]:
        return [
            clause
            for delta in deltas
            for clause in self.reply.take({"choices": [{"delta": delta}]})
        ]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    @property
    def response(self) -> dict[str, Any]:
        found: dict[str, Any] = self.told[-1][1]["response"]
        return found


def call(index: int, **function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}


def test_text_before_a_call_is_spoken_and_is_an_item_of_its_own() -> None:
    made = Made()
    assert made.takes({"content": "Let me look that up. "}, call(0, name="f", arguments="{}"))
    made.reply.spoke = True
    assert made.reply.end_of_text() == ""
    assert not made.reply.over
    made.reply.voice_done = True
    assert made.reply.over
    made.reply.end()
    assert [item["type"] for item in made.response["output"]] == ["message", "function_call"]
    indices = {fields.get("output_index") for _, fields in made.told} - {None}
    assert indices == {0, 1}


def test_two_calls_are_told_apart() -> None:
    made = Made()
    made.takes(call(0, name="f", arguments="1"), call(1, name="g", arguments="2"))
    made.reply.end_of_text()
    made.reply.end()
    assert [(i["name"], i["arguments"]) for i in made.response["output"]] == [
        ("f", "1"),
        ("g", "2"),
    ]


def test_calls_are_bounded() -> None:
    made = Made()
    made.takes(*(call(index, name="f", arguments="") for index in range(CALLS_MAX + 3)))
    assert len(made.added) == CALLS_MAX


def test_a_providers_own_state_of_a_call_is_kept_and_not_told() -> None:
    made = Made()
    delta = call(0, name="f", arguments="{}")
    delta["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "s"}}
    made.takes(delta)
    assert made.added[0].own == {"google": {"thought_signature": "s"}}
    assert "extra_content" not in str(made.told)


def test_a_response_that_failed_leaves_its_items_incomplete() -> None:
    made = Made()
    made.takes({"content": "One"}, call(0, name="f", arguments="{"))
    made.reply.end("failed", why=Trouble("it is down", "upstream_error"))
    assert [item["status"] for item in made.response["output"]] == ["incomplete", "incomplete"]
    assert made.response["status_details"]["error"]["message"] == "it is down"


def test_usage_is_told_as_text_with_what_was_cached() -> None:
    made = Made(modality="text")
    made.takes({"content": "One"})
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    made.reply.take({"choices": [], "usage": usage})
    made.reply.end_of_text()
    made.reply.end()
    told = made.response["usage"]
    assert (told["input_tokens"], told["output_tokens"], told["total_tokens"]) == (9, 6, 15)
    assert told["input_token_details"]["cached_tokens"] == 4


def test_nonsense_of_a_provider_is_read_over() -> None:
    made = Made()
    for chunk in ({}, {"choices": None}, {"choices": [7]}, {"choices": [{"delta": None}]}):
        assert made.reply.take(chunk) == []
    assert made.takes({"content": None}, {"tool_calls": [None, {"index": 0}]}) == []
    assert made.takes({"tool_calls": [{"index": []}, {"index": None}]}) == []
    made.reply.end_of_text()
    made.reply.end()
    assert made.kinds()[-1] == "response.done"
