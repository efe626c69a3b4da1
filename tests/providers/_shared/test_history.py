"""A history that one vendor wrote is read by another."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._shared import history
from gateway.providers._shared.history import (
    ANTHROPIC,
    ANY,
    MISTRAL,
    NO_RESULT,
    OPENAI,
    PLACEHOLDER,
    HistoryRules,
    normalised,
)

ALL = [ANY, OPENAI, ANTHROPIC, MISTRAL]
USER = {"role": "user", "content": "Weather?"}
ASSISTANT = {"role": "assistant", "content": "Sunny."}


def call(call_id: str, name: str = "lookup") -> dict[str, Any]:
    made = {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return {"role": "assistant", "tool_calls": [made]}


def result(call_id: str, text: Any = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def ids(messages: Any) -> list[tuple[str, str]]:
    """The id of each call and that of the result behind it."""
    found = []
    for at, message in enumerate(messages):
        for offset, one in enumerate(message.get("tool_calls") or ()):
            found.append((one["id"], messages[at + 1 + offset]["tool_call_id"]))
    return found


@pytest.mark.parametrize("rules", ALL)
def test_what_a_vendor_takes_stays_the_same_object(rules: HistoryRules) -> None:
    sound = [
        {"role": "system", "content": "Be kind."},
        USER,
        call("abcdefghi"),
        result("abcdefghi"),
    ]
    assert normalised(sound, rules) is sound


@pytest.mark.parametrize(
    ("rules", "foreign"),
    [
        (ANTHROPIC, "functions.lookup:0"),
        (OPENAI, "call_1__thought__" + "Q" * 300),
        (MISTRAL, "call_a1b2c3d4"),
        (ANY, ""),
    ],
)
def test_a_foreign_id_is_rewritten_alike_for_call_and_result(
    rules: HistoryRules, foreign: str
) -> None:
    made = normalised([USER, call(foreign), result(foreign), USER], rules)
    [(asked, answered)] = ids(made)
    assert asked == answered
    assert asked != foreign
    assert rules.call_id is None or rules.call_id.fullmatch(asked)


def test_an_id_that_comes_again_in_every_turn_is_told_apart_where_it_must_be() -> None:
    history = [USER, call("0"), result("0", "a"), USER, call("0"), result("0", "b"), USER]
    made = normalised(history, ANTHROPIC)
    (first, _), (second, answered) = ids(made)
    assert first != second == answered
    assert [one["content"] for one in made if one["role"] == "tool"] == ["a", "b"]
    assert normalised(history, OPENAI) is history


def test_a_function_name_that_is_refused_is_put_right() -> None:
    made = normalised([USER, call("a", "home.lights:on"), result("a"), USER], OPENAI)
    assert made[1]["tool_calls"][0]["function"]["name"] == "home_lights_on"


@pytest.mark.parametrize("rules", ALL)
def test_a_result_without_a_call_gets_one(rules: HistoryRules) -> None:
    made = normalised([USER, result("abcdefghi"), USER], rules)
    assert [one["role"] for one in made] == ["user", "assistant", "tool", "user"]
    [(asked, answered)] = ids(made)
    assert asked == answered


@pytest.mark.parametrize("rules", ALL)
def test_a_call_without_a_result_gets_one(rules: HistoryRules) -> None:
    made = normalised([USER, call("abcdefghi"), USER], rules)
    assert made[2] == {"role": "tool", "tool_call_id": "abcdefghi", "content": NO_RESULT}


def test_a_result_that_comes_late_stands_behind_its_call() -> None:
    made = normalised([USER, call("a"), USER, result("a", "late")], OPENAI)
    assert [one["role"] for one in made] == ["user", "assistant", "tool", "user"]
    assert made[2]["content"] == "late"


@pytest.mark.parametrize("empty", [None, "", "  ", []])
def test_an_empty_turn_of_the_assistant_is_left_out(empty: Any) -> None:
    made = normalised([USER, {"role": "assistant", "content": empty}, USER], ANY)
    assert made == [USER, USER]


@pytest.mark.parametrize("behind", [[], [{"role": "system", "content": "Go on."}]])
def test_an_assistants_last_turn_is_followed_by_a_users_where_it_must_be(behind: list[Any]) -> None:
    history = [USER, ASSISTANT, *behind]
    last = normalised(history, ANTHROPIC)[-1]
    assert last == {"role": "user", "content": behind[0]["content"] if behind else PLACEHOLDER}
    assert normalised(history, OPENAI) is history


def test_pictures_of_a_tool_move_into_a_users_turn_where_a_tool_may_say_text_alone() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    told = [{"type": "text", "text": "a picture:"}, picture]
    made = normalised([USER, call("a"), result("a", told), USER], OPENAI)
    assert made[2]["content"] == told[:1]
    assert made[3] == {"role": "user", "content": [picture]}


TURNS = st.one_of(
    st.just(USER),
    st.just(ASSISTANT),
    st.just({"role": "assistant", "content": ""}),
    st.just({"role": "system", "content": "s"}),
    st.sampled_from(["a", "b", "functions.f:0", ""]).map(call),
    st.sampled_from(["a", "b", "functions.f:0", ""]).map(result),
)


class Counted(list[Any]):
    """Counts how often one of its items is looked for."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("same", [False, True])
def test_the_work_grows_with_the_length_of_a_history_alone(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the event loop waits meanwhile, and callers send thousands of messages
    hashes = 0

    def counted(data: bytes) -> Any:
        nonlocal hashes
        hashes += 1
        return hashlib.sha256(data)

    monkeypatch.setattr(history, "hashlib", SimpleNamespace(sha256=counted))
    messages = Counted(call("c0" if same else f"c{i}") for i in range(400))
    assert len(normalised(messages, ANTHROPIC)) == 2 * len(messages)
    assert messages.looks <= len(messages)
    assert hashes <= len(messages)


@given(st.lists(TURNS, max_size=12), st.sampled_from(ALL))
def test_whatever_came_before_the_outcome_is_in_order(
    history: list[dict[str, Any]], rules: HistoryRules
) -> None:
    made = normalised(history, rules)
    assert normalised(made, rules) == made
    for asked, answered in ids(made):
        assert asked == answered
    calls = sum(len(one.get("tool_calls") or ()) for one in made)
    assert sum(one["role"] == "tool" for one in made) == calls
