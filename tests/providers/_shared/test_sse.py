"""Server-sent events: every form that the standard allows, in pieces of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._shared.sse import EVENT_BYTES_MAX, SseEvent, SseOverflowError, SseParser

BODY = (
    b": a comment\n\n"
    b'data: {"a": 1}\n\n'
    b'data:{"b":2}\n\n'
    b"event: error\ndata: {\ndata:  1}\n\n"
    b"id: 7\nretry: 10\ndata: x\n\n\n"
    b"error: out of memory\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    SseEvent("", b'{"a": 1}'),
    SseEvent("", b'{"b":2}'),
    SseEvent("error", b"{\n 1}"),
    SseEvent("", b"x"),
    SseEvent("error", b"out of memory"),
    SseEvent("", b"[DONE]"),
]


def events(body: bytes, cuts: list[int]) -> list[SseEvent]:
    parser, found, begin = SseParser(), [], 0
    for cut in [*sorted(cuts), len(body)]:
        found += parser.feed(body[begin:cut])
        begin = cut
    return found + parser.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_all_line_ends_and_a_byte_order_mark_are_understood(end: bytes, mark: bytes) -> None:
    assert events(mark + BODY.replace(b"\n", end), []) == EVENTS


@given(
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.integers(0, 250), max_size=12),
)
def test_the_pieces_a_body_comes_in_do_not_matter(end: bytes, mark: bytes, cuts: list[int]) -> None:
    body = mark + BODY.replace(b"\n", end)
    assert events(body, [cut for cut in cuts if cut <= len(body)]) == EVENTS


def test_an_event_at_the_end_needs_no_blank_line() -> None:
    assert events(b"data: last", []) == [SseEvent("", b"last")]
    assert events(b"data: last\n", []) == [SseEvent("", b"last")]


def test_an_event_without_data_is_none() -> None:
    assert events(b"event: ping\n\ndata:\n\n: x\n\n", []) == []


def test_an_event_without_end_is_refused_at_its_bound() -> None:
    parser = SseParser()
    parser.feed(b"data: " + b"x" * (EVENT_BYTES_MAX - 6))
    with pytest.raises(SseOverflowError):
        parser.feed(b"x" * 10)
