"""The gateway's own answers in OpenAI's form keep the rules of its clients."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.providers._openai.chunk_writer import EXTRA_BYTES_MAX, Call, Writer
from gateway.upstreams.chat import ChatRequest, ReaderUpdate, Usage


def writer(*, stream: bool = True, usage: bool = True) -> Writer:
    return Writer(ChatRequest({}, "m", stream, usage=usage, id="chatcmpl-9", created=5), "m-1")


def sent(one: Writer) -> list[Any]:
    """The events written so far; the last of a whole stream is the text [DONE]."""
    lines = one.take(ReaderUpdate()).forward.decode().split("\n\n")[:-1]
    data = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else orjson.loads(text) for text in data]


def body(one: Writer) -> Any:
    return orjson.loads(one.take(ReaderUpdate()).forward)


def delta(chunk: Any) -> Any:
    return chunk["choices"][0]["delta"]


def test_every_chunk_of_a_stream_has_one_id_and_the_first_has_the_role() -> None:
    one = writer()
    one.begin("their-id", "their-model", 7)
    one.begin("another-id")
    one.text("a")
    one.text("b")
    first, second = sent(one)
    assert delta(first) == {"role": "assistant", "content": "a"}
    assert delta(second) == {"content": "b"}
    assert [(c["id"], c["model"], c["created"]) for c in (first, second)] == [
        ("their-id", "their-model", 7)
    ] * 2


def test_a_provider_that_names_nothing_gets_the_requests_own_id() -> None:
    one = writer()
    one.text("a")
    (chunk,) = sent(one)
    assert (chunk["id"], chunk["model"], chunk["created"]) == ("chatcmpl-9", "m-1", 5)


def test_a_stream_ends_with_its_reason_its_usage_and_done() -> None:
    one = writer()
    one.text("a")
    one.usage(Usage(10, 5, cached=4, reasoning=2), "flex")
    one.end("eos")
    _, last, tokens, done = sent(one)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert tokens["choices"] == []
    assert tokens["usage"]["total_tokens"] == 15
    assert tokens["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert tokens["service_tier"] == "flex"
    assert done == "[DONE]"


def test_usage_is_withheld_from_who_did_not_ask() -> None:
    one = writer(usage=False)
    one.usage(Usage(1, 1))
    one.end("stop")
    assert not [chunk for chunk in sent(one) if chunk != "[DONE]" and "usage" in chunk]
    assert one.reported == Usage(1, 1)


def test_an_answer_of_nothing_still_has_a_first_chunk() -> None:
    one = writer()
    one.end("stop")
    first, *_ = sent(one)
    assert delta(first) == {"role": "assistant", "content": ""}
    assert one.empty


def test_calls_are_numbered_and_named_and_change_the_reason() -> None:
    one = writer()
    one.call(Call("", "f", ""))
    one.call(Call("b", "g", '{"a":1}'))
    one.end("stop")
    first, second, last, _ = sent(one)
    (call,) = delta(first)["tool_calls"]
    assert (call["index"], call["id"]) == (0, "call_9_0")
    assert call["function"] == {"name": "f", "arguments": "{}"}
    assert delta(second)["tool_calls"][0]["index"] == 1
    assert last["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("tool_calls", "stop"),
        ("max_tokens", "length"),
        ("sensitive", "content_filter"),
    ],
)
def test_a_reason_fits_what_was_said(reason: str, told: str) -> None:
    one = writer()
    one.text("a")
    one.end(reason)
    assert sent(one)[1]["choices"][0]["finish_reason"] == told


def test_thoughts_are_never_content() -> None:
    one = writer()
    one.reasoning("hm")
    update = one.take(ReaderUpdate())
    assert (update.content, update.progress) == (False, True)
    assert b"reasoning_content" in update.forward


def test_thoughts_travel_with_a_call_while_they_are_short() -> None:
    one = writer(stream=False)
    one.reasoning("hm")
    one.call(Call("a", "f", "{}"), with_reasoning=True)
    one.reasoning("x" * EXTRA_BYTES_MAX)
    one.call(Call("b", "f", "{}"), with_reasoning=True)
    one.end("stop")
    short, long = body(one)["choices"][0]["message"]["tool_calls"]
    assert short["extra_content"] == {"livekit": {"reasoning_content": "hm"}}
    assert "extra_content" not in long


def test_an_answer_that_is_not_streamed_is_one_body() -> None:
    one = writer(stream=False)
    one.text("Hel", {"content": [{"token": "Hel"}]})
    one.text("lo")
    one.state({"google": {"thought_signature": "s"}})
    one.usage(Usage(1, 2, cache_write=3))
    assert one.take(ReaderUpdate()).forward == b""
    one.end("stop")
    answer = body(one)
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "extra_content": {"google": {"thought_signature": "s"}},
    }
    assert choice["logprobs"] == {"content": [{"token": "Hel"}]}
    assert answer["usage"]["prompt_tokens_details"]["cache_write_tokens"] == 3
    assert answer["object"] == "chat.completion"


def test_a_refusal_has_a_place_of_its_own() -> None:
    streamed, whole = writer(), writer(stream=False)
    for one in (streamed, whole):
        one.refusal("I cannot")
        assert not one.empty
        one.end("content_filter")
    assert delta(sent(streamed)[0])["refusal"] == "I cannot"
    assert body(whole)["choices"][0]["message"]["refusal"] == "I cannot"


def test_work_that_cannot_be_shown_yet_is_progress_once() -> None:
    one = writer()
    one.work()
    assert one.take(ReaderUpdate()).progress is True
    assert one.take(ReaderUpdate()).progress is False
