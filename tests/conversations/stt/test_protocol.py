"""What a client's messages mean."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.protocol import read_message
from gateway.upstreams.errors import Failure


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "input_audio", "audio": "AAEC"}',
        '{"type":"input_audio","audio":"AAEC"}',
        '{ "audio": "AAEC", "type": "input_audio" }',
        '{"type":"input_audio","audio":"AAEC","note":"x"}',
        '{"type":"input_audio","audio":"\\u0041AEC"}',
        '{"type":"input_audio","audio":"AQID","audio":"AAEC"}',
    ],
)
def test_audio_is_the_same_in_every_spelling(text: str) -> None:
    assert read_message(text) == b"\x00\x01\x02"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"input_audio","audio":"AAE"}',
        '{"type":"input_audio","audio":"AA==EC"}',
        '{"type":"input_audio","audio":"AAEC\n"}',
        '{"type":"input_audio","audio":"äAEC"}',
        '{"type":"input_audio","audio":"AAEC"}}"}',
        '{"type":"input_audio","audio":7}',
        '{"type":"input_audio","audio":"}',
    ],
)
def test_what_is_not_base64_is_told_so(text: str) -> None:
    assert isinstance(read_message(text), Failure)


def test_a_message_without_samples_is_none_the_less_audio() -> None:
    assert read_message('{"type":"input_audio","audio":""}') == b""
