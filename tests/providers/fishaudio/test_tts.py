"""Fish Audio's MessagePack."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from gateway.providers.fishaudio.tts import FishAudioVoice
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Failed, Finished, SpeechRequest

VOICE = FishAudioVoice(
    Account("fishaudio", "fishaudio", "https://api.fish.audio", "key", settings=ProviderSettings())
)


def begun(model: str = "s2.1-pro", **options: Any) -> dict[str, Any]:
    (frame,) = VOICE.dialogue().begin("u1", SpeechRequest(model, "v", None, 24000, options))
    asked: dict[str, Any] = msgpack.unpackb(frame)["request"]
    return asked


def test_the_model_is_a_header() -> None:
    dial = VOICE.dial(SpeechRequest("s2-pro", None, None, 24000))
    assert dial.url == "wss://api.fish.audio/v1/tts/live"
    assert dial.headers["model"] == "s2-pro"
    assert dial.headers["Authorization"] == "Bearer key"


def test_options_go_where_they_belong_and_only_when_given() -> None:
    asked = begun(speed=1.1, temperature=0.5, latency="low")
    assert asked["prosody"] == {"speed": 1.1}
    assert (asked["temperature"], asked["latency"]) == (0.5, "low")
    assert (asked["format"], asked["sample_rate"], asked["reference_id"]) == ("pcm", 24000, "v")
    assert "prosody" not in begun()


def test_what_a_family_does_not_know_is_left_out() -> None:
    assert "prosody" not in begun("s1", normalize_loudness=True)
    assert begun(normalize_loudness=True)["prosody"] == {"normalize_loudness": True}


def test_every_sentence_is_flushed_and_the_end_is_a_stop() -> None:
    dialogue = VOICE.dialogue()
    said = [msgpack.unpackb(frame) for frame in dialogue.say("u1", "One. ")]
    assert said == [{"event": "text", "text": "One. "}, {"event": "flush"}]
    assert [msgpack.unpackb(frame) for frame in dialogue.finish("u1")] == [{"event": "stop"}]


def test_events() -> None:
    dialogue = VOICE.dialogue()
    audio = msgpack.packb({"event": "audio", "audio": b"\1\0", "time": 1.0})
    assert dialogue.decode(audio) == ((None, Audio(b"\1\0")),)
    finish = msgpack.packb({"event": "finish", "reason": "stop"})
    assert isinstance(dialogue.decode(finish)[0][1], Finished)
    assert dialogue.decode(msgpack.packb({"event": "new"})) == ()
    error = dialogue.decode(msgpack.packb({"event": "finish", "reason": "error"}))[0][1]
    assert isinstance(error, Failed)
    assert error.failure.kind is Kind.UPSTREAM_ERROR


@pytest.mark.parametrize("frame", ["text", b"\xc1", b"", msgpack.packb(7)])
def test_nonsense_is_a_failure(frame: str | bytes) -> None:
    ((_, failed),) = VOICE.dialogue().decode(frame)
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.PROTOCOL_ERROR
