"""What servers with OpenAI's speech endpoint send, read as samples."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers._openai.tts import OpenAISpeech, SpeechReader
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Failed, Rate, SpeechRequest, SynthesisEvent

PCM = bytes(range(200))
ACCOUNT = Account(
    "up", "openai-compatible", "http://127.0.0.1:1/v1", "key", settings=ProviderSettings()
)


def wav(rate: int = 22050) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    comment = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    return b"RIFF\xff\xff\xff\xffWAVE" + form + comment + b"data\xff\xff\xff\xff"


def read(parts: Iterable[bytes], kind: str = "audio/pcm") -> list[SynthesisEvent]:
    reader = SpeechReader()
    reader.head({"content-type": kind})
    heard = [one for part in parts for one in reader.feed(part)]
    return heard + list(reader.finish())


def pcm_of(heard: Iterable[SynthesisEvent]) -> bytes:
    return b"".join(one.pcm for one in heard if isinstance(one, Audio))


@given(st.lists(st.integers(1, 60), max_size=12))
def test_raw_samples_come_out_as_they_are_wherever_they_are_cut(cuts: list[int]) -> None:
    assert pcm_of(read(pieces(PCM, cuts))) == PCM


@given(st.lists(st.integers(1, 60), max_size=12))
def test_a_wav_gives_its_rate_and_its_samples_wherever_it_is_cut(cuts: list[int]) -> None:
    heard = read(pieces(wav() + PCM, cuts), "audio/wav")
    assert heard[0] == Rate(22050)
    assert pcm_of(heard) == PCM


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    parts, at = [], 0
    for cut in cuts:
        parts.append(data[at : at + cut])
        at += cut
    return [part for part in (*parts, data[at:]) if part]


def test_a_header_without_an_end_is_not_waited_for() -> None:
    endless = b"RIFF\0\0\0\0WAVE" + b"LIST" + struct.pack("<I", 1 << 30) + bytes(70_000)
    assert isinstance(read([endless])[-1], Failed)


def events(*given: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in given)


def test_events_are_told_by_the_content_type_and_not_by_what_was_asked() -> None:
    delta = {"type": "speech.audio.delta", "audio": base64.b64encode(PCM).decode()}
    stream = events(delta, {"type": "speech.audio.done"}) + b"data: [DONE]\n\n"
    halves = [stream[:50], stream[50:]]
    assert pcm_of(read(halves, "text/event-stream; charset=utf-8")) == PCM


def test_events_without_an_end_have_broken_off() -> None:
    delta = {"type": "speech.audio.delta", "delta": base64.b64encode(PCM).decode()}
    last = read([events(delta)], "text/event-stream")[-1]
    assert isinstance(last, Failed)
    assert last.failure.kind is Kind.CONNECTION_LOST


def test_an_error_among_the_events_is_a_failure() -> None:
    error = {"type": "speech.audio.error", "error": {"message": "out of memory"}}
    last = read([events(error)], "text/event-stream")[0]
    assert isinstance(last, Failed)
    assert last.failure.message == "out of memory"


@pytest.mark.parametrize("kind", ["text/html", "application/json", "audio/mpeg"])
def test_what_is_no_samples_is_not_played(kind: str) -> None:
    heard = read([b"<html>" * 10], kind)
    assert all(isinstance(one, Failed) for one in heard)
    assert kind in heard[0].failure.message  # type: ignore[union-attr]


def test_the_request_has_the_voice_the_options_and_the_text_alone() -> None:
    voice = OpenAISpeech(ACCOUNT, voice="alloy")
    request = SpeechRequest("m", None, None, 24000, {"speed": 1.5, "instructions": "calm"})
    dial = voice.dial(request, "One. ")
    assert dial.url == "http://127.0.0.1:1/v1/audio/speech"
    assert json.loads(dial.body) == {
        "model": "m",
        "input": "One.",
        "response_format": "pcm",
        "voice": "alloy",
        "speed": 1.5,
        "instructions": "calm",
    }


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"detail": {"error": "validation", "message": "voice"}}, Kind.UPSTREAM_REFUSED),
        (404, {"detail": "no model"}, Kind.UPSTREAM_NOT_FOUND),
        (401, {"error": {"message": "key"}}, Kind.UPSTREAM_AUTH),
        (422, {"detail": [{"loc": ["body"], "msg": "speed"}]}, Kind.UPSTREAM_REFUSED),
        (429, {"error": {"code": "insufficient_quota"}}, Kind.UPSTREAM_QUOTA),
        (429, {"error": {"message": "slow"}}, Kind.RATE_LIMITED),
        (500, {}, Kind.UPSTREAM_ERROR),
        (503, {}, Kind.OVERLOADED),
    ],
)
def test_errors_of_every_server_are_understood(
    status: int, body: dict[str, Any], kind: Kind
) -> None:
    failure = OpenAISpeech(ACCOUNT).failure(status, {}, json.dumps(body).encode())
    assert failure.kind is kind
    assert failure.upstream_status == status
