"""Rime's ws3."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.rime.tts import RimeVoice
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.tts import Audio, Failed, Finished, SpeechRequest, Timed, Words

VOICE = RimeVoice(
    Account("rime", "rime", "https://users-ws.rime.ai", "key", settings=ProviderSettings())
)


def query(**more: Any) -> dict[str, list[str]]:
    asked = {"model": "coda", "voice": None, "language": "en", "sample_rate": 24000, **more}
    return parse_qs(urlsplit(VOICE.dial(SpeechRequest(**asked)).url).query)


def test_the_query_says_everything_in_rimes_own_names() -> None:
    asked = query(options={"speed_alpha": 1.2, "no_text_normalization": True, "top_p": 0.9})
    assert asked == {
        "speaker": ["lyra"],
        "modelId": ["coda"],
        "audioFormat": ["pcm"],
        "samplingRate": ["24000"],
        "lang": ["eng"],
        "speedAlpha": ["1.2"],
        "noTextNormalization": ["true"],
        "top_p": ["0.9"],
    }


@pytest.mark.parametrize(("model", "speaker"), [("mistv2", "cove"), ("arcana", "astra")])
def test_every_model_has_a_speaker(model: str, speaker: str) -> None:
    assert query(model=model)["speaker"] == [speaker]


def test_texts_and_operations() -> None:
    dialogue = VOICE.dialogue()
    dialogue.begin("u1", SpeechRequest("coda", None, None, 24000))
    assert json.loads(dialogue.say("u1", "One. ")[0]) == {"text": "One. ", "contextId": "u1"}
    assert json.loads(dialogue.finish("u1")[0]) == {"operation": "flush", "contextId": "u1"}
    assert json.loads(dialogue.cancel("u1")[0]) == {"operation": "clear"}


def test_a_done_before_the_flush_is_that_of_a_sentence() -> None:
    dialogue = VOICE.dialogue()
    done = '{"type":"done","contextId":"u1"}'
    assert dialogue.decode(done) == ()
    dialogue.finish("u1")
    ((context, heard),) = dialogue.decode(done)
    assert context == "u1"
    assert isinstance(heard, Finished)


def test_audio_and_words() -> None:
    dialogue = VOICE.dialogue()
    chunk = '{"type":"chunk","data":"AQA=","contextId":"u1"}'
    assert dialogue.decode(chunk) == (("u1", Audio(b"\1\0")),)
    timed = {"words": ["Hi"], "start": [0.0], "end": [0.2]}
    message = {"type": "timestamps", "word_timestamps": timed, "contextId": "u1"}
    assert dialogue.decode(json.dumps(message)) == (("u1", Words((Timed("Hi", 0.0, 0.2),))),)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("400 bad speaker", Kind.UPSTREAM_REFUSED),
        ("429 slow down", Kind.RATE_LIMITED),
        ("500 oops", Kind.UPSTREAM_ERROR),
        ("", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_is_known_by_the_status_in_its_reason(reason: str, kind: Kind) -> None:
    assert VOICE.dialogue().closed(1011, reason).kind is kind
    if reason:
        ((_, failed),) = VOICE.dialogue().decode(json.dumps({"type": "error", "message": reason}))
        assert isinstance(failed, Failed)
        assert failed.failure.kind is kind
