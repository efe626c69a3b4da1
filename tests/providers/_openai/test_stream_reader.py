"""Streams that are not clean come out as LiveKit's client needs them."""

import gzip
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from gateway.providers._openai.stream_reader import EventReader, openai_reader
from gateway.providers._openai.tool_calls import CALLS_MAX
from gateway.providers._shared.sse import EVENT_BYTES_MAX
from gateway.upstreams.chat import ChatRequest, ReaderUpdate, Usage
from gateway.upstreams.errors import Kind

DONE = b"data: [DONE]\n\n"


def a_request(*, stream: bool = True, usage: bool = True) -> ChatRequest:
    return ChatRequest(
        {"model": "m", "messages": [{}]}, "m", stream, usage=usage, id="chatcmpl-req_1", created=7
    )


def reader(**kwargs: Any) -> EventReader:
    return openai_reader(a_request(), "m-1", **kwargs)


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "c", "choices": [choice], **more}) + b"\n\n"


def call(
    index: int | None, call_id: str | None, name: str | None, arguments: Any = None
) -> dict[str, Any]:
    entry: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return entry | {k: v for k, v in (("index", index), ("id", call_id)) if v is not None}


def play(of: EventReader, pieces: Iterable[bytes]) -> tuple[list[dict[str, Any]], ReaderUpdate]:
    """The chunks that come out, and the last thing heard."""
    out, heard = b"", ReaderUpdate()
    for piece in pieces:
        heard = of.feed(piece)
        out += heard.forward
        if heard.failure is not None or heard.finished:
            break
    else:
        heard = of.finish()
        out += heard.forward
    lines = [line[6:] for line in out.splitlines() if line.startswith(b"data: ")]
    if heard.failure is None:
        assert lines[-1] == b"[DONE]"
    return [orjson.loads(line) for line in lines if line != b"[DONE]"], heard


def calls_of(chunks: list[dict[str, Any]]) -> list[tuple[int, str, str, str]]:
    return [
        (c["index"], c["id"], c["function"]["name"], c["function"]["arguments"])
        for one in chunks
        for choice in one["choices"]
        for c in choice["delta"].get("tool_calls", ())
    ]


def finish_of(chunks: list[dict[str, Any]]) -> list[str]:
    return [
        choice["finish_reason"]
        for one in chunks
        for choice in one["choices"]
        if choice["finish_reason"]
    ]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for one in chunks for choice in one["choices"]
    )


ONE = call(0, "a", "f", '{"x":1}')
TWO = call(1, "b", "g", "{}")


@pytest.mark.parametrize(
    "deltas",
    [
        [[ONE], [TWO]],
        [[ONE, TWO]],
        [
            [call(0, "a", "f", "")],
            [call(0, None, None, '{"x"')],
            [call(0, None, None, ":1}")],
            [TWO],
        ],
        [[call(0, "a", "f", '{"x":1}')], [call(0, "b", "g", "{}")]],  # same index, other id
        [[call(None, "a", "f", '{"x":1}')], [call(None, "b", "g", "{}")]],
        [[call(3, "a", "f", '{"x":1}')], [call(1, "b", "g", "{}")]],
        [[call(0, "a", "f", '{"x":')], [call(0, "a", "f", "1}")], [TWO]],  # name repeated
        [[call(0, "a", "f", {"x": 1})], [call(1, "b", "g", {})]],  # objects
        [[call(0, "a", "f", '{"x":1}')], [call(1, "b", "g", "")]],  # empty arguments
        [[call(0, "a", "f")], [call(1, "b", "g")], [call(0, None, None, '{"x":1}')]],  # in turns
    ],
)
def test_calls_come_out_whole_numbered_and_named_once(deltas: list[Any]) -> None:
    chunks, heard = play(
        reader(), [*(chunk({"tool_calls": one}) for one in deltas), chunk({}, "tool_calls"), DONE]
    )
    assert heard.finished
    assert calls_of(chunks) == [(0, "a", "f", '{"x":1}'), (1, "b", "g", "{}")]
    assert finish_of(chunks) == ["tool_calls"]


@pytest.mark.parametrize(
    "deltas",
    [
        [[call(0, None, "f", "{}")], [call(0, None, "g", "{}")]],
        [[call(None, "", "f", "{}"), call(None, "", "g", "{}")]],
        [[call(0, None, "f", "{}"), call(0, None, "f", '{"again":1}')]],
    ],
)
def test_calls_without_an_id_get_one_each(deltas: list[Any]) -> None:
    chunks, _ = play(reader(), [*(chunk({"tool_calls": d}) for d in deltas), chunk({}, "stop")])
    first, second = calls_of(chunks)
    assert first[1]
    assert second[1]
    assert first[1] != second[1]


@pytest.mark.parametrize(
    "finish", ["stop", "tool_calls", "eos", "function_call", "tool_use", "TOOL_CALL"]
)
def test_calls_always_finish_as_calls(finish: str) -> None:
    chunks, _ = play(reader(), [chunk({"tool_calls": [ONE]}), chunk({}, finish), DONE])
    assert finish_of(chunks) == ["tool_calls"]


@pytest.mark.parametrize(
    ("finish", "told"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("sensitive", "content_filter"),
        ("tool_calls", "stop"),
        ("MAX_TOKENS", "length"),
    ],
)
def test_a_finish_reason_is_told_in_openais_words(finish: str, told: str) -> None:
    chunks, _ = play(reader(), [chunk({"content": "x"}), chunk({}, finish), DONE])
    assert finish_of(chunks) == [told]


def test_an_empty_finish_reason_ends_calls_and_nothing_else() -> None:
    chunks, heard = play(reader(), [chunk({"tool_calls": [ONE]}, ""), DONE])
    assert heard.finished
    assert finish_of(chunks) == ["tool_calls"]
    _, heard = play(reader(), [chunk({"content": "x"}, ""), chunk({}, ""), DONE])
    assert heard.failure is not None


@pytest.mark.parametrize(
    "bad",
    [
        b"error: out of memory\n\n",
        b'event: error\ndata: {"status": 500, "reason": "out of memory"}\n\n',
        b'data: {"object": "error", "message": "out of memory", "code": 500}\n\n',
        b'data: {"detail": "out of memory"}\n\n',
        chunk({}, "abort"),
        chunk({}, "insufficient_system_resource"),
    ],
)
@pytest.mark.parametrize("before", [[], [chunk({"content": "Half a"})]])
def test_what_is_not_understood_is_no_success(bad: bytes, before: list[bytes]) -> None:
    _, heard = play(reader(), [*before, bad, DONE])
    assert heard.failure is not None
    assert not heard.finished


def test_done_without_a_finish_reason_is_no_success() -> None:
    _, heard = play(reader(), [chunk({"content": "Half a"}), DONE])
    assert heard.failure is not None


def test_comments_pings_and_empty_deltas_are_no_progress() -> None:
    of = reader()
    assert of.feed(chunk({"content": "x"})).progress
    empty = chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]})
    beats = (b": ping\n\n", chunk({"content": ""}), chunk({}), empty, b"data: {}\n\n")
    assert not any(of.feed(beat).progress for beat in beats)


def test_a_finish_reason_says_that_only_the_end_is_to_come() -> None:
    of = reader()
    assert not of.feed(chunk({"tool_calls": [ONE]})).ending
    heard = of.feed(chunk({}, "tool_calls"))
    assert (heard.ending, heard.forward) == (True, b"")
    heard = of.finish()
    assert heard.finished
    assert b'"name":"f"' in heard.forward


WHOLE = orjson.dumps(
    {
        "id": "c",
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello", "tool_calls": [ONE]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
)


@pytest.mark.parametrize("packed", [WHOLE, b"\xef\xbb\xbf\n " + WHOLE, gzip.compress(WHOLE)])
def test_one_json_answer_to_a_request_for_a_stream_is_streamed(packed: bytes) -> None:
    chunks, heard = play(reader(), [packed[:1], packed[1:9], packed[9:]])
    assert heard.finished
    assert text_of(chunks) == "Hello"
    assert calls_of(chunks) == [(0, "a", "f", '{"x":1}')]
    assert heard.usage == Usage(3, 4)


def test_a_gzipped_stream_is_read() -> None:
    packed = gzip.compress(chunk({"content": "Hello"}) + chunk({}, "stop") + DONE)
    chunks, heard = play(reader(), [packed[:1], packed[1:20], packed[20:]])
    assert heard.finished
    assert text_of(chunks) == "Hello"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><h1>Sign in</h1>", Kind.PROTOCOL_ERROR),
        (b'{"error": {"message": "m", "code": 429}}', Kind.RATE_LIMITED),
        (b'[{"error": {"message": "m", "code": 429}}]', Kind.RATE_LIMITED),
        (b'{"message": "m", "code": 429}', Kind.RATE_LIMITED),
        (b'["x"]', Kind.PROTOCOL_ERROR),
        (b'{"x": ', Kind.PROTOCOL_ERROR),
        (b"\x1f\x8bxxxxxxxxxxx", Kind.PROTOCOL_ERROR),
        (b"", Kind.CONNECTION_LOST),
    ],
)
def test_a_good_status_does_not_make_an_answer(body: bytes, kind: Kind) -> None:
    _, heard = play(reader(), [body] if body else [])
    assert heard.failure is not None
    assert heard.failure.kind is kind


def test_a_stream_in_answer_to_a_plain_request_is_put_together() -> None:
    of = openai_reader(a_request(stream=False), "m-1", streamed=False)
    assert not of.streamed
    heard = of.feed(chunk({"content": "Hello"}) + chunk({}, "stop") + DONE)
    assert orjson.loads(heard.forward)["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("made", [{"choices": 5}, {"choices": True}, {"choices": 0.5}])
def test_choices_that_are_none_are_none(made: dict[str, Any]) -> None:
    heard = reader().feed(b"data: " + orjson.dumps(made) + b"\n\n")
    assert heard.failure is None


def test_counts_that_no_database_takes_are_not_counted() -> None:
    usage = {"prompt_tokens": 9223372036854775808, "completion_tokens": 6}
    _, heard = play(reader(), [chunk({"content": "x"}, "stop", usage=usage), DONE])
    assert heard.usage == Usage(0, 6)


@pytest.mark.parametrize("ending", [[], [DONE]])
def test_a_stream_that_ends_without_anything_is_broken_off(ending: list[bytes]) -> None:
    _, heard = play(reader(), [chunk({"role": "assistant"}), *ending])
    assert heard.failure is not None
    assert heard.failure.kind is Kind.CONNECTION_LOST


def test_a_call_that_was_cut_by_the_length_is_left_out_and_the_length_is_told() -> None:
    cut = call(1, "b", "g", '{"y":')
    pieces = [chunk({"tool_calls": [ONE]}), chunk({"tool_calls": [cut]}), chunk({}, "length"), DONE]
    chunks, heard = play(reader(), pieces)
    assert heard.finished
    assert calls_of(chunks) == [(0, "a", "f", '{"x":1}')]
    assert finish_of(chunks) == ["length"]


@pytest.mark.parametrize(
    "bad",
    [
        call(0, "a", "f", '{"x":'),
        call(0, "a", "f", "[1]"),
        call(0, "a", "f", "nothing"),
        call(0, "a", "", "{}"),
    ],
)
def test_a_call_that_cannot_be_run_is_a_failure_before_anything_is_let_go(
    bad: dict[str, Any],
) -> None:
    _, heard = play(reader(), [chunk({"tool_calls": [bad]}), chunk({}, "tool_calls"), DONE])
    assert heard.failure is not None
    assert not heard.content


def test_thoughts_that_end_in_the_content_are_not_said() -> None:
    of = openai_reader(a_request(), "deepseek-r1:7b")
    pieces = [chunk({"content": one}) for one in ("I should", " greet.</th", "ink>\n\n", "Hello")]
    chunks, _ = play(of, [*pieces, chunk({}, "stop"), DONE])
    assert text_of(chunks) == "Hello"


def test_a_model_that_showed_that_it_thinks_aloud_is_known_the_next_time() -> None:
    shown: list[bool] = []
    of = openai_reader(a_request(), "m", on_unpaired=lambda: shown.append(True))
    play(of, [chunk({"content": "Hm.</think>Hello"}), chunk({}, "stop"), DONE])
    assert shown == [True]
    chunks, _ = play(
        openai_reader(a_request(), "m", thinks=True),
        [chunk({"content": "Hm."}), chunk({"content": "</think>Hello"}), chunk({}, "stop"), DONE],
    )
    assert text_of(chunks) == "Hello"


def test_nothing_of_a_call_is_passed_on_before_it_is_whole_but_work_is_seen() -> None:
    of = reader()
    heard = of.feed(chunk({"tool_calls": [call(0, "a", "f", '{"x":')]}))
    assert (heard.forward, heard.content, heard.progress) == (b"", False, True)


USAGE = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk({}, "stop", usage=USAGE)],
        [chunk({}, "stop"), chunk(None, None, usage=USAGE)],
        [chunk({}, "stop"), b"data: " + orjson.dumps({"choices": [], "usage": USAGE}) + b"\n\n"],
        [chunk({}, "stop", x_groq={"usage": USAGE})],
        [chunk({}, None, usage={**USAGE, "completion_tokens": 1}), chunk({}, "stop", usage=USAGE)],
        [
            b"data: "
            + orjson.dumps({"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]})
            + b"\n\n"
        ],
    ],
)
def test_wherever_usage_stands_it_comes_once_after_the_finish(pieces: list[bytes]) -> None:
    chunks, heard = play(reader(), [chunk({"content": "x"}), *pieces, DONE])
    assert [one for one in chunks if "usage" in one] == [chunks[-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 15
    assert heard.usage == Usage(9, 6)


def test_reasoning_is_counted_inside_what_was_written() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 40,
        "completion_tokens_details": {"reasoning_tokens": 25},
    }
    chunks, _ = play(reader(), [chunk({"content": "x"}, "stop", usage=usage), DONE])
    told = chunks[-1]["usage"]
    assert (told["completion_tokens"], told["total_tokens"]) == (30, 40)


def test_a_client_that_did_not_ask_for_usage_gets_none_and_we_know_it_all_the_same() -> None:
    of = openai_reader(a_request(usage=False), "m-1")
    chunks, heard = play(of, [chunk({"content": "x"}, "stop", usage=USAGE), DONE])
    assert not any("usage" in one for one in chunks)
    assert heard.usage == Usage(9, 6)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_no_content(name: str) -> None:
    of = reader()
    heard = of.feed(chunk({name: "hm"}))
    assert (heard.content, heard.progress) == (False, True)
    chunks, _ = play(of, [chunk({"content": "x"}, "stop"), DONE])
    assert text_of(chunks) == "x"


def test_thoughts_in_parts_of_the_content_are_kept_apart() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    said = [{"type": "text", "text": "Hello"}]
    chunks, _ = play(reader(), [chunk({"content": parts}), chunk({"content": said}, "stop"), DONE])
    assert text_of(chunks) == "Hello"


def test_thoughts_that_a_provider_wants_back_travel_with_the_call() -> None:
    of = reader(carry_reasoning=True)
    chunks, _ = play(
        of, [chunk({"reasoning_content": "hm"}), chunk({"tool_calls": [ONE]}, "stop"), DONE]
    )
    (made,) = chunks[-2]["choices"][0]["delta"]["tool_calls"]
    assert made["extra_content"] == {"livekit": {"reasoning_content": "hm"}}


def test_geminis_signatures_come_through_on_calls_and_alone() -> None:
    signature = {"google": {"thought_signature": "s"}}
    deltas: list[Any] = [{"content": "x", "extra_content": signature}]
    deltas += [{"tool_calls": [ONE | {"extra_content": signature}]}]
    chunks, _ = play(reader(), [*(chunk(delta) for delta in deltas), chunk({}, "stop"), DONE])
    assert chunks[0]["choices"][0]["delta"]["extra_content"] == signature
    (made,) = chunks[-2]["choices"][0]["delta"]["tool_calls"]
    assert made["extra_content"] == signature


def test_geminis_thoughts_are_not_said() -> None:
    thought = {"content": "hm", "extra_content": {"google": {"thought": True}}}
    chunks, _ = play(reader(), [chunk(thought), chunk({"content": "x"}, "stop"), DONE])
    assert text_of(chunks) == "x"


def test_one_id_for_the_whole_answer_and_a_role_once() -> None:
    pieces = [
        b'data: {"choices": [], "id": "", "prompt_filter_results": []}\n\n',
        chunk({"role": "assistant", "content": "a"}),
        b'data: {"id": "other", "choices": [{"index": 0, "delta": {"content": "b"}}]}\n\n',
        chunk(None),
        chunk({}, "stop"),
        DONE,
    ]
    chunks, _ = play(reader(), pieces)
    assert {one["id"] for one in chunks} == {"c"}
    roles = [one["choices"][0]["delta"].get("role") for one in chunks]
    assert roles == ["assistant", None, None]
    assert text_of(chunks) == "ab"


def test_what_is_nobodys_business_is_left_out() -> None:
    pieces = [
        chunk({"content": "a", "token_id": 3}, None, x_groq={"id": "r"}, time_info={"t": 1}),
        chunk({}, "stop", timings={"t": 1}, obfuscation="xx"),
        DONE,
    ]
    chunks, _ = play(reader(), pieces)
    known = {"id", "object", "created", "model", "choices", "usage"}
    assert all(set(one) <= known for one in chunks)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "m", "code": 429}, "choices": []}, Kind.RATE_LIMITED),
        ({"error": {"message": "m"}, "status_code": 429}, Kind.RATE_LIMITED),
        ({"x_groq": {"error": "m"}, "choices": []}, Kind.UPSTREAM_ERROR),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}, Kind.UPSTREAM_ERROR),
        ({"error": {"message": "m", "type": "overloaded_error"}}, Kind.OVERLOADED),
    ],
)
def test_an_error_in_the_stream_is_a_failure_and_ends_nothing_cleanly(
    event: dict[str, Any], kind: Kind
) -> None:
    of = reader()
    of.feed(chunk({"content": "x"}))
    heard = of.feed(b"data: " + orjson.dumps(event) + b"\n\n")
    assert heard.failure is not None
    assert heard.failure.kind is kind
    assert b"[DONE]" not in heard.forward


@pytest.mark.parametrize("garbage", [b"data: {\n\n", b"data: 3\n\n", b'data: "x"\n\n'])
def test_garbage_is_nonsense(garbage: bytes) -> None:
    failure = reader().feed(garbage).failure
    assert failure is not None
    assert failure.kind is Kind.PROTOCOL_ERROR


def test_everything_has_a_bound() -> None:
    assert reader().feed(b"data: " + b"x" * (EVENT_BYTES_MAX + 1)).failure is not None
    many = [call(i, f"id{i}", "f", "{}") for i in range(CALLS_MAX + 1)]
    assert reader().feed(chunk({"tool_calls": many})).failure is not None
    of, heard = reader(), ReaderUpdate()
    for _ in range(3):
        heard = of.feed(chunk({"tool_calls": [call(0, "a", "f", "x" * 500_000)]}))
    assert heard.failure is not None


def test_pieces_may_be_cut_anywhere() -> None:
    whole = b": hi\r\n\r\n" + chunk({"content": "äöü"}) + chunk({}, "stop") + DONE
    for cut in range(len(whole)):
        chunks, heard = play(reader(), [whole[:cut], whole[cut:]])
        assert heard.finished
        assert text_of(chunks) == "äöü"


def test_an_answer_that_is_wanted_whole_is_put_together() -> None:
    of = openai_reader(a_request(stream=False), "m-1")
    for piece in (chunk({"reasoning": "hm"}), chunk({"content": "Hel"}), chunk({"content": "lo"})):
        heard = of.feed(piece)
        assert heard.progress
        assert heard.forward == b""
    of.feed(chunk({"tool_calls": [ONE]}))
    heard = of.feed(chunk({}, "stop", usage=USAGE) + DONE)
    assert heard.finished
    answer = orjson.loads(heard.forward)
    (choice,) = answer["choices"]
    assert answer["object"] == "chat.completion"
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Hello"
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert answer["usage"]["total_tokens"] == 15
