"""Responses that are kept: for their own key, and not without end."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.conversations.chat.responses_store import Kept, ResponsesStore

USER = {"role": "user", "content": "hi"}
SAID = {"type": "message", "role": "assistant", "content": []}


def response(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "output": [SAID], **more}


def store(per_key: int = 10, bytes_max: int = 1 << 20, age_s: float = 60.0) -> ResponsesStore:
    return ResponsesStore(per_key, bytes_max, age_s)


def put(made: ResponsesStore, key: str, name: str, before: Kept | None = None) -> Kept | None:
    made.put(key, response(name), [USER], before, 0.0)
    return made.get(key, name, 0.0)


def test_a_conversation_is_kept_with_all_that_came_before() -> None:
    made = store()
    first = put(made, "a", "r1")
    second = put(made, "a", "r2", first)
    assert second is not None
    assert second.conversation == [USER, SAID, USER, SAID]
    assert second.inputs == [USER]
    assert orjson.loads(second.response)["id"] == "r2"
    # what both have is kept once
    assert first is not None
    assert second.items[0] is first.items[0]


def test_nobody_reads_what_is_anothers() -> None:
    made = store()
    put(made, "a", "r1")
    assert made.get("b", "r1", 0.0) is None
    assert not made.delete("b", "r1")
    assert made.get("a", "r1", 0.0) is not None


def test_the_oldest_of_a_key_goes_first() -> None:
    made = store(per_key=2)
    for name in ("r1", "r2", "r3"):
        put(made, "a", name)
    put(made, "b", "r4")
    assert made.get("a", "r1", 0.0) is None
    assert len(made) == 3


def test_bytes_are_bounded_over_all_keys() -> None:
    made = store()
    put(made, "a", "r1")
    made.bound(10, made.size, 60.0)
    put(made, "b", "r2")
    assert made.get("a", "r1", 0.0) is None
    assert made.get("b", "r2", 0.0) is not None
    made.put("b", response("r3", text="x" * 1000), [USER], None, 0.0)
    assert made.get("b", "r3", 0.0) is None  # more than all there may be: others stay
    assert made.get("b", "r2", 0.0) is not None


def test_what_is_old_is_forgotten() -> None:
    made = store(age_s=60.0)
    put(made, "a", "r1")
    assert made.get("a", "r1", 60.0) is None
    made.put("a", response("r2"), [USER], None, 61.0)
    assert len(made) == 1


def test_what_is_deleted_is_gone_and_so_is_its_size() -> None:
    made = store()
    put(made, "a", "r1")
    put(made, "a", "r2")
    assert made.delete("a", "r1")
    assert not made.delete("a", "r1")
    made.forget("a")
    assert made.size == 0
    assert len(made) == 0


def test_none_is_kept_where_none_may_be() -> None:
    assert put(store(per_key=0), "a", "r1") is None
    made = store()
    made.put("a", {"id": None}, [], None, 0.0)
    assert len(made) == 0


def test_a_response_of_the_same_name_takes_the_place_of_the_first() -> None:
    made = store()
    put(made, "a", "r1")
    size = made.size
    put(made, "a", "r1")
    assert made.size == size
