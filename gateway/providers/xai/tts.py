"""xAI's voices: a socket that its URL configures, one utterance at a time.

https://docs.x.ai/docs/guides/voice; there is no name of a model.
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
    encoded_audio,
    moment,
    query_value,
    read_object,
)
from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import (
    CancelMode,
    Capabilities,
    Chars,
    Failed,
    Finished,
    SpeechRequest,
    SynthesisEvent,
    Timed,
)

DEFAULT_VOICE: Final = "ara"

TRAITS: Final = Capabilities(
    waits_for_finish=True,
    rates=(8000, 16000, 22050, 24000, 44100, 48000),
    text_chars_max=15_000,
    cancel=CancelMode.CLOSE,  # `text.clear` is known from one client alone
    idle_s=240,
    life_s=1700,  # ended by them after about 2100 s
    options=VOICES["xai"],
)

LANGUAGES: Final = {
    **{tag.lower(): tag for tag in "ar-EG ar-SA ar-AE pt-BR pt-PT es-MX es-ES".split()},
    **{tag: tag for tag in "en bn zh fr de hi id it ja ko ru tr vi".split()},
    "es": "es-ES",
    "pt": "pt-BR",
    "ar": "ar-EG",
}

_OPTIONS: Final = ("speed", "optimize_streaming_latency", "text_normalization", "with_timestamps")

_DONE: Final = orjson.dumps({"type": "text.done"}).decode()


class XaiVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(account.base_url, "tts"))
        self._headers = {"Authorization": f"Bearer {account.api_key}", **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        query: dict[str, Any] = {
            "voice": request.voice or DEFAULT_VOICE,
            "language": upstream_language(request.language),
            "codec": "pcm",
            "sample_rate": request.sample_rate,
            **{name: request.options[name] for name in _OPTIONS if name in request.options},
        }
        encoded = urlencode({name: query_value(value) for name, value in query.items()})
        return Dial(f"{self._url}?{encoded}", self._headers, ping_interval_s=LINE_PING_S)

    def dialogue(self) -> XaiDialogue:
        return XaiDialogue()


def upstream_language(language: str | None) -> str:
    """xAI's tag for a language; `auto` for one that it does not list."""
    if not language:
        return "auto"
    tag = language.replace("_", "-").lower()
    return LANGUAGES.get(tag) or LANGUAGES.get(base_language(tag) or "", "auto")


class XaiDialogue:
    """No names: one utterance at a time."""

    def __init__(self) -> None:
        self._finished = False

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        self._finished = False
        return ()

    def say(self, context: str, text: str) -> Sequence[str]:
        return (orjson.dumps({"type": "text.delta", "delta": text}).decode(),)

    def finish(self, context: str) -> Sequence[str]:
        self._finished = True
        return (_DONE,)

    def cancel(self, context: str) -> Sequence[str]:
        return ()

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        match message.get("type"):
            case "audio.delta":
                return _delta(message)
            case "audio.done" if self._finished:  # one may come too early
                return ((None, Finished()),)
            case "error":
                text = str(message.get("message") or message.get("error") or "")
                said = presentable(text) or "the provider reported an error"
                return ((None, Failed(Failure(Kind.UPSTREAM_ERROR, said))),)
            case _:
                return ()

    def closed(self, code: int, reason: str) -> Failure:
        return by_close(code, reason)


def _delta(message: dict[str, Any]) -> Sequence[tuple[str | None, SynthesisEvent]]:
    heard: list[tuple[str | None, SynthesisEvent]] = []
    stamps = message.get("audio_timestamps")
    if isinstance(stamps, dict):
        try:
            chars = tuple(
                Timed(str(char), moment(start), moment(end))
                for char, (start, end) in zip(
                    stamps["graph_chars"], stamps["graph_times"], strict=True
                )
            )
        except (KeyError, TypeError, ValueError):
            chars = ()
        if chars:
            heard.append((None, Chars(chars)))
    if message.get("delta"):
        audio = encoded_audio(message["delta"])
        if audio is None:
            return ((None, Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio"))),)
        heard.append((None, audio))
    return heard
