from __future__ import annotations

import orjson

from gateway.conversations.realtime.cascade.line import KIND, Cascades, attempt_of
from gateway.upstreams.realtime import ClientEvent, InProcess, ServerEvent

LINE = Cascades().line(attempt_of("cascade/support"))


def test_it_is_opened_in_this_process() -> None:
    assert LINE.dial() == InProcess(KIND)
    assert not LINE.opening()
    assert attempt_of("cascade/support").names == {"cascade/support"}


def test_what_the_client_says_is_passed_on_as_it_is() -> None:
    event = ClientEvent("response.create", {"type": "response.create"}, '{"type":"x"}')
    assert list(LINE.encode(event)) == ['{"type":"x"}']


def test_the_client_is_told_a_usage_that_is_not_counted_again() -> None:
    told = {"type": "response.done", "response": {"id": "r", "usage": {"input_tokens": 4}}}
    text = orjson.dumps(told).decode()
    (event,) = LINE.decode(text)
    assert isinstance(event, ServerEvent)
    assert event.text == text
    assert event.body["response"] == {"id": "r", "usage": None}


def test_audio_is_not_read() -> None:
    text = '{"type":"response.output_audio.delta","delta":"AAAA"}'
    (event,) = LINE.decode(text)
    assert event == ServerEvent("response.output_audio.delta", {}, text)


def test_its_end_is_a_fault_of_ours() -> None:
    assert LINE.closed(1011, "gone").message == "gone"
    assert LINE.closed(1011, "").message
