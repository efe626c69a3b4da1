"""Chat completions by way of /responses, both ways."""

from typing import Any

import orjson
import pytest

from gateway.providers._openai.responses import responses_reader, to_responses
from gateway.upstreams.chat import ChatRequest, ReaderUpdate
from gateway.upstreams.errors import Kind

STATE = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "zzz"}


def test_a_conversation_is_put_as_items() -> None:
    body = {
        "model": "gpt-6.1-sol",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"livekit": {"openai_reasoning": [STATE]}},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "12"},
            {"role": "assistant", "content": [{"type": "text", "text": "Twelve."}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "stop": ["x"],
        "seed": 3,
        "service_tier": "priority",
    }
    made = to_responses(body)
    assert made["input"] == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
            ],
        },
        STATE,
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "12"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Twelve."}]},
    ]
    assert made["tools"] == [{"type": "function", "name": "f", "parameters": {}, "strict": True}]
    assert made["tool_choice"] == {"type": "function", "name": "f"}
    assert made["max_output_tokens"] == 50
    assert made["reasoning"] == {"effort": "low"}
    assert made["text"]["verbosity"] == "low"
    assert made["text"]["format"]["schema"] == {"type": "object"}
    assert (made["store"], made["stream"]) == (False, True)
    assert made["service_tier"] == "priority"
    assert not {"stop", "seed", "messages", "stream_options"} & set(made)


def play(*events: dict[str, Any]) -> tuple[list[dict[str, Any]], ReaderUpdate]:
    request = ChatRequest({"model": "m", "messages": []}, "m", True, id="chatcmpl-1")
    reader = responses_reader(request, "m")
    out, heard = b"", ReaderUpdate()
    for event in events:
        line = b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
        heard = reader.feed(line)
        out += heard.forward
        if heard.failure or heard.finished:
            break
    else:
        heard = reader.finish()
    lines = [line[6:] for line in out.splitlines() if line.startswith(b"data: {")]
    return [orjson.loads(line) for line in lines], heard


CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-6.1-sol"}}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
}
COMPLETED = {"type": "response.completed", "response": {"usage": USAGE, "service_tier": "default"}}


def test_text_and_usage_come_out_as_chunks() -> None:
    chunks, heard = play(
        CREATED,
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {"type": "response.something.new"},
        COMPLETED,
    )
    assert heard.finished
    assert {one["id"] for one in chunks} == {"resp_1"}
    said = [one["choices"][0]["delta"].get("content") for one in chunks if one["choices"]]
    assert said == [None, "Hel", "lo", None]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3
    assert chunks[-1]["service_tier"] == "default"


@pytest.mark.parametrize("whole_only", [False, True])
def test_a_call_comes_out_with_the_reasoning_that_led_to_it(whole_only: bool) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f"}
    deltas = [
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": piece}
        for piece in ('{"x"', ":1}")
    ]
    done = {**item, "arguments": '{"x":1}'} if whole_only else item
    chunks, _ = play(
        CREATED,
        {"type": "response.output_item.done", "output_index": 0, "item": STATE},
        {"type": "response.output_item.added", "output_index": 1, "item": item},
        *([] if whole_only else deltas),
        {"type": "response.output_item.done", "output_index": 1, "item": done},
        COMPLETED,
    )
    (made,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert made["id"] == "call_1"
    assert made["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert made["extra_content"] == {"livekit": {"openai_reasoning": [STATE]}}
    assert chunks[1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "stop")],
)
def test_an_incomplete_answer_says_why(reason: str, finish: str) -> None:
    chunks, _ = play(
        {"type": "response.output_text.delta", "delta": "x"},
        {
            "type": "response.incomplete",
            "response": {"incomplete_details": {"reason": reason}, "usage": USAGE},
        },
    )
    assert chunks[1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "server_error", "message": "m"}},
            },
            Kind.UPSTREAM_ERROR,
        ),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}},
            },
            Kind.RATE_LIMITED,
        ),
        ({"type": "error", "code": "invalid_prompt", "message": "m"}, Kind.REQUEST_REFUSED),
    ],
)
def test_a_failure_is_one(event: dict[str, Any], kind: Kind) -> None:
    _, heard = play(CREATED, event)
    assert heard.failure is not None
    assert heard.failure.kind is kind
    assert heard.failure.message == "m"


def test_a_stream_that_ends_before_its_time_is_broken_off() -> None:
    _, heard = play(CREATED, {"type": "response.output_text.delta", "delta": "x"})
    assert heard.failure is not None
    assert heard.failure.kind is Kind.CONNECTION_LOST
