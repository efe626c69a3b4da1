"""Recordings by OpenAI's SDK through the real server, to a fake recogniser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from gateway.audio.pcm import wav
from gateway.conversations.stt.transcription_route import PIECE_S, TAIL_S, pieces, written
from gateway.engines.recordings import RATE
from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes.openai_transcriptions import FakeTranscriptions
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.services import wait_until

WORDS = list(VOCABULARY)[:3]
SPOKEN = wav(hush(0.4) + spoken(WORDS) + hush(0.4), RATE)


@pytest.fixture(scope="module")
def fakes() -> Iterator[list[FakeTranscriptions]]:
    with FakeTranscriptions() as first, FakeTranscriptions() as second:
        yield [first, second]


@pytest.fixture(scope="module")
def server(
    fakes: list[FakeTranscriptions], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    first, second = (f"{one.url}/v1" for one in fakes)
    config = f"""
providers:
  rack: {{type: openai-compatible, base_url: "{first}", api_key: {KEY}}}
  other: {{type: openai-compatible, base_url: "{second}", api_key: {KEY}}}
models:
  mine:
    - {{provider: rack, model: whisper-large-v3}}
    - {{provider: other, model: whisper-large-v3}}
usage: {{enabled: false}}
"""
    with running(tmp_path_factory.mktemp("transcription"), config) as started:
        yield started


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key=token, max_retries=0, timeout=60) as client:
        yield client


def test_a_recording_is_transcribed_and_counted(
    sdk: openai.OpenAI, server: Server, fakes: list[FakeTranscriptions]
) -> None:
    heard = sdk.audio.transcriptions.create(
        model="mine", file=("a.wav", SPOKEN), language="en", prompt="Parley, LiveKit"
    )
    assert heard.text.split() == WORDS
    assert fakes[0].asked[-1]["language"] == "en"
    assert fakes[0].asked[-1]["prompt"] == "Parley, LiveKit"
    # counted once the answer is out
    wait_until(lambda: server.metric("parley_requests_total", route="stt", outcome="ok") == 1)
    assert server.metric("parley_audio_seconds_total", route="stt", direction="in") > 1


def test_a_recogniser_that_fails_is_replaced(
    sdk: openai.OpenAI, fakes: list[FakeTranscriptions]
) -> None:
    fakes[0].default, before = "status:500", len(fakes[1].asked)
    try:
        heard = sdk.audio.transcriptions.create(model="mine", file=("a.wav", SPOKEN))
    finally:
        fakes[0].default = ""
    assert heard.text.split() == WORDS
    assert len(fakes[1].asked) == before + 1


def test_the_verbose_form_has_segments_and_words_on_the_recordings_clock(
    sdk: openai.OpenAI,
) -> None:
    heard = sdk.audio.transcriptions.create(
        model="mine",
        file=("a.wav", SPOKEN),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert heard.segments is not None
    assert heard.words is not None
    assert heard.language == "en"
    assert [word.word for word in heard.words] == WORDS
    assert heard.segments[0].start <= heard.words[0].start + 0.1
    assert 0 < heard.segments[-1].end <= float(heard.duration)


@pytest.mark.parametrize(
    ("form", "words"), [("text", " ".join(WORDS)), ("srt", " --> "), ("vtt", "WEBVTT")]
)
def test_the_other_forms_are_texts(sdk: openai.OpenAI, form: Any, words: str) -> None:
    heard = sdk.audio.transcriptions.create(
        model="mine", file=("a.wav", SPOKEN), response_format=form
    )
    assert words in str(heard)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"response_format": "diarized_json"}, "response_format: expected json"),
        ({"stream": True}, "stream: expected"),
        ({"model": "nobody/x"}, "not served here"),
        ({"file": ("a.wav", b"RIFF0000WAVE")}, "file: it holds no samples"),
        ({"file": ("a.wav", b"")}, "file: expected a recording"),
        ({"language": "x y"}, "language: expected"),
    ],
)
@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")  # of older clients
def test_what_cannot_be_transcribed_is_refused_with_words(
    sdk: openai.OpenAI, wrong: dict[str, Any], words: str
) -> None:
    asked: dict[str, Any] = {"model": "mine", "file": ("a.wav", SPOKEN)} | wrong
    with pytest.raises(openai.APIStatusError, match=words) as refused:
        sdk.audio.transcriptions.create(**asked)
    assert refused.value.status_code in (400, 404)


def test_recognisers_that_are_down_are_an_error_of_the_providers(
    sdk: openai.OpenAI, fakes: list[FakeTranscriptions]
) -> None:
    for fake in fakes:
        fake.script(*["status:500"] * 12)
    with pytest.raises(openai.APIStatusError) as failed:
        sdk.audio.transcriptions.create(model="mine", file=("a.wav", SPOKEN))
    assert failed.value.status_code >= 500


def test_what_is_no_form_is_refused(server: Server) -> None:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    request = urllib.request.Request(
        f"{server.url}/v1/audio/transcriptions",
        b"{}",
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert "multipart/form-data" in json.load(refused.value)["error"]["message"]


def test_a_long_recording_is_cut_where_it_is_quiet() -> None:
    noise = np.random.default_rng(1).integers(-8000, 8000, 60 * RATE).astype(np.int16)
    quiet_at = 21 * RATE
    noise[quiet_at : quiet_at + RATE // 2] = 0
    pcm = noise.tobytes()
    cut = list(pieces(pcm))
    assert b"".join(cut) == pcm + bytes(2 * round(TAIL_S * RATE))
    assert all(len(one) <= 2 * PIECE_S * RATE for one in cut)
    assert quiet_at < len(cut[0]) // 2 < quiet_at + RATE // 2
    assert len(list(pieces(b""))) == 1


def test_subtitles_have_the_clock_of_their_form() -> None:
    final = {
        "transcript": "So --> it\n\nbegan", "start": 3661.5, "duration": 2.0, "words": [],
        "confidence": 1.0,
    }  # fmt: skip
    assert written("srt", [final], 1.0)[1] == (
        b"1\n01:01:01,500 --> 01:01:03,500\nSo -> it began\n\n"
    )
    assert written("vtt", [final], 1.0)[1].startswith(b"WEBVTT\n\n01:01:01.500 --> ")
    assert written("json", [], 1.2)[1] == (b'{"text":"","usage":{"type":"duration","seconds":2}}')
