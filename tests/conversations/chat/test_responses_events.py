"""A chat completion in the form of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.conversations.chat import responses
from gateway.conversations.chat.responses_events import (
    ITEMS_MAX,
    Narrated,
    Narrator,
    failed,
    refused_by_none,
    unfound,
    usage_object,
)
from gateway.providers._openai.byte_relay import StreamRelay
from gateway.upstreams.chat import ReaderUpdate, Usage
from gateway.upstreams.errors import Failure, Kind

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
"""OpenAI's own idea of what an event is."""


def asked(**changes: Any) -> responses.Asked:
    read = responses.read(orjson.dumps({"model": "m", "input": "hi"} | changes))
    assert not isinstance(read, Failure)
    found = responses.asked(*read)
    assert not isinstance(found, Failure)
    return found


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(index: int, arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    begun = {"id": f"call_{index}", "type": "function"} if name else {}
    return chunk(tool_calls=[{"index": index, **begun, "function": function, **more}])


def events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for block in data.split(b"\n\n")[:-1]:
        kind, line = block.split(b"\n")
        parsed = orjson.loads(line.removeprefix(b"data: "))
        assert kind == b"event: " + parsed["type"].encode()
        EVENT.validate_python(parsed)
        found.append(parsed)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def told(*chunks: Mapping[str, Any], **changes: Any) -> list[dict[str, Any]]:
    narrator = Narrator(asked(stream=True, **changes), "resp_1", 1795400000)
    for one in chunks:
        narrator.chunk(one)
    narrator.end()
    return events(narrator.take())


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in found]


def test_text_is_told_in_order() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = told(
        chunk(role="assistant", content=""),
        chunk(content="Hello"),
        chunk(content=" you"),
        chunk("stop"),
        {"choices": [], "usage": usage, "service_tier": "default"},
        instructions="Be brief.",
        metadata={"a": "b"},
    )
    assert kinds(found) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    response = Response.model_validate(found[-1]["response"])
    assert response.output_text == "Hello you"
    assert response.status == "completed"
    assert response.instructions == "Be brief."
    assert response.metadata == {"a": "b"}
    assert response.service_tier == "default"
    assert response.usage is not None
    assert response.usage.input_tokens == 9
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    assert response.usage.total_tokens == 15


def test_calls_in_pieces_and_side_by_side_are_items_of_their_own() -> None:
    found = told(
        chunk(content="One moment."),
        call(0, "", "f"),
        call(0, '{"a":'),
        call(1, '{"b":2}', "g"),
        call(0, "1}"),
        chunk("tool_calls"),
    )
    output = Response.model_validate(found[-1]["response"]).output
    assert [one.type for one in output] == ["message", "function_call", "function_call"]
    made = found[-1]["response"]["output"][1:]
    calls = [(one["call_id"], one["name"], one["arguments"]) for one in made]
    assert calls == [("call_0", "f", '{"a":1}'), ("call_1", "g", '{"b":2}')]
    done = [one for one in found if one["type"].endswith("arguments.done")]
    assert [one["arguments"] for one in done] == ['{"a":1}', '{"b":2}']


def test_thoughts_and_refusals_are_no_text() -> None:
    found = told(
        chunk(reasoning_content="Hm."),
        chunk(content="Yes."),
        chunk(refusal="No."),
        chunk("stop"),
    )
    output = found[-1]["response"]["output"]
    assert [one["type"] for one in output] == ["reasoning", "message", "message"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert output[2]["content"] == [{"type": "refusal", "refusal": "No."}]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_is_cut_short_is_incomplete(finish: str, reason: str) -> None:
    found = told(chunk(content="Hel"), chunk(finish))
    assert found[-1]["type"] == "response.incomplete"
    assert found[-1]["response"]["incomplete_details"] == {"reason": reason}
    assert found[-2]["item"]["status"] == "incomplete"


def test_state_of_a_provider_is_a_reasoning_item_before_its_call() -> None:
    extra = {"google": {"thought_signature": "abc"}}
    found = told(call(0, "{}", "f", extra_content=extra), chunk("tool_calls"))
    state, made = found[-1]["response"]["output"]
    again = responses.chat_body(asked(input=[state, made]))
    assert again["messages"][0]["tool_calls"][0]["extra_content"] == extra
    found = told(chunk(content="x", extra_content=extra), chunk("stop"))
    said, state = found[-1]["response"]["output"]
    again = responses.chat_body(asked(input=[said, state]))
    assert again["messages"][0]["extra_content"] == extra


def test_an_answer_has_a_bounded_number_of_items() -> None:
    pieces = [chunk(content="x"), chunk(reasoning_content="y")] * ITEMS_MAX
    assert len(told(*pieces, chunk("stop"))[-1]["response"]["output"]) == ITEMS_MAX


def test_a_failure_is_the_last_event_and_has_openais_form() -> None:
    narrator = Narrator(asked(), "resp_1", 1)
    narrator.chunk(chunk(content="x"))
    data = narrator.take() + failed(
        narrator.response, Failure(Kind.RATE_LIMITED, "too many"), narrator.number
    )
    last = events(data)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "too many"}


class Heard:
    """A reader of chat completions that has heard this."""

    streamed = True

    def __init__(self, *updates: ReaderUpdate) -> None:
        self._updates = list(updates)

    def feed(self, data: bytes) -> ReaderUpdate:
        return self._updates.pop(0)

    def finish(self) -> ReaderUpdate:
        return self._updates.pop(0)


def sse(*chunks: Mapping[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(one) + b"\n\n" for one in chunks)


def test_a_stream_is_told_piece_by_piece_and_kept_before_its_end_is_out() -> None:
    kept: list[Mapping[str, Any]] = []
    inner = Heard(
        ReaderUpdate(b": wait\n\n" + sse(chunk(content="Hi")), content=True, progress=True),
        ReaderUpdate(sse(chunk("stop")) + b"data: [DONE]\n\n", finished=True, usage=Usage(1, 2)),
    )
    narrator = Narrator(asked(stream=True), "resp_1", 1)
    reader = Narrated(inner, narrator, stream=True, on_end=kept.append)
    first = reader.feed(b"")
    assert first.content
    assert first.forward.startswith(b": wait\n\nevent: response.created\n")
    assert not kept
    last = reader.finish()
    assert last.usage == Usage(1, 2)
    assert kept[0]["status"] == "completed"
    assert b"[DONE]" not in last.forward
    assert last.forward.endswith(b"\n\n")


def test_a_stream_without_spaces_is_told_too() -> None:
    chunks = (chunk(content="Hi"), chunk("stop"))
    body = b"".join(b"data:" + orjson.dumps(one) + b"\n\n" for one in chunks)
    kept: list[Mapping[str, Any]] = []
    narrator = Narrator(asked(stream=True), "resp_1", 1)
    reader = Narrated(StreamRelay(), narrator, stream=True, on_end=kept.append)
    heard = reader.feed(body + b"data:[DONE]\n\n")
    assert heard.finished
    assert kept[0]["output"][0]["content"][0]["text"] == "Hi"


def test_an_answer_at_once_is_one_object() -> None:
    completion = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    inner = Heard(ReaderUpdate(orjson.dumps(completion), content=True, finished=True))
    kept: list[Mapping[str, Any]] = []
    narrator = Narrator(asked(), "resp_1", 1)
    reader = Narrated(inner, narrator, stream=False, on_end=kept.append)
    response = Response.model_validate_json(reader.finish().forward)
    assert response.output_text == "Hi"
    assert kept[0]["id"] == "resp_1"


def test_a_failure_before_the_end_keeps_nothing() -> None:
    kept: list[Mapping[str, Any]] = []
    failure = Failure(Kind.CONNECTION_LOST, "lost")
    inner = Heard(ReaderUpdate(failure=failure))
    reader = Narrated(
        inner, Narrator(asked(stream=True), "resp_1", 1), stream=True, on_end=kept.append
    )
    assert reader.feed(b"").failure is failure
    assert not kept
    assert b"response.failed" in reader.failed(failure)


def test_what_nobody_can_do_is_refused_by_name() -> None:
    failure = refused_by_none(asked(tools=[{"type": "web_search"}]))
    assert failure.param == "tools"
    assert "'web_search'" in failure.message


def test_a_response_that_is_not_kept_is_told_in_openais_words() -> None:
    failure = unfound("resp_9")
    assert failure.status == 400
    assert failure.details is not None
    assert failure.details["code"] == "previous_response_not_found"


def test_usage_that_is_nonsense_is_none() -> None:
    assert usage_object(None) is None
    made = usage_object({"prompt_tokens": "x", "completion_tokens": -4})
    assert made is not None
    assert made["total_tokens"] == 0
