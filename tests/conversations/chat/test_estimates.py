import orjson
import pytest

from gateway.conversations.chat.estimates import (
    IMAGE_TOKENS,
    completion_tokens,
    prompt_tokens,
    usage_of,
)
from gateway.conversations.chat.protocol import read_request
from gateway.conversations.chat.session import Report
from gateway.telemetry.outcome import Try
from gateway.upstreams.chat import ChatRequest, Usage


def request(content: object) -> ChatRequest:
    body = {"model": "a/b", "messages": [{"role": "user", "content": content}, "odd"]}
    made = read_request(orjson.dumps(body))
    assert isinstance(made, ChatRequest)
    return made


ASKED = request("x" * 400)


def test_a_prompt_is_estimated_by_its_length() -> None:
    assert 100 <= prompt_tokens(ASKED) <= 125


def test_the_bytes_of_an_image_are_no_tokens() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 1_000_000}}
    asked = request([{"type": "text", "text": "x" * 400}, image, "odd"])
    assert prompt_tokens(asked) == 100 + IMAGE_TOKENS


@pytest.mark.parametrize(
    ("bytes_out", "events", "tokens"),
    [(0, 0, 0), (200 * 55, 55, 55), (250 * 3 + 4000, 3, 1000)],
)
def test_an_answer_is_estimated_by_its_events_or_by_its_length_if_they_hold_more(
    bytes_out: int, events: int, tokens: int
) -> None:
    assert completion_tokens(Report(bytes_out=bytes_out, events_out=events)) == tokens


TOLD = Usage(7, 5, cached=2)


def test_what_the_provider_tells_counts() -> None:
    one = Try("acme", "m", 0.0, usage=TOLD, asked=True)
    assert usage_of(one, Report(served=one, usage=TOLD), ASKED) == (TOLD, False)


def test_an_answer_that_the_caller_left_counts_as_far_as_it_was_delivered() -> None:
    one = Try("acme", "m", 0.0, left=True, asked=True)
    used, estimated = usage_of(one, Report(served=one, bytes_out=11_000, events_out=55), ASKED)
    assert used == Usage(prompt_tokens(ASKED), 55)
    assert estimated


def test_a_try_that_was_left_before_it_spoke_counts_for_its_prompt() -> None:
    one = Try("acme", "m", 0.0, left=True, asked=True)
    assert usage_of(one, Report(), ASKED) == (Usage(prompt_tokens(ASKED), 0), True)


def test_a_try_that_only_waited_for_its_turn_counts_for_nothing() -> None:
    one = Try("acme", "m", 0.0, left=True)
    assert usage_of(one, Report(), ASKED) == (None, False)


def test_a_slower_try_counts_for_the_prompt_that_the_faster_one_tells() -> None:
    one = Try("acme", "m", 0.0, lost=True, asked=True)
    assert usage_of(one, Report(usage=TOLD), ASKED) == (Usage(7, 0, 2), True)
