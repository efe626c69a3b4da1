"""The Messages API, both ways."""

from typing import Any

import orjson
import pytest

from gateway.providers.anthropic import VENDOR, AnthropicChat, Settings, to_messages
from gateway.upstreams.chat import ChatRequest, ReaderUpdate, Usage
from gateway.upstreams.errors import FailureError, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account

ATTEMPT = Attempt("anthropic", "claude-haiku-4-5")


def upstream(**settings: Any) -> AnthropicChat:
    account = Account("anthropic", "anthropic", "http://a", "k", settings=Settings(**settings))
    return AnthropicChat(account)


def asked(**body: Any) -> dict[str, Any]:
    whole = {"messages": [{"role": "user", "content": "hi"}], **body}
    return to_messages(whole, "claude-x", 4096)


def test_a_conversation_is_hoisted_merged_and_alternates() -> None:
    made = asked(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "t1", "function": {"name": "f", "arguments": '{"x":1}'}},
                    {"id": "t2", "function": {"name": "g", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "one"},
            {"role": "user", "content": "and?"},
            {"role": "tool", "tool_call_id": "t2", "content": ""},
            {"role": "assistant", "content": "Well "},
        ]
    )
    assert made["system"] == "Be brief.\nBe kind."
    assert made["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "..."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "t2"},
                {"type": "text", "text": "and?"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Well "}]},
        {"role": "user", "content": [{"type": "text", "text": "..."}]},
    ]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://x/y.png", {"type": "url", "url": "https://x/y.png"}),
        (
            "data:image/png;base64,QUJD",
            {"type": "base64", "media_type": "image/png", "data": "QUJD"},
        ),
    ],
)
def test_images_go_along(url: str, source: dict[str, Any]) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    (message,) = asked(messages=[{"role": "user", "content": [part]}])["messages"]
    assert message["content"] == [{"type": "image", "source": source}]


@pytest.mark.parametrize(
    ("choice", "parallel", "made"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", None, {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools_is_put_in_its_words(
    choice: Any, parallel: bool | None, made: dict[str, Any] | None
) -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    sent = asked(
        tools=[{"type": "function", "function": function}],
        tool_choice=choice,
        parallel_tool_calls=parallel,
    )
    assert sent.get("tool_choice") == made
    assert sent["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}
    ]


def test_parameters_are_put_in_its_words() -> None:
    sent = asked(
        max_completion_tokens=9,
        stop="x",
        temperature=1.5,
        top_p=0.5,
        reasoning_effort="high",
        service_tier="default",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}},
        seed=1,
        logit_bias={},
        n=1,
    )
    assert sent["max_tokens"] == 9
    assert sent["stop_sequences"] == ["x"]
    assert sent["temperature"] == 1.0
    assert "top_p" not in sent
    assert sent["output_config"] == {
        "effort": "high",
        "format": {"type": "json_schema", "schema": {"a": 1}},
    }
    assert sent["service_tier"] == "standard_only"
    assert not {"seed", "logit_bias", "n", "response_format", "stop"} & set(sent)
    assert asked()["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("model", "version", "kept"),
    [
        ("claude-haiku-4-5", "2023-06-01", True),
        ("claude-opus-4-7", "2023-06-01", False),
        ("claude-haiku-4-5", "2026-10-21", False),
    ],
)
def test_a_temperature_is_sent_only_to_those_who_take_one(
    model: str, version: str, kept: bool
) -> None:
    request = ChatRequest(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.5},
        "m",
        True,
    )
    dial = upstream(version=version).dial(request, Attempt("anthropic", model))
    assert ("temperature" in orjson.loads(dial.body)) is kept


def test_the_key_stands_in_its_header_and_the_path_is_made_once() -> None:
    account = VENDOR.account(
        "a", Settings(type="anthropic", base_url="https://api.anthropic.com/v1", api_key="k")
    )
    request = ChatRequest({"model": "m", "messages": []}, "m", True)
    dial = AnthropicChat(account).dial(request, ATTEMPT)
    assert dial.url == "https://api.anthropic.com/v1/messages"
    assert dial.headers["x-api-key"] == "k"


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-haiku-4-5",
        "usage": {
            "input_tokens": 11,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    },
}
STOP = {"type": "message_stop"}


def text(piece: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": piece},
    }


def ending(reason: str) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason},
        "usage": {"output_tokens": 17},
    }


def play(*events: dict[str, Any], stream: bool = True) -> tuple[list[dict[str, Any]], ReaderUpdate]:
    request = ChatRequest({"model": "m", "messages": []}, "m", stream, id="chatcmpl-1")
    reader = upstream().reader(request, ATTEMPT)
    out, heard = b"", ReaderUpdate()
    for event in events:
        heard = reader.feed(b"event: x\ndata: " + orjson.dumps(event) + b"\n\n")
        out += heard.forward
        if heard.failure or heard.finished:
            break
    else:
        heard = reader.finish()
    if not stream:
        return [orjson.loads(out)], heard
    lines = [line[6:] for line in out.splitlines() if line.startswith(b"data: {")]
    return [orjson.loads(line) for line in lines], heard


def tool(index: int, call_id: str, *pieces: str) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": call_id, "name": "f", "input": {}}
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *(
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": index},
    ]


def test_text_calls_and_usage_come_out_as_chunks() -> None:
    chunks, heard = play(
        START,
        {"type": "ping"},
        text("One "),
        text("moment."),
        *tool(1, "t1", '{"x"', ":1}"),
        *tool(2, "t2", ""),
        {"type": "new_thing", "content_block": {"type": "odd"}},
        ending("tool_use"),
        STOP,
    )
    assert heard.finished
    said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks[:2])
    assert said == "One moment."
    calls = [
        (c["index"], c["id"], c["function"]["arguments"])
        for one in chunks
        for choice in one["choices"]
        for c in choice["delta"].get("tool_calls", ())
    ]
    assert calls == [(0, "t1", '{"x":1}'), (1, "t2", "{}")]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (17, 17)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 2}
    assert heard.usage == Usage(17, 17, cached=4, cache_write=2)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_reasons_to_stop_are_put_in_openais_words(reason: str, finish: str) -> None:
    chunks, _ = play(START, text("x"), ending(reason), STOP)
    assert chunks[1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("kind_text", "kind"),
    [
        ("overloaded_error", Kind.OVERLOADED),
        ("rate_limit_error", Kind.RATE_LIMITED),
        ("authentication_error", Kind.UPSTREAM_AUTH),
        ("invalid_request_error", Kind.REQUEST_REFUSED),
        ("api_error", Kind.UPSTREAM_ERROR),
    ],
)
def test_an_error_event_is_judged_by_its_type(kind_text: str, kind: Kind) -> None:
    error = {"type": "error", "error": {"type": kind_text, "message": "m"}}
    _, heard = play(START, error)
    assert heard.failure is not None
    assert heard.failure.kind is kind
    assert not heard.content


def test_a_cut_stream_or_call_is_a_failure() -> None:
    _, heard = play(START, text("x"))
    assert heard.failure is not None
    assert heard.failure.kind is Kind.CONNECTION_LOST
    _, heard = play(START, *tool(0, "t1", '{"x"'), ending("tool_use"), STOP)
    assert heard.failure is not None
    assert not heard.content


def test_a_reason_to_stop_that_nobody_knows_is_no_success() -> None:
    _, heard = play(START, text("Half a"), ending("something_new"), STOP)
    assert heard.failure is not None


def test_a_call_that_the_length_cut_is_left_out_and_the_length_told() -> None:
    chunks, heard = play(START, text("Hm."), *tool(1, "t1", '{"x"'), ending("max_tokens"), STOP)
    assert heard.finished
    assert [one["choices"][0]["finish_reason"] for one in chunks if one["choices"]][-1] == "length"
    assert not any(one["choices"][0]["delta"].get("tool_calls") for one in chunks if one["choices"])


def test_tokens_are_known_from_the_start_even_if_the_answer_breaks() -> None:
    _, heard = play(START)
    assert heard.usage is not None
    assert heard.usage.prompt == 17


def test_an_answer_that_is_wanted_whole_is_one_object() -> None:
    (answer,), _ = play(START, text("Hello"), ending("end_turn"), STOP, stream=False)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"]["total_tokens"] == 34


PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
TEXT = {"type": "text", "text": "What is in it?"}
USER = {"role": "user", "content": "x"}
INSIDE = {"type": "base64", "data": "QQ=="}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}},
            {"type": "document", "source": {**INSIDE, "media_type": "application/pdf"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,QQ=="}},
            {"type": "image", "source": {**INSIDE, "media_type": "image/jpeg"}},
        ),
    ],
)
def test_parts_are_translated_where_that_is_faithful(
    part: dict[str, Any], block: dict[str, Any]
) -> None:
    (message,) = asked(messages=[{"role": "user", "content": [TEXT, part]}])["messages"]
    assert message["content"] == [TEXT, block]


@pytest.mark.parametrize(
    "part",
    [{"type": "input_audio", "input_audio": {"data": "QQ=="}}, {"type": "file", "file": {}}, 7],
)
def test_a_part_that_has_no_form_here_is_named(part: object) -> None:
    with pytest.raises(FailureError) as refused:
        asked(messages=[{"role": "user", "content": [TEXT, part]}])
    assert refused.value.failure.param == "messages[0].content[1]"
    assert refused.value.failure.kind is Kind.UNABLE


def test_an_image_in_a_tools_result_goes_along() -> None:
    call = {"id": "t1", "function": {"name": "f", "arguments": "{}"}}
    told = {"role": "tool", "tool_call_id": "t1", "content": [TEXT, PNG]}
    made = asked(messages=[USER, {"role": "assistant", "tool_calls": [call]}, told])
    (result,) = made["messages"][2]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image"]


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    made = asked(
        messages=[{"role": "user", "content": "x"}], response_format={"type": "json_object"}
    )
    assert "JSON object" in made["system"]


MARKS = [{"cache_control": {"type": "ephemeral"}}, {"prompt_cache_breakpoint": True}]


@pytest.mark.parametrize("mark", MARKS)
def test_cache_marks_survive(mark: dict[str, Any]) -> None:
    made = asked(
        messages=[
            {"role": "system", "content": [{**TEXT, **mark}]},
            {"role": "user", "content": [{**TEXT, **mark}]},
        ]
    )
    marked = {**TEXT, "cache_control": {"type": "ephemeral"}}
    assert made["system"] == [marked]
    assert made["messages"][0]["content"] == [marked]


@pytest.mark.parametrize(
    "odd", [{"tools": 5}, {"stop": 5}, {"reasoning_effort": []}, {"reasoning_effort": {}}]
)
def test_what_no_caller_should_send_does_not_raise(odd: dict[str, Any]) -> None:
    asked(
        messages=[{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": 5}], **odd
    )


def test_a_whole_answer_is_read_as_a_streamed_one() -> None:
    answer = {
        "id": "msg_1",
        "model": "claude",
        "content": [
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2},
    }
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", False)
    of = upstream().reader(request, Attempt("anthropic", "claude"))
    assert not of.streamed
    of.feed(orjson.dumps(answer))
    heard = of.finish()
    message = orjson.loads(heard.forward)["choices"][0]["message"]
    assert message["content"] == "Hello"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert heard.usage is not None
    assert (heard.usage.prompt, heard.usage.cached) == (5, 2)
