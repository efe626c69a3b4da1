"""Servers of others that only speak a vendor's protocol, behind the real server."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.server import running
from tests.end_to_end.stt_caller import converse, words
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

FIRST, SECOND = VOCABULARY[:7], VOCABULARY[7:12]
SILENCE_S = 9.0
"""More than Deepgram itself ever says nothing for."""


async def test_a_server_with_deepgrams_protocol_is_no_deepgram(tmp_path: Path) -> None:
    """As WhisperLiveKit: one connection serves a session with a long silence to its end."""
    recording = hush(0.3) + spoken(FIRST) + hush(SILENCE_S) + spoken(SECOND) + hush(1.0)
    with FakeDeepgram("foreign") as fake:
        config = f"""
providers: {{rack: {{type: deepgram, base_url: "{fake.url}", api_key: {KEY}}}}}
models: {{mine: [{{provider: rack, model: nova-3}}]}}
usage: {{enabled: false}}
"""
        with running(tmp_path, config) as server:
            told = await converse(server, recording, model="mine", settings={"language": "en"})
        assert words(told) == [*FIRST, *SECOND]
        assert len(fake.connections) == 1
    assert [one for one in told if one["type"] == "error"] == []
