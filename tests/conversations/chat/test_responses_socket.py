"""One WebSocket of the Responses API: which response is made when."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.conversations.chat.responses_socket import (
    LANES_MAX,
    WAITING_MAX,
    Close,
    Create,
    Ended,
    EventText,
    ResponsesSocket,
    Say,
)
from gateway.upstreams.events import DEADLINE_PASSED, Binary, ClientLeft, Text


def socket(model: str | None = None) -> ResponsesSocket:
    return ResponsesSocket(model, 60.0, 0.0)


def create(**more: Any) -> Text:
    return Text(orjson.dumps({"type": "response.create", "input": "hi", **more}).decode())


def error(made: list[Any]) -> dict[str, Any]:
    (said,) = made
    assert isinstance(said, Say)
    told: dict[str, Any] = orjson.loads(said.text)
    assert told["type"] == "error"
    return told


def test_a_request_is_that_of_post_and_streams() -> None:
    (made,) = socket("m").handle(create(background=False, generate=True), 1.0)
    assert isinstance(made, Create)
    wanted = {"input": "hi", "generate": True, "stream": True, "model": "m"}
    assert orjson.loads(made.body) == wanted
    (made,) = socket("m").handle(create(model="n"), 1.0)
    assert isinstance(made, Create)
    assert orjson.loads(made.body)["model"] == "n"


def test_responses_of_one_lane_are_made_one_after_the_other() -> None:
    made = socket()
    assert len(made.handle(create(), 0.0)) == 1
    assert made.handle(create(n=2), 0.0) == []
    assert not made.may_end(0.0)
    (second,) = made.handle(Ended(""), 1.0)
    assert isinstance(second, Create)
    assert orjson.loads(second.body)["n"] == 2
    assert made.handle(Ended(""), 2.0) == []
    assert made.may_end(2.0)


def test_lanes_run_side_by_side_and_not_without_end() -> None:
    made = socket()
    begun = [made.handle(create(stream_id=f"s{i}"), 0.0) for i in range(LANES_MAX + 1)]
    assert [len(one) for one in begun] == [1] * LANES_MAX + [0]
    (next_one,) = made.handle(Ended("s3"), 0.0)
    assert isinstance(next_one, Create)
    assert next_one.lane == f"s{LANES_MAX}"


def test_what_waits_is_bounded() -> None:
    made = socket()
    for _ in range(WAITING_MAX + 1):
        made.handle(create(), 0.0)
    assert error(made.handle(create(), 0.0))["status"] == 429


def test_what_cannot_be_read_is_told_and_the_connection_stays() -> None:
    made = socket()
    assert error(made.handle(Text("{oops"), 0.0))["status"] == 400
    assert error(made.handle(Binary(b"x"), 0.0))["status"] == 400
    told = error(made.handle(Text('{"type": "response.steer", "stream_id": "s"}'), 0.0))
    assert "'response.steer'" in told["error"]["message"]
    assert told["stream_id"] == "s"
    assert error(made.handle(create(stream_id=7), 0.0))["error"]["param"] == "stream_id"
    assert len(made.handle(create(), 0.0)) == 1


def test_a_connection_on_which_nothing_moves_is_closed() -> None:
    made = socket()
    made.handle(create(), 10.0)
    assert made.deadline is None
    made.handle(Ended(""), 20.0)
    assert made.deadline == 80.0
    (closed,) = made.handle(DEADLINE_PASSED, 80.0)
    assert isinstance(closed, Close)
    assert made.failure is not None


def test_a_client_that_leaves_ends_it() -> None:
    made = socket()
    (closed,) = made.handle(ClientLeft(), 0.0)
    assert isinstance(closed, Close)
    assert made.left


def test_events_are_cut_into_messages_with_their_lane() -> None:
    cut = EventText("s1")
    assert cut.feed(b': wait\n\nevent: x\ndata: {"a"') == []
    assert cut.feed(b":1}\n\ndata: [DONE]\n\n") == ['{"stream_id":"s1","a":1}']
    assert EventText("").feed(b'data: {"a":1}\n\n') == ['{"a":1}']
