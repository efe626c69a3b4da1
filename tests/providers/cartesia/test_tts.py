"""Cartesia's messages and what they mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.providers.cartesia.tts import DEFAULT_VOICE, CartesiaVoice
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Failed, Finished, SpeechRequest, Timed, Words

VOICE = CartesiaVoice(
    Account("cartesia", "cartesia", "https://api.cartesia.ai", "key", settings=ProviderSettings())
)


def request(**options: Any) -> SpeechRequest:
    return SpeechRequest("sonic-3", "v", "en-US", 24000, options)


def messages(**options: Any) -> list[dict[str, Any]]:
    dialogue = VOICE.dialogue()
    dialogue.begin("u1", request(**options))
    frames = [*dialogue.say("u1", "One. "), *dialogue.finish("u1")]
    return [json.loads(frame) for frame in frames]


def test_the_socket_is_dialled_with_key_and_version() -> None:
    dial = VOICE.dial(request())
    assert dial.url == "wss://api.cartesia.ai/tts/websocket"
    assert dial.headers["X-API-Key"] == "key"
    assert dial.headers["Cartesia-Version"] == "2026-03-01"
    assert "key" not in repr(dial)


def test_all_fields_of_a_context_are_the_same_in_every_message() -> None:
    said, last = messages(speed=1.2)
    assert (said.pop("transcript"), said.pop("continue")) == ("One. ", True)
    assert (last.pop("transcript"), last.pop("continue")) == ("", False)
    assert said == last
    assert said["language"] == "en"
    assert said["voice"] == {"mode": "id", "id": "v"}
    assert said["max_buffer_delay_ms"] == 0


def test_options_go_where_cartesia_has_them() -> None:
    said, _ = messages(speed=1.2, volume=0.8, emotion="calm", add_timestamps=False, duration=3)
    assert said["generation_config"] == {"speed": 1.2, "volume": 0.8, "emotion": "calm"}
    assert (said["add_timestamps"], said["duration"]) == (False, 3)
    assert messages(speed="slow")[0]["speed"] == "slow"
    assert "generation_config" not in messages(speed="slow")[0]


def test_without_a_voice_there_is_one() -> None:
    dialogue = VOICE.dialogue()
    dialogue.begin("u1", SpeechRequest("sonic-3", None, None, 24000))
    (frame,) = dialogue.say("u1", "x")
    assert json.loads(frame)["voice"]["id"] == DEFAULT_VOICE


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        ({"type": "chunk", "data": "AQACAA=="}, Audio(b"\1\0\2\0")),
        ({"type": "done", "done": True}, Finished()),
        (
            {
                "type": "timestamps",
                "word_timestamps": {"words": ["Hi"], "start": [0.1], "end": [0.4]},
            },
            Words((Timed("Hi", 0.1, 0.4),)),
        ),
    ],
)
def test_messages_carry_their_context(message: dict[str, Any], heard: Any) -> None:
    ((context, got),) = VOICE.dialogue().decode(json.dumps({**message, "context_id": "u1"}))
    assert context == "u1"
    assert type(got) is type(heard)
    assert isinstance(got, Finished) or got == heard


@pytest.mark.parametrize("message", [{"type": "flush_done"}, {"type": "new"}, {}])
def test_what_says_nothing_new_is_passed_over(message: dict[str, Any]) -> None:
    assert VOICE.dialogue().decode(json.dumps(message)) == ()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.UPSTREAM_REFUSED),
        (401, Kind.UPSTREAM_AUTH),
        (402, Kind.UPSTREAM_QUOTA),
        (404, Kind.UPSTREAM_NOT_FOUND),
        (429, Kind.RATE_LIMITED),
        (500, Kind.UPSTREAM_ERROR),
        (503, Kind.OVERLOADED),
        (None, Kind.UPSTREAM_ERROR),
    ],
)
def test_errors_are_known_by_their_status(status: int | None, kind: Kind) -> None:
    error = {"type": "error", "context_id": "u1", "status_code": status, "message": "why"}
    ((context, failed),) = VOICE.dialogue().decode(json.dumps(error))
    assert context == "u1"
    assert isinstance(failed, Failed)
    assert (failed.failure.kind, failed.failure.message) == (kind, "why")


@pytest.mark.parametrize("frame", ["{", "[]", '{"type":"chunk","context_id":"u1","data":7}'])
def test_nonsense_is_a_failure(frame: str) -> None:
    ((_, failed),) = VOICE.dialogue().decode(frame)
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.PROTOCOL_ERROR


def test_a_close_breaks_off() -> None:
    assert VOICE.dialogue().closed(1011, "x").kind is Kind.CONNECTION_LOST
