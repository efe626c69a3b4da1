"""xAI's voices."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.xai.tts import XaiVoice, upstream_language
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Chars, Failed, Finished, SpeechRequest, Timed

VOICE = XaiVoice(Account("xai", "xai", "https://api.x.ai/v1", "key", settings=ProviderSettings()))


@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        (None, "auto"),
        ("en-US", "en"),
        ("es", "es-ES"),
        ("pt-PT", "pt-PT"),
        ("pt", "pt-BR"),
        ("xx", "auto"),
    ],
)
def test_languages_are_those_that_xai_lists(given: str | None, theirs: str) -> None:
    assert upstream_language(given) == theirs


def test_everything_is_in_the_url_but_a_model() -> None:
    request = SpeechRequest("tts-1", None, "en", 24000, {"speed": 1.1, "bit_rate": 64000})
    dial = VOICE.dial(request)
    assert dial.url.startswith("wss://api.x.ai/v1/tts?")
    assert parse_qs(urlsplit(dial.url).query) == {
        "voice": ["ara"],
        "language": ["en"],
        "codec": ["pcm"],
        "sample_rate": ["24000"],
        "speed": ["1.1"],
    }


def test_an_early_done_is_not_the_end() -> None:
    dialogue = VOICE.dialogue()
    assert dialogue.decode('{"type":"audio.done"}') == ()
    assert json.loads(dialogue.say("u1", "One. ")[0]) == {"type": "text.delta", "delta": "One. "}
    assert json.loads(dialogue.finish("u1")[0]) == {"type": "text.done"}
    assert isinstance(dialogue.decode('{"type":"audio.done"}')[0][1], Finished)


def test_audio_and_timings_may_come_apart() -> None:
    dialogue = VOICE.dialogue()
    assert dialogue.decode('{"type":"audio.delta","delta":"AQA="}') == [(None, Audio(b"\1\0"))]
    stamps = {"graph_chars": ["H"], "graph_times": [[0.0, 0.1]]}
    message = {"type": "audio.delta", "delta": "", "audio_timestamps": stamps}
    assert dialogue.decode(json.dumps(message)) == [(None, Chars((Timed("H", 0.0, 0.1),)))]


def test_an_error_says_why() -> None:
    ((_, failed),) = VOICE.dialogue().decode('{"type":"error","error":"why"}')
    assert isinstance(failed, Failed)
    assert (failed.failure.kind, failed.failure.message) == (Kind.UPSTREAM_ERROR, "why")
