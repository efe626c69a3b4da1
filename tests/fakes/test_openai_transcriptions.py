"""The fake is accepted by OpenAI's own client."""

from __future__ import annotations

import openai
import pytest

from gateway.audio.pcm import wav
from tests.fakes.openai_transcriptions import FakeTranscriptions
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

SAID = VOCABULARY[:3]
FILE = ("a.wav", wav(hush(0.2) + spoken(SAID) + hush(0.2), 16_000), "audio/wav")


@pytest.fixture
def fake() -> FakeTranscriptions:
    return FakeTranscriptions()


def test_the_sdk_gets_words_with_times(fake: FakeTranscriptions) -> None:
    with fake, openai.OpenAI(api_key=KEY, base_url=f"{fake.url}/v1", max_retries=0) as client:
        answer = client.audio.transcriptions.create(
            file=FILE, model="m", response_format="verbose_json", timestamp_granularities=["word"]
        )

    assert [word.word for word in answer.words or []] == list(SAID)


def test_the_sdk_raises_what_is_refused(fake: FakeTranscriptions) -> None:
    with (
        fake,
        openai.OpenAI(api_key="wrong", base_url=f"{fake.url}/v1", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.audio.transcriptions.create(file=FILE, model="m")
