"""Answers of the Responses API, passed on as the bytes they came in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers._openai.responses_relay import (
    ResponsesRelay,
    WholeResponseRelay,
    responses_relay,
)
from gateway.upstreams.chat import Usage
from gateway.upstreams.errors import Kind

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
}
WHOLE = {"id": "resp_1", "status": "completed", "output": [], "usage": USAGE}


def event(kind: str, number: int = 0, **more: Any) -> bytes:
    data = orjson.dumps({"type": f"response.{kind}", "sequence_number": number, **more})
    return f"event: response.{kind}\n".encode() + b"data: " + data + b"\n\n"


CREATED = event("created", 0, response={"id": "resp_1", "status": "in_progress"})
DELTA = event("output_text.delta", 4, delta='say "sequence_number": 99')
COMPLETED = event("completed", 9, response=WHOLE)


def test_bytes_are_passed_on_and_the_end_is_known() -> None:
    reader = ResponsesRelay()
    first = reader.feed(CREATED)
    assert first.forward == CREATED
    assert not first.content
    assert not first.progress
    said = reader.feed(DELTA)
    assert said.content
    assert said.progress
    assert reader.number == 5
    assert reader.feed(DELTA + b": ping\n\n").forward == DELTA + b": ping\n\n"
    last = reader.feed(COMPLETED)
    assert last.finished
    assert last.forward == COMPLETED
    assert last.usage == Usage(20, 9, cached=8, reasoning=5)
    assert reader.response["id"] == "resp_1"
    assert reader.feed(b"more").finished


@pytest.mark.parametrize(
    "kind", ["reasoning_text.delta", "web_search_call.searching", "output_item.added"]
)
def test_work_is_no_content(kind: str) -> None:
    heard = ResponsesRelay().feed(event(kind, delta="x"))
    assert heard.progress
    assert not heard.content


def test_a_whole_call_is_content() -> None:
    assert ResponsesRelay().feed(event("output_item.done", item={"type": "function_call"})).content


def test_an_answer_that_is_cut_short_is_an_end() -> None:
    heard = ResponsesRelay().feed(event("incomplete", response={**WHOLE, "status": "incomplete"}))
    assert heard.finished
    assert heard.content


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"data: {oops\n\n", Kind.PROTOCOL_ERROR),
        (b"data: [1]\n\n", Kind.PROTOCOL_ERROR),
        (b'data: {"a": 1}\n\n', Kind.PROTOCOL_ERROR),
        (b'event: error\ndata: {"error": {"message": "x"}}\n\n', Kind.UPSTREAM_ERROR),
        (b'data: {"type": "error", "code": "rate_limit_exceeded", "message": "x"}\n\n',
         Kind.RATE_LIMITED),
        (event("failed", response={"error": {"code": "server_error", "message": "x"}}),
         Kind.UPSTREAM_ERROR),
    ],
)  # fmt: skip
def test_a_failure_is_known_and_not_passed_on(data: bytes, kind: Kind) -> None:
    heard = ResponsesRelay().feed(data)
    assert heard.failure is not None
    assert heard.failure.kind is kind
    assert not heard.forward


def test_a_stream_that_ends_early_is_no_answer() -> None:
    reader = ResponsesRelay()
    reader.feed(CREATED + DELTA)
    heard = reader.finish()
    assert heard.failure is not None
    assert heard.failure.kind is Kind.CONNECTION_LOST


def test_pieces_are_put_together() -> None:
    reader, out = ResponsesRelay(), b""
    stream = CREATED + DELTA + COMPLETED
    for at in range(0, len(stream), 7):
        heard = reader.feed(stream[at : at + 7])
        assert heard.failure is None
        out += heard.forward
    assert out == stream


def test_an_event_without_end_is_refused() -> None:
    heard = ResponsesRelay().feed(b"data: " + b"x" * (2 << 20))
    assert heard.failure is not None


def test_an_answer_at_once_is_passed_on_as_it_came() -> None:
    body = orjson.dumps(WHOLE)
    reader = responses_relay(stream=False)
    assert isinstance(reader, WholeResponseRelay)
    reader.feed(body[:10])
    reader.feed(body[10:])
    heard = reader.finish()
    assert heard.forward == body
    assert heard.finished
    assert heard.usage is not None
    assert reader.response["id"] == "resp_1"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"[]", b"{}", b'{"status": "failed", "error": {"message": "x"}, "output": []}',
        b'{"status": "queued", "output": []}', b'{"status": "completed"}',
    ],
)  # fmt: skip
def test_what_is_no_whole_response_is_a_failure(body: bytes) -> None:
    reader = WholeResponseRelay()
    reader.feed(body)
    assert reader.finish().failure is not None


def test_an_answer_without_end_is_refused() -> None:
    assert WholeResponseRelay().feed(b"x" * (17 << 20)).failure is not None
