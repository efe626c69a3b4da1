from __future__ import annotations

from gateway.upstreams.realtime import TokensUsed, server_event


def test_tokens_are_added_kind_by_kind() -> None:
    assert TokensUsed(1, 2, 3, 4, 5, 6) + TokensUsed(10, 20, 30, 40, 50, 60) == TokensUsed(
        11, 22, 33, 44, 55, 66
    )


def test_an_event_of_the_lines_own_is_written_once() -> None:
    event = server_event("x", a=1)
    assert (event.type, event.body, event.text) == (
        "x",
        {"type": "x", "a": 1},
        '{"type":"x","a":1}',
    )
