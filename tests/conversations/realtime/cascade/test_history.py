from __future__ import annotations

import pytest

from gateway.conversations.realtime.cascade import history
from gateway.conversations.realtime.cascade.history import (
    ITEMS_MAX,
    History,
    Item,
    Sound,
    item_of,
    messages,
)
from gateway.conversations.realtime.cascade.protocol import read_item
from gateway.upstreams.errors import Failure


def said(role: str, text: str, name: str = "") -> Item:
    kind = "output_text" if role == "assistant" else "input_text"
    return Item(name or text, "message", role, [{"type": kind, "text": text}])


def call(call_id: str, name: str = "f") -> Item:
    return Item(f"item_{call_id}", "function_call", call_id=call_id, name=name, text="{}")


def output(call_id: str) -> Item:
    return Item(f"out_{call_id}", "function_call_output", call_id=call_id, text=f"= {call_id}")


def roles(items: list[Item]) -> list[str]:
    return [message["role"] for message in messages(items, "")]


def test_calls_that_were_made_together_are_one_message() -> None:
    items = [said("user", "Both?"), call("a"), call("b"), output("b"), output("a")]
    made = messages(items, "")
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool"]
    assert [one["id"] for one in made[1]["tool_calls"]] == ["a", "b"]
    assert [message.get("tool_call_id") for message in made[2:]] == ["a", "b"]


def test_a_call_stands_in_the_message_that_it_was_made_with() -> None:
    items = [said("user", "?"), said("assistant", "I look."), call("a"), output("a")]
    made = messages(items, "")
    assert made[1]["content"] == "I look."
    assert made[1]["tool_calls"][0]["id"] == "a"


def test_an_output_stands_right_behind_its_call_wherever_it_was_put() -> None:
    items = [call("a"), said("user", "Well?"), output("a"), call("b"), output("b"), output("x")]
    assert roles(items) == ["assistant", "tool", "user", "assistant", "tool"]


def test_two_calls_one_after_the_other_are_two_messages() -> None:
    assert roles([call("a"), output("a"), call("b"), output("b")]) == [
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]


def test_an_image_goes_to_the_model_with_its_text() -> None:
    given = read_item(
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            ],
        },
        "item",
    )
    assert not isinstance(given, Failure)
    item = item_of(given, "one")
    assert not isinstance(item, Failure)
    assert messages([item], "") == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                },
            ],
        }
    ]


def test_audio_without_its_words_is_refused_with_a_reason() -> None:
    content = [{"type": "input_audio", "audio": "AAAA"}]
    given = read_item({"type": "message", "role": "user", "content": content}, "item")
    assert not isinstance(given, Failure)
    failure = item_of(given, "one")
    assert isinstance(failure, Failure)
    assert failure.param == "item.content.0.transcript"


def test_the_oldest_items_are_deleted_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = History()
    for number in range(ITEMS_MAX + 2):
        kept.add(said("user", str(number)))
    assert kept.shrink() == ["0", "1"]
    monkeypatch.setattr(history, "CHARS_MAX", 100)
    assert len(kept.shrink()) == ITEMS_MAX - 1
    assert kept.last_id == str(ITEMS_MAX + 1)


def test_text_that_an_item_has_later_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "CHARS_MAX", 1000)
    kept = History()
    kept.add(said("user", "first"))
    last = said("assistant", "")
    kept.add(last)
    assert kept.shrink() == []
    last.parts[0]["text"] = "x" * 1000
    kept.grown(last)
    assert kept.shrink() == ["first"]


TEXT = "One, two, three and four."


@pytest.mark.parametrize(
    ("heard_ms", "left"), [(0, ""), (950, "One,"), (2950, "One, two, three"), (9000, TEXT)]
)
def test_what_was_heard_goes_by_the_voices_own_times(heard_ms: float, left: str) -> None:
    sound = Sound(total_ms=5000, complete=True)
    sound.place([(word, i, i + 0.9) for i, word in enumerate(["One,", "two,", "three"])])
    assert sound.text_until(TEXT, heard_ms) == left


def test_a_voice_that_tells_characters_leaves_whole_words() -> None:
    sound = Sound(total_ms=2500, complete=True)
    sound.place([(c, i / 10, (i + 1) / 10) for i, c in enumerate(TEXT)])
    assert sound.text_until(TEXT, 700) == "One,"


def test_without_times_what_was_heard_goes_by_its_share() -> None:
    sound = Sound(total_ms=2500, complete=True)
    assert sound.text_until(TEXT, 1250) == "One, two,"
    assert Sound(total_ms=100, complete=False).text_until(TEXT, 1000) == "One, two, three"


def test_a_truncation_takes_no_more_than_the_last_one_says() -> None:
    item = Item("one", "message", "assistant", [{"type": "output_audio", "transcript": TEXT}])
    item.sound = Sound(total_ms=2500, complete=True)
    item.truncate(500)
    assert item.parts[0]["transcript"] == "One,"
    item.truncate(2500)
    assert item.parts[0]["transcript"] == TEXT
