"""Cartesia's voices: JSON over a WebSocket that carries many contexts.

https://docs.cartesia.ai/api-reference/tts/websocket
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.providers._shared.tts import (
    LINE_PING_S,
    base_language,
    by_close,
    by_status,
    context_of,
    encoded_audio,
    moment,
    read_object,
)
from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind
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

VERSION: Final = "2026-03-01"
"""The first with errors as JSON."""

DEFAULT_VOICE: Final = "f786b574-daa5-4673-aa0c-cbe3e8534c02"
"""Katie, which Cartesia recommends for agents."""

TRAITS: Final = Capabilities(
    rates=(8000, 16000, 22050, 24000, 44100, 48000),
    text_chars_max=4000,  # no limit is documented
    cancel=CancelMode.AT_ONCE,
    times=Times.ABSOLUTE,
    contexts=16,
    lines_max=100,  # ten times the concurrency of the larger plans
    idle_s=280,  # closed by them after 5 minutes
    expires_s=0.7,  # a context is dropped 1 s after its last audio
    options=VOICES["cartesia"],
)

_GENERATION: Final = ("volume", "emotion")
_TOP: Final = (
    "duration",
    "max_buffer_delay_ms",
    "add_timestamps",
    "add_phoneme_timestamps",
    "use_normalized_timestamps",
    "pronunciation_dict_id",
)


class CartesiaVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._dial = Dial(
            websocket_url(join_url(account.base_url, "tts/websocket")),
            {"X-API-Key": account.api_key, "Cartesia-Version": VERSION, **account.headers},
            ping_interval_s=LINE_PING_S,
        )

    def dial(self, request: SpeechRequest) -> Dial:
        return self._dial

    def dialogue(self) -> CartesiaDialogue:
        return CartesiaDialogue()


class CartesiaDialogue:
    """The fields of a context must be the same in all its messages, so they are made once."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, Any]] = {}

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        options = request.options
        fields: dict[str, Any] = {
            "context_id": context,
            "model_id": request.model,
            "voice": {"mode": "id", "id": request.voice or DEFAULT_VOICE},
            "output_format": {
                "container": "raw",
                "encoding": "pcm_s16le",
                "sample_rate": request.sample_rate,
            },
            # whole sentences come in, so there is nothing to wait for
            "max_buffer_delay_ms": 0,
            # the witness of what was spoken, should the connection break
            "add_timestamps": True,
        }
        if language := base_language(request.language):
            fields["language"] = language
        fields |= {name: options[name] for name in _TOP if name in options}
        generation = {name: options[name] for name in _GENERATION if name in options}
        speed = options.get("speed")
        if isinstance(speed, str):
            fields["speed"] = speed
        elif speed is not None:
            generation["speed"] = speed
        if generation:
            fields["generation_config"] = generation
        self._fields[context] = fields
        return ()

    def say(self, context: str, text: str) -> Sequence[str]:
        return (self._message(context, text, True),)

    def finish(self, context: str) -> Sequence[str]:
        return (self._message(context, "", False),)

    def cancel(self, context: str) -> Sequence[str]:
        self._fields.pop(context, None)
        return (orjson.dumps({"context_id": context, "cancel": True}).decode(),)

    def _message(self, context: str, text: str, more: bool) -> str:
        fields = self._fields[context]
        return orjson.dumps({**fields, "transcript": text, "continue": more}).decode()

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
            case {"type": "done"}:
                self._fields.pop(context or "", None)
                return ((context, Finished()),)
            case {"type": "error"}:
                self._fields.pop(context or "", None)
                return ((context, Failed(_failure(message))),)
            case _:  # flush_done, phonemes, and what they add without notice
                return ()

    def closed(self, code: int, reason: str) -> Failure:
        return by_close(code, reason)


def _words(timed: dict[str, Any]) -> tuple[Timed, ...]:
    try:
        return tuple(
            Timed(str(word), moment(start), moment(end))
            for word, start, end in zip(timed["words"], timed["start"], timed["end"], strict=True)
        )
    except (KeyError, TypeError, ValueError):
        return ()  # timings are a luxury; the audio goes on


def _failure(message: dict[str, Any]) -> Failure:
    status = message.get("status_code")
    text = message.get("message") or message.get("error") or message.get("title") or ""
    return by_status(status if isinstance(status, int) else 500, str(text))
