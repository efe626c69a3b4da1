"""Fish Audio's voices: MessagePack on a socket that carries one utterance.

https://docs.fish.audio/api-reference/endpoint/websocket/tts-live
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from gateway.providers._shared.tts import by_close
from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import (
    Audio,
    CancelMode,
    Capabilities,
    Failed,
    Finished,
    SpeechRequest,
    SynthesisEvent,
)

DEFAULT_VOICE: Final = "933563129e564b19a115bedd57b7406a"

PING_S: Final = 30.0
"""Keeps a socket that was opened ahead of need alive. Answers may come late under load."""

TRAITS: Final = Capabilities(
    rates=(8000, 16000, 24000, 32000, 44100, 48000),
    text_chars_max=2000,  # not documented
    cancel=CancelMode.CLOSE,
    idle_s=120,
    reusable=False,  # by their description it is closed after `finish`
    options=VOICES["fishaudio"],
)

_OPTIONS: Final = (
    "latency",
    "chunk_length",
    "min_chunk_length",
    "max_new_tokens",
    "temperature",
    "top_p",
    "repetition_penalty",
    "normalize",
    "condition_on_previous_chunks",
    "early_stop_threshold",
    "references",
)
_PROSODY: Final = ("speed", "volume", "normalize_loudness")


class FishAudioVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(account.base_url, "v1/tts/live"))
        self._headers = {"Authorization": f"Bearer {account.api_key}", **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        headers = {**self._headers, "model": request.model}
        return Dial(self._url, headers, ping_interval_s=PING_S)

    def dialogue(self) -> FishAudioDialogue:
        return FishAudioDialogue()


class FishAudioDialogue:
    """No names, no answers but audio and the end."""

    def begin(self, context: str, request: SpeechRequest) -> Sequence[bytes]:
        options = request.options
        asked: dict[str, Any] = {
            "text": "",
            "format": "pcm",
            "sample_rate": request.sample_rate,
            "reference_id": request.voice or DEFAULT_VOICE,
            "references": [],
            "latency": "balanced",
            "chunk_length": 100,
            **{name: options[name] for name in _OPTIONS if name in options},
        }
        prosody = {name: options[name] for name in _PROSODY if name in options}
        if request.model == "s1":
            prosody.pop("normalize_loudness", None)  # not of that family
        if prosody:
            asked["prosody"] = prosody
        return (_pack({"event": "start", "request": asked}),)

    def say(self, context: str, text: str) -> Sequence[bytes]:
        return (_pack({"event": "text", "text": text}), _pack({"event": "flush"}))

    def finish(self, context: str) -> Sequence[bytes]:
        return (_pack({"event": "stop"}),)

    def cancel(self, context: str) -> Sequence[bytes]:
        return ()

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = None
        if isinstance(frame, bytes):
            try:
                message = msgpack.unpackb(frame, raw=False)
            except (ValueError, msgpack.UnpackException):
                message = None
        match message:
            case {"event": "audio", "audio": bytes(pcm)}:
                return ((None, Audio(pcm)),)
            case {"event": "finish", "reason": "error"}:
                failure = Failure(Kind.UPSTREAM_ERROR, "the provider gave up without a reason")
                return ((None, Failed(failure)),)
            case {"event": "finish"}:
                return ((None, Finished()),)
            case {"event": _}:
                return ()
            case _:
                failure = Failure(Kind.PROTOCOL_ERROR, "the provider sent no MessagePack map")
                return ((None, Failed(failure)),)

    def closed(self, code: int, reason: str) -> Failure:
        return by_close(code, reason)


def _pack(message: dict[str, Any]) -> bytes:
    packed = msgpack.packb(message, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed
