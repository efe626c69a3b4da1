"""The byte relay: what goes through, what is noticed, what is held."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._openai.byte_relay import StreamRelay, WholeRelay
from gateway.providers._shared.sse import EVENT_BYTES_MAX
from gateway.upstreams.chat import ReaderUpdate, Usage
from gateway.upstreams.errors import Kind


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: object) -> bytes:
    chunk = {
        "id": "chatcmpl-7",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        "usage": None,
        **more,
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
HELLO = event({"content": "Hello"})
FINISH = event({}, "stop")
USAGE = event(
    choices=[],
    usage={
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
)
DONE = b"data: [DONE]\n\n"


def test_bytes_come_out_as_they_went_in_however_they_were_cut() -> None:
    stream = ROLE + HELLO + event({"content": ' "error" [DONE] "usage":{'}) + FINISH + USAGE + DONE
    for size in (1, 7, 64, 1 << 20):
        relay = StreamRelay()
        heard = [relay.feed(stream[i : i + size]) for i in range(0, len(stream), size)]
        assert b"".join(h.forward for h in heard) == stream
        assert [h.failure for h in heard if h.failure] == []
        assert any(h.content for h in heard)
        assert [h.usage for h in heard if h.usage] == [Usage(9, 2, cached=4, reasoning=1)]
        assert any(h.finished for h in heard)


ODD = (
    event({"reasoning_content": "hm"}),
    event({"content": ' "error" [DONE] "usage":{'}),
    event(None),
    event({"content": "x"}, usage={"prompt_tokens": 3}),
    b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"y"}}]}\n\n',
    b": waiting\n\n",
    b"\n",
    b'event: error\ndata: {"message": "no"}\n\n',
    b'data: {"error": {"message": "no"}}\n\n',
    FINISH,
    DONE,
)


@given(st.lists(st.sampled_from((ROLE, HELLO, HELLO, HELLO, *ODD)), max_size=12))
def test_events_in_one_piece_are_heard_as_they_are_one_by_one(events: list[bytes]) -> None:
    def told(pieces: list[bytes]) -> tuple[object, ...]:
        relay = StreamRelay()
        forward, usage, failure = b"", None, None
        for piece in pieces:
            heard = relay.feed(piece)
            forward += heard.forward
            usage = heard.usage or usage
            failure = heard.failure
            if failure is not None or heard.finished:
                break
        return forward, usage, failure

    assert told([b"".join(events)]) == told(events)


def test_a_role_is_no_content_and_text_is() -> None:
    relay = StreamRelay()
    assert not relay.feed(ROLE).content
    assert relay.feed(HELLO).content


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f"}}]},
        {"content": "x"},
        {"refusal": "no"},
    ],
)
def test_what_a_caller_acts_on_is_content(delta: dict[str, Any]) -> None:
    assert StreamRelay().feed(event(delta)).content


@pytest.mark.parametrize("delta", [None, {}, {"content": None}, {"reasoning_content": "hm"}])
def test_what_a_caller_ignores_is_no_content(delta: dict[str, Any] | None) -> None:
    assert not StreamRelay().feed(event(delta)).content


def test_a_stream_that_ends_without_a_finish_is_broken_off() -> None:
    relay = StreamRelay()
    relay.feed(ROLE + HELLO)
    failure = relay.finish().failure
    assert failure is not None
    assert failure.kind is Kind.CONNECTION_LOST


def test_a_finish_without_done_is_a_success_and_done_is_added() -> None:
    relay = StreamRelay()
    relay.feed(HELLO + FINISH)
    heard = relay.finish()
    assert heard.failure is None
    assert heard.finished
    assert heard.forward == DONE


def test_a_last_line_without_a_line_end_is_read() -> None:
    relay = StreamRelay()
    relay.feed(HELLO + FINISH + b"data: [DONE]")
    heard = relay.finish()
    assert heard.finished
    assert heard.forward.startswith(b"data: [DONE]")


@pytest.mark.parametrize("null", [b'"delta":null', b'"delta": null'])
def test_a_delta_of_null_is_made_an_object_because_nodes_client_chokes_on_it(null: bytes) -> None:
    relay = StreamRelay()
    relay.feed(HELLO)
    chunk = b'data: {"choices":[{"index":0,' + null + b"}]}\n\n"
    assert relay.feed(chunk).forward == chunk.replace(null, b'"delta":{}')
    said = event({"content": 'he said "delta":null'})
    assert relay.feed(said).forward == said


def test_nothing_counts_after_done() -> None:
    relay = StreamRelay()
    whole = HELLO + FINISH + DONE
    assert relay.feed(whole + event({"content": "late"})).forward == whole
    assert relay.feed(event({"content": "later"})).forward == b""


@pytest.mark.parametrize("before", [b"", HELLO])
def test_an_error_in_the_stream_ends_it_and_is_not_passed_on(before: bytes) -> None:
    error = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
    heard = StreamRelay().feed(before + error)
    assert heard.failure is not None
    assert heard.failure.message == "overloaded"
    assert heard.failure.kind is Kind.UPSTREAM_ERROR
    assert heard.forward == before


def test_an_error_with_an_http_like_code_is_judged_by_it() -> None:
    error = b'data: {"error": {"message": "slow down", "code": 429}}\n\n'
    failure = StreamRelay().feed(error).failure
    assert failure is not None
    assert failure.kind is Kind.RATE_LIMITED


@pytest.mark.parametrize("garbage", [b"data: {no json}\n\n", b"data: 17\n\n", b"data: [1]\n\n"])
def test_an_event_that_is_no_json_object_is_nonsense(garbage: bytes) -> None:
    failure = StreamRelay().feed(ROLE + garbage).failure
    assert failure is not None
    assert failure.kind is Kind.PROTOCOL_ERROR


def test_a_line_without_end_is_refused_at_the_bound() -> None:
    relay = StreamRelay()
    assert relay.feed(b"data: " + b"x" * (EVENT_BYTES_MAX - 6)).failure is None
    failure = relay.feed(b"x").failure
    assert failure is not None
    assert failure.kind is Kind.PROTOCOL_ERROR


def test_comments_are_passed_on_and_are_no_content() -> None:
    heard = StreamRelay().feed(b": waiting\n\n")
    assert heard.forward == b": waiting\n\n"
    assert not heard.content


def test_windows_line_ends_are_understood() -> None:
    relay = StreamRelay()
    assert relay.feed(HELLO.replace(b"\n", b"\r\n")).content
    assert relay.feed((FINISH + DONE).replace(b"\n", b"\r\n")).finished


def test_a_whole_answer_is_passed_on_untouched() -> None:
    body = b'{"id": "1",  "choices": [{"finish_reason": "stop"}], '
    body += b'"usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
    relay = WholeRelay()
    relay.feed(body[:10])
    relay.feed(body[10:])
    heard = relay.finish()
    assert heard.forward == body
    assert heard.usage == Usage(3, 4)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1, 2]", b'{"error": {"message": "no"}}'])
def test_a_whole_answer_that_is_none_is_a_failure(body: bytes) -> None:
    relay = WholeRelay()
    relay.feed(body)
    assert relay.finish().failure is not None


def relayed(*pieces: bytes) -> tuple[bytes, ReaderUpdate]:
    """All that is forwarded, and the last thing heard."""
    relay, out, heard = StreamRelay(), b"", ReaderUpdate()
    for piece in pieces:
        heard = relay.feed(piece)
        out += heard.forward
        if heard.failure or heard.finished:
            return out, heard
    heard = relay.finish()
    return out + heard.forward, heard


@pytest.mark.parametrize(
    "bad",
    [
        b"error: out of memory\n\n",
        b'event: error\ndata: {"status": 500, "reason": "out of memory"}\n\n',
        b'data: {"object": "error", "message": "out of memory", "code": 500}\n\n',
        b'data: {"message": "out of memory", "type": "server_error", "code": 500}\n\n',
        b'data: {"detail": "out of memory"}\n\n',
        event({}, "abort"),
        DONE,
        b"data: {\n\n",
    ],
)
@pytest.mark.parametrize("before", [b"", ROLE + HELLO])
def test_what_is_not_understood_is_no_success(bad: bytes, before: bytes) -> None:
    out, heard = relayed(before, bad, DONE)
    assert heard.failure is not None
    assert not heard.finished
    assert out == before
    assert b"[DONE]" not in out


def test_comments_pings_and_empty_deltas_are_no_progress() -> None:
    relay = StreamRelay()
    assert relay.feed(HELLO).progress
    for beat in (b": ping\n\n", event({"content": ""}), event({}), b"event: ping\ndata: {}\n\n"):
        assert not relay.feed(beat).progress
    assert relay.feed(HELLO).progress
    assert relay.feed(event({"reasoning_content": "hm"})).progress
    assert relay.feed(
        event({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]})
    ).progress


def test_a_finish_reason_says_that_only_the_end_is_to_come() -> None:
    relay = StreamRelay()
    assert not relay.feed(HELLO).ending
    assert relay.feed(FINISH).ending
    heard = relay.feed(USAGE)
    assert (heard.ending, heard.usage is not None) == (True, True)
    assert relay.finish().finished


def test_an_event_on_several_lines_is_written_on_one() -> None:
    several = b"data: {\ndata:  " + HELLO[7:-3] + b"\ndata: }\n\n"
    out, heard = relayed(ROLE, several, several, FINISH, DONE)
    assert heard.finished
    assert orjson.loads(out.split(b"\n\n")[1][6:]) == orjson.loads(HELLO[6:])
    assert out.count(b"data: {") == 4


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": [{"finish_reason": "abort"}]}'])
def test_a_whole_answer_without_a_good_ending_is_a_failure(body: bytes) -> None:
    relay = WholeRelay()
    relay.feed(body)
    assert relay.finish().failure is not None
