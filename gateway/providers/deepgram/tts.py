"""Deepgram's Aura voices: one utterance at a time on a socket that its URL configures.

https://developers.deepgram.com/docs/tts-websocket
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from gateway.providers._shared.tts import (
    LINE_PING_S,
    base_language,
    by_close,
    query_value,
    read_object,
)
from gateway.providers._shared.voice_options import VOICES
from gateway.providers.deepgram.closes import code_of
from gateway.providers.deepgram.settings import DeepgramSettings, private
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import (
    Audio,
    CancelMode,
    Capabilities,
    Failed,
    Finished,
    Released,
    SpeechRequest,
    SynthesisEvent,
)

DEFAULT_VOICES: Final = {
    "en": "andromeda",
    "es": "celeste",
    "de": "julius",
    "fr": "agathe",
    "it": "livia",
    "ja": "izanami",
    "nl": "rhea",
}

TRAITS: Final = Capabilities(
    waits_for_finish=True,
    rates=(8000, 16000, 24000, 32000, 48000),
    text_chars_max=1000,
    cancel=CancelMode.ACKNOWLEDGED,
    idle_s=60,  # theirs is not documented, and an open socket may count towards concurrency
    life_s=3300,  # closed by them after 60 minutes
    options=VOICES["deepgram"],
)

_SPEAK_FLUSH: Final = orjson.dumps({"type": "Flush"}).decode()
_CLEAR: Final = orjson.dumps({"type": "Clear"}).decode()


class DeepgramVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account[DeepgramSettings]) -> None:
        self._private = private(account)
        self._url = websocket_url(join_url(account.base_url, "v1/speak"))
        self._headers = {"Authorization": f"Token {account.api_key}", **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        query = {
            "model": upstream_model(request.model, request.voice, request.language),
            "encoding": "linear16",
            "sample_rate": request.sample_rate,
            **request.options,
            **self._private,
        }
        encoded = urlencode({name: query_value(value) for name, value in query.items()})
        return Dial(f"{self._url}?{encoded}", self._headers, ping_interval_s=LINE_PING_S)

    def dialogue(self) -> DeepgramDialogue:
        return DeepgramDialogue()


def upstream_model(model: str, voice: str | None, language: str | None) -> str:
    """Deepgram's own name: model, voice and language in one, e.g. aura-2-thalia-en."""
    if voice is not None and voice.startswith(("aura-", "flux-")):
        return voice
    if model.count("-") >= 2 and voice is None:
        return model  # a full name already: aura-2-thalia-en, aura-asteria-en
    spoken = base_language(language) or "en"
    if model == "aura":  # the first family: English, with voices of its own
        return f"{model}-{voice or 'asteria'}-en"
    if voice is None and spoken not in DEFAULT_VOICES:
        spoken = "en"  # it has no voice that speaks this language
    return f"{model}-{voice or DEFAULT_VOICES[spoken]}-{spoken}"


class DeepgramDialogue:
    """Audio frames have no name: after a Clear, all are late until Cleared."""

    def __init__(self) -> None:
        self._flushed = False

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        self._flushed = False
        return ()

    def say(self, context: str, text: str) -> Sequence[str]:
        return (orjson.dumps({"type": "Speak", "text": text}).decode(),)

    def finish(self, context: str) -> Sequence[str]:
        self._flushed = True
        return (_SPEAK_FLUSH,)

    def cancel(self, context: str) -> Sequence[str]:
        return (_CLEAR,)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        if isinstance(frame, bytes):
            return ((None, Audio(frame)),)
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        match message.get("type"):
            case "Flushed" if self._flushed:
                # also comes late for a speech that was cancelled; then it releases nothing yet
                return ((None, Finished()),)
            case "Cleared":
                return ((None, Released()),)
            case "Error" | "error":
                return ((None, Failed(_failure(message))),)
            case _:  # Metadata, Warning
                return ()

    def closed(self, code: int, reason: str) -> Failure:
        if code_of(reason) == "DATA-0001":
            return Failure(Kind.RATE_LIMITED, presentable(reason), upstream_status=code)
        if code in (1003, 1009):
            return Failure(Kind.UPSTREAM_REFUSED, presentable(reason), upstream_status=code)
        return by_close(code, reason)


def _failure(message: dict[str, Any]) -> Failure:
    text = message.get("description") or message.get("err_msg") or message.get("message") or ""
    return Failure(Kind.UPSTREAM_ERROR, presentable(str(text)) or "the provider reported an error")
