"""Deepgram's voices: names of models, and what its frames mean."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.deepgram.settings import DeepgramSettings
from gateway.providers.deepgram.tts import DeepgramVoice, upstream_model
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Audio, Failed, Finished, Released, SpeechRequest

VOICE = DeepgramVoice(
    Account("deepgram", "deepgram", "https://api.deepgram.com", "key", settings=DeepgramSettings())
)


@pytest.mark.parametrize(
    ("model", "voice", "language", "name"),
    [
        ("aura-2", "athena", "en-US", "aura-2-athena-en"),
        ("aura", "athena", None, "aura-athena-en"),
        ("aura-2", "celeste", "es", "aura-2-celeste-es"),
        ("aura-2", None, None, "aura-2-andromeda-en"),
        ("aura-2", None, "pt", "aura-2-andromeda-en"),
        ("aura", None, None, "aura-asteria-en"),
        ("aura", "luna", "de", "aura-luna-en"),
        ("aura-2", None, "de", "aura-2-julius-de"),
        ("aura-2", "aura-2-thalia-en", "en", "aura-2-thalia-en"),
        ("aura-asteria-en", None, None, "aura-asteria-en"),
    ],
)
def test_model_voice_and_language_are_one_name(
    model: str, voice: str | None, language: str | None, name: str
) -> None:
    assert upstream_model(model, voice, language) == name


def test_everything_is_in_the_url() -> None:
    request = SpeechRequest("aura-2", "athena", "en", 16000, {"mip_opt_out": True})
    dial = VOICE.dial(request)
    assert dial.headers["Authorization"] == "Token key"
    assert parse_qs(urlsplit(dial.url).query) == {
        "model": ["aura-2-athena-en"],
        "encoding": ["linear16"],
        "sample_rate": ["16000"],
        "mip_opt_out": ["true"],
    }


def test_an_utterance_is_speaks_and_one_flush() -> None:
    dialogue = VOICE.dialogue()
    assert dialogue.begin("u1", SpeechRequest("aura-2", None, None, 24000)) == ()
    assert [json.loads(f) for f in dialogue.say("u1", "One. ")] == [
        {"type": "Speak", "text": "One. "}
    ]
    assert [json.loads(f) for f in dialogue.finish("u1")] == [{"type": "Flush"}]
    assert [json.loads(f) for f in dialogue.cancel("u1")] == [{"type": "Clear"}]


def test_a_flushed_counts_only_after_a_flush() -> None:
    dialogue = VOICE.dialogue()
    assert dialogue.decode('{"type":"Flushed","sequence_id":0}') == ()
    dialogue.finish("u1")
    ((_, heard),) = dialogue.decode('{"type":"Flushed","sequence_id":1}')
    assert isinstance(heard, Finished)


def test_frames() -> None:
    dialogue = VOICE.dialogue()
    assert dialogue.decode(b"\1\0") == ((None, Audio(b"\1\0")),)
    assert isinstance(dialogue.decode('{"type":"Cleared"}')[0][1], Released)
    assert dialogue.decode('{"type":"Metadata"}') == ()
    assert dialogue.decode('{"type":"Warning","warn_msg":"x"}') == ()
    ((_, failed),) = dialogue.decode('{"type":"Error","description":"why"}')
    assert isinstance(failed, Failed)
    assert failed.failure.message == "why"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1008, "DATA-0001", Kind.RATE_LIMITED),
        (1009, "BIG-0001", Kind.UPSTREAM_REFUSED),
        (1011, "NET-0000", Kind.CONNECTION_LOST),
    ],
)
def test_closes(code: int, reason: str, kind: Kind) -> None:
    assert VOICE.dialogue().closed(code, reason).kind is kind


@pytest.mark.parametrize(
    ("training", "asked", "sent"),
    [
        (False, {}, ["true"]),
        (False, {"mip_opt_out": False}, ["true"]),
        (True, {}, None),
        (True, {"mip_opt_out": True}, ["true"]),
    ],
)
def test_nobody_trains_on_what_is_said_unless_the_operator_allows_it(
    training: bool, asked: dict[str, bool], sent: list[str] | None
) -> None:
    settings = DeepgramSettings(training=training)
    voice = DeepgramVoice(Account("d", "deepgram", "https://d", "key", settings=settings))
    dial = voice.dial(SpeechRequest("aura-2", None, "en", 16000, asked))
    assert parse_qs(urlsplit(dial.url).query).get("mip_opt_out") == sent
