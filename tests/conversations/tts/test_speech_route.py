"""Speech by OpenAI's SDK through the real server, from a fake voice."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator

import openai
import pytest

from gateway.conversations.tts.speech_route import ENDLESS, RATE, endless_head
from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes.openai_speech import FakeSpeechServer
from tests.fakes.speech import KEY

MODEL = "openai/tts-1"
TEXT = "Good morning, how are you today?"


@pytest.fixture(scope="module")
def voice() -> Iterator[FakeSpeechServer]:
    with FakeSpeechServer() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(voice: FakeSpeechServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = f"""
providers: {{openai: {{api_key: {KEY}, base_url: "{voice.base_url}"}}}}
usage: {{enabled: false}}
"""
    with running(tmp_path_factory.mktemp("speech"), config) as started:
        yield started


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key=token, max_retries=0, timeout=60) as client:
        yield client


def test_a_text_is_spoken_as_samples_and_counted(
    sdk: openai.OpenAI, server: Server, voice: FakeSpeechServer
) -> None:
    spoken = sdk.audio.speech.create(
        model=MODEL, input=TEXT, voice="alloy", response_format="pcm"
    ).read()
    assert len(spoken) > RATE // 10
    assert voice.said[-1].strip() == TEXT
    assert server.metric("parley_requests_total", route="tts", outcome="ok") == 1
    assert server.metric("parley_audio_seconds_total", route="tts", direction="out") > 0


def test_a_wav_of_unknown_length_is_one_that_can_be_read(sdk: openai.OpenAI) -> None:
    spoken = sdk.audio.speech.create(
        model=MODEL, input=TEXT, voice="alloy", response_format="wav"
    ).read()
    with wave.open(io.BytesIO(spoken)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert len(file.readframes(1 << 24)) > RATE // 10
    assert endless_head()[40:44] == ENDLESS.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"response_format": "mp3"}, "expected wav"),
        ({"input": ""}, "expected a text"),
        ({"model": "nobody/x"}, "not served here"),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_words(
    sdk: openai.OpenAI, wrong: dict[str, str], words: str
) -> None:
    asked = {"model": MODEL, "input": TEXT, "voice": "alloy", "response_format": "pcm"} | wrong
    with pytest.raises(openai.APIStatusError, match=words) as refused:
        sdk.audio.speech.create(**asked)  # type: ignore[arg-type]
    assert refused.value.status_code in (400, 404)


def test_a_voice_that_is_down_is_an_error_of_the_providers(
    sdk: openai.OpenAI, voice: FakeSpeechServer
) -> None:
    voice.script(*["status:500"] * 8)
    with pytest.raises(openai.APIStatusError) as failed:
        sdk.audio.speech.create(model=MODEL, input=TEXT, voice="alloy", response_format="pcm")
    assert failed.value.status_code >= 500
