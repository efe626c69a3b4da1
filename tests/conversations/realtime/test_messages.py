from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from gateway.conversations.realtime import messages
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.realtime import ClientEvent, TokensUsed


def event(**fields: Any) -> ClientEvent:
    text = orjson.dumps(fields).decode()
    read = messages.read_event(text)
    assert isinstance(read, ClientEvent)
    return read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "type: expected the type of an event"),
        ('{"type": 7}', "type: expected the type of an event"),
        (f'{{"type": "{"x" * 129}"}}', "type: expected the type of an event"),
    ],
)
def test_what_is_no_event_is_named(text: str, words: str) -> None:
    failure = messages.read_event(text)
    assert isinstance(failure, Failure)
    assert words in failure.message


def test_an_event_that_nobody_knows_is_read_as_it_came() -> None:
    text = '{"type":"of.tomorrow","x":1}'
    assert messages.read_event(text) == ClientEvent("of.tomorrow", orjson.loads(text), text)


def test_an_error_has_the_protocols_form() -> None:
    told = orjson.loads(messages.error_event(Failure(Kind.TIMEOUT, "too late"), "event_1", "mine"))
    assert told == {
        "type": "error",
        "event_id": "event_1",
        "error": {
            "type": "timeout_error",
            "code": "upstream_timeout",
            "message": "too late",
            "param": None,
            "event_id": "mine",
        },
    }


def test_a_session_that_has_lasted_too_long_is_told_with_the_vendors_code() -> None:
    told = orjson.loads(messages.error_event(Failure(Kind.SESSION_LIMIT, "60 minutes"), "e"))
    assert told["error"]["code"] == "session_expired"


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 2400])
def test_audio_is_measured_without_being_decoded(samples: int) -> None:
    append = event(
        type="input_audio_buffer.append", audio=base64.b64encode(bytes(2 * samples)).decode()
    )
    assert messages.audio_seconds(append, 48_000) == pytest.approx(samples / 24_000)


@pytest.mark.parametrize("audio", [None, 7, ["x"]])
def test_what_is_no_audio_has_no_length(audio: Any) -> None:
    assert messages.audio_seconds(event(type="input_audio_buffer.append", audio=audio), 1) == 0.0


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"audio": {"input": {"format": {"type": "audio/pcmu"}}}}, 8_000),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}}, 48_000),
        ({"audio": {"input": {"format": {"type": "audio/of-tomorrow"}}}}, 1),
        ({"audio": {"input": None}}, 1),
        (None, 1),
        ([], 1),
    ],
)
def test_the_format_says_how_much_a_second_is(session: Any, expected: int) -> None:
    assert messages.input_bytes_per_s(session, 1) == expected


def test_tokens_are_those_of_the_usage() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "input_token_details": {
            "text_tokens": 40,
            "audio_tokens": 60,
            "cached_tokens": 30,
            "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 20},
        },
        "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
    }
    assert messages.tokens_of({"response": {"usage": usage}}) == TokensUsed(100, 50, 30, 60, 20, 40)


@pytest.mark.parametrize("response", [None, {}, {"usage": None}, {"usage": 7}])
def test_without_usage_nothing_is_known(response: Any) -> None:
    assert messages.tokens_of({"response": response}) is None


def test_no_part_is_larger_than_the_whole() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": -3,
        "input_token_details": {"audio_tokens": 1 << 60, "cached_tokens": 99},
        "output_token_details": "nonsense",
    }
    assert messages.tokens_of({"response": {"usage": usage}}) == TokensUsed(10, 0, 10, 0, 0, 0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"item": {"id": "a"}}, "a"), ({"item_id": "b"}, "b"), ({"item": {"id": 7}}, ""), ({}, "")],
)
def test_an_event_names_its_item(body: Any, expected: str) -> None:
    assert messages.item_id_of(body) == expected


def test_a_deleted_item_is_named() -> None:
    assert orjson.loads(messages.item_deleted("item_1", "event_2")) == {
        "type": "conversation.item.deleted", "event_id": "event_2", "item_id": "item_1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"audio": {"input": {"transcription": {"model": "whisper-1"}}}}, "whisper-1"),
        ({"audio": {"input": {"transcription": None}}}, ""),
        ({"audio": {"input": {}}}, "before"),
        (None, "before"),
    ],
)
def test_the_session_names_who_writes_down_what_is_said(session: Any, expected: str) -> None:
    assert messages.transcriber(session, "before") == expected


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ({"type": "duration", "seconds": 2.5}, 2.5),
        ({"type": "tokens", "input_token_details": {"audio_tokens": 30}}, 3.0),
        ({"type": "duration", "seconds": float("inf")}, 0.0),
        ({"type": "duration", "seconds": -1}, 0.0),
        ({"type": "duration", "seconds": 1e12}, messages.TRANSCRIBED_S_MAX),
        ({"type": "tokens"}, 0.0),
        (None, 0.0),
    ],
)
def test_transcripts_tell_how_much_was_written_down(usage: Any, seconds: float) -> None:
    assert messages.transcribed_s({"usage": usage}) == pytest.approx(seconds)


def test_the_live_protocol_has_errors_of_its_own() -> None:
    failure = Failure(Kind.BAD_REQUEST, "tools: no", "tools", details={"code": "unsupported"})
    told = orjson.loads(messages.live_error_event(failure, "event_1", "mine"))
    assert told["error"] == {
        "type": "invalid_request_error",
        "code": "unsupported",
        "message": "tools: no",
        "param": "tools",
        "client_event_id": "mine",
    }


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"usage": {"seconds": 3.5}}, 3.5),
        ({"usage": {"seconds": -1}}, 0.0),
        ({"usage": {"seconds": float("nan")}}, 0.0),
        ({"usage": {"seconds": 1e9}}, messages.LIVE_S_MAX),
        ({"usage": 7}, 0.0),
        ({}, 0.0),
    ],
)
def test_seconds_of_a_voice_are_bounded(body: Any, seconds: float) -> None:
    assert messages.live_seconds(body) == seconds


def test_tokens_of_the_responses_api_are_read_too() -> None:
    usage = {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 9}
    assert messages.tokens_of({"response": {"usage": usage}}) == TokensUsed(40, 9, 8)
