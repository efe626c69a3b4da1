"""Piper's HTTP server."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from gateway.audio.pcm import wav
from gateway.providers.piper import VENDOR
from gateway.providers.piper.tts import PiperVoice
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Rate, SpeechRequest

ACCOUNT = Account("piper", "piper", "http://rack:5000", settings=ProviderSettings())
VOICE = PiperVoice(ACCOUNT)
PCM = struct.pack("<4h", 1, 2, 3, 4)


def asked(model: str = "default", voice: str | None = None, **options: Any) -> dict[str, Any]:
    dial = VOICE.dial(SpeechRequest(model, voice, "en", 22050, options=options), " Hello. ")
    assert dial.url == "http://rack:5000/synthesize"
    assert dial.body is not None
    body: dict[str, Any] = json.loads(dial.body)
    return body


def test_a_text_is_asked_for_in_its_own_voice_or_a_named_one() -> None:
    assert asked() == {"text": "Hello."}
    assert asked("en_US-joe-medium")["voice"] == "en_US-joe-medium"
    assert asked("en_US-joe-medium", "en_GB-alba-medium")["voice"] == "en_GB-alba-medium"
    assert asked(length_scale=0.8, speaker_id=2) == {
        "text": "Hello.", "length_scale": 0.8, "speaker_id": 2,
    }  # fmt: skip


def test_another_vendors_speed_is_a_length_that_is_its_inverse() -> None:
    assert VOICE.traits.options is not None
    read = VOICE.traits.options.read({"speed": 2.0, "instructions": "whisper"}, "openai")
    assert read.options == {"length_scale": 0.5}


def test_a_key_for_a_proxy_before_it_travels_in_a_header() -> None:
    assert "authorization" not in VOICE.dial(SpeechRequest("default", None, None, 1), "x").headers
    guarded = PiperVoice(Account("p", "piper", "http://rack", "k", settings=ProviderSettings()))
    headers = guarded.dial(SpeechRequest("default", None, None, 22050), "x").headers
    assert headers["authorization"] == "Bearer k"


def test_a_wav_is_believed_although_it_is_called_a_page() -> None:
    reader = VOICE.reader(SpeechRequest("default", None, None, 22050))
    reader.head({"content-type": "text/html; charset=utf-8"})
    heard = [*reader.feed(wav(PCM, 16_000)), *reader.finish()]
    assert Rate(16_000) in heard
    assert b"".join(one.pcm for one in heard if isinstance(one, Audio)) == PCM


@pytest.mark.parametrize(("status", "kind"), [(500, Kind.UPSTREAM_ERROR), (404, None)])
def test_a_page_that_tells_of_an_error_is_not_repeated(status: int, kind: Kind | None) -> None:
    failure = VOICE.failure(status, {}, b"<!doctype html><title>500</title>")
    assert "<" not in failure.message
    assert kind is None or failure.kind is kind


def test_the_list_of_its_voices_tells_whether_it_is_there() -> None:
    assert VENDOR.listing is not None
    dial = VENDOR.listing(ACCOUNT)
    assert isinstance(dial, Dial)
    assert dial.url == "http://rack:5000/voices"
