"""The local voice through the real server, written down again by the local recogniser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

import numpy as np
import pytest
from faster_whisper import WhisperModel

from tests.end_to_end.server import Server, running
from tests.end_to_end.tts_wire import opened
from tests.fetched_weights import fetched

SENTENCES = (
    "Good morning, this is the front desk, how can I help you today? ",
    "I would like to book a table for two people on Friday evening. ",
    "The train to the airport leaves every thirty minutes. ",
)
FIRST_AUDIO_S_MAX = 60.0
WORD_ERRORS_MAX = 0.15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"PARLEY_CACHE": str(fetched("kokoro"))}
    config = f"tts: {{last_audio_timeout_s: {FIRST_AUDIO_S_MAX}, hole_timeout_s: 60}}\n"
    config += "providers: {local: {}}\n"
    with running(tmp_path_factory.mktemp("local"), config, environment) as started:
        yield started


async def test_text_is_spoken_and_an_unknown_voice_is_named(server: Server) -> None:
    async with opened(server, "local/kokoro", rate=16000) as client:
        heard = await client.say(SENTENCES[2])
        assert heard.types[-1] == "done"
        samples = np.frombuffer(heard.audio, np.int16)
        assert 1.5 < len(samples) / 16000 < 6
        assert np.abs(samples).max() > 3000
    async with opened(server, "local/kokoro", voice="nobody") as client:
        heard = await client.say(SENTENCES[2])
    assert heard.types[-1] == "error"
    assert "nobody" in heard.messages[-1]["message"]
    assert "af_heart" in heard.messages[-1]["message"]


async def test_what_was_spoken_is_understood(server: Server) -> None:
    weights = fetched("whisper-base") / "models" / "whisper-base"
    async with opened(server, "local/kokoro", rate=16000, voice="af_heart") as client:
        heard = await client.say(*SENTENCES)
    audio = np.frombuffer(heard.audio, np.int16).astype(np.float32) / 32768
    model = WhisperModel(str(weights), "cpu", compute_type="int8")
    segments, _ = model.transcribe(audio, language="en", beam_size=1)
    got = words("".join(segment.text for segment in segments))
    wanted = words("".join(SENTENCES))
    same = sum(block.size for block in SequenceMatcher(None, wanted, got).get_matching_blocks())
    assert 1 - same / len(wanted) <= WORD_ERRORS_MAX, got


def words(text: str) -> list[str]:
    spelt = re.sub(r"[^a-z0-9' ]", " ", text.lower()).replace("30", "thirty")
    return spelt.replace(" 2 ", " two ").split()
