"""Rime's voices by ws3: JSON on a socket that its URL configures, one utterance at a time.

https://docs.rime.ai/api-reference/endpoint/websockets-json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from gateway.providers._shared.tts import (
    LINE_PING_S,
    base_language,
    by_close,
    by_status,
    context_of,
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
    Failed,
    Finished,
    SpeechRequest,
    SynthesisEvent,
    Timed,
    Times,
    Words,
)

TRAITS: Final = Capabilities(
    rates=(8000, 11025, 16000, 22050, 24000, 32000, 44100),
    text_chars_max=500,
    cancel=CancelMode.AT_ONCE,
    times=Times.RESTARTING,
    idle_s=240,
    options=VOICES["rime"],
)

LANGUAGES: Final = {
    "en": "eng",
    "es": "spa",
    "fr": "fra",
    "de": "ger",
    "hi": "hin",
    "pt": "por",
    "ja": "jpn",
}

_OPTIONS: Final = {
    "speed_alpha": "speedAlpha",
    "pause_between_brackets": "pauseBetweenBrackets",
    "phonemize_between_brackets": "phonemizeBetweenBrackets",
    "inline_speed_alpha": "inlineSpeedAlpha",
    "no_text_normalization": "noTextNormalization",
    "reduce_latency": "reduceLatency",
    "save_oovs": "saveOovs",
    "time_scale_factor": "timeScaleFactor",
}

_STATUS: Final = re.compile(r"^\s*([1-5]\d\d)\b")


class RimeVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(account.base_url, "ws3"))
        self._headers = {"Authorization": f"Bearer {account.api_key}", **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        query: dict[str, Any] = {
            "speaker": request.voice or default_voice(request.model),
            "modelId": request.model,
            "audioFormat": "pcm",
            "samplingRate": request.sample_rate,
        }
        language = base_language(request.language)
        if language:
            query["lang"] = LANGUAGES.get(language, request.language)
        query |= {_OPTIONS.get(name, name): value for name, value in request.options.items()}
        encoded = urlencode({name: query_value(value) for name, value in query.items()})
        return Dial(f"{self._url}?{encoded}", self._headers, ping_interval_s=LINE_PING_S)

    def dialogue(self) -> RimeDialogue:
        return RimeDialogue()


def default_voice(model: str) -> str:
    """A speaker that the model has."""
    return "cove" if model.startswith("mist") else "lyra" if model == "coda" else "astra"


class RimeDialogue:
    """The id of a context is but a label: events carry the newest one that was sent."""

    def __init__(self) -> None:
        self._flushed = False

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        self._flushed = False
        return ()

    def say(self, context: str, text: str) -> Sequence[str]:
        return (orjson.dumps({"text": text, "contextId": context}).decode(),)

    def finish(self, context: str) -> Sequence[str]:
        self._flushed = True
        return (orjson.dumps({"operation": "flush", "contextId": context}).decode(),)

    def cancel(self, context: str) -> Sequence[str]:
        return (orjson.dumps({"operation": "clear"}).decode(),)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        context = context_of(message)
        match message:
            case {"type": "chunk", "data": data}:
                audio = encoded_audio(data)
                if audio is None:
                    return ((context, Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio"))),)
                return ((context, audio),)
            case {"type": "timestamps", "word_timestamps": dict(timed)}:
                return ((context, Words(_words(timed))),)
            case {"type": "done"} if self._flushed:  # one may come for every synthesis before
                return ((context, Finished()),)
            case {"type": "error"}:
                return ((context, Failed(_failure(str(message.get("message", ""))))),)
            case _:
                return ()

    def closed(self, code: int, reason: str) -> Failure:
        match = _STATUS.match(reason)
        return by_status(int(match.group(1)), reason) if match else by_close(code, reason)


def _words(timed: dict[str, Any]) -> tuple[Timed, ...]:
    try:
        return tuple(
            Timed(str(word), moment(start), moment(end))
            for word, start, end in zip(timed["words"], timed["start"], timed["end"], strict=True)
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _failure(text: str) -> Failure:
    match = _STATUS.match(text)
    if match:
        return by_status(int(match.group(1)), text)
    return Failure(Kind.UPSTREAM_ERROR, presentable(text) or "the provider reported an error")
