"""Inworld's voices: a bidirectional WebSocket with up to five contexts.

https://docs.inworld.ai/api-reference/ttsAPI/texttospeech/synthesize-speech-websocket
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.providers._shared.tts import (
    LINE_PING_S,
    base_language,
    by_close,
    context_of,
    encoded_audio,
    moment,
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
    Times,
    Words,
)

DEFAULT_VOICE: Final = "Ashley"

TRAITS: Final = Capabilities(
    rates=(8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000),
    text_chars_max=1000,
    cancel=CancelMode.AT_ONCE,
    times=Times.RESTARTING,
    contexts=4,  # five, of which one may still be closing
    lines_max=20,
    idle_s=240,
    options=VOICES["inworld"],
)

_OPTIONS: Final = {
    "temperature": "temperature",
    "delivery_mode": "deliveryMode",
    "timestamp_type": "timestampType",
    "text_normalization": "applyTextNormalization",  # Node's older name
    "apply_text_normalization": "applyTextNormalization",
    "timestamp_transport_strategy": "timestampTransportStrategy",
    "max_buffer_delay_ms": "maxBufferDelayMs",
    "buffer_char_threshold": "bufferCharThreshold",
    "auto_mode_strategy": "autoModeStrategy",
}

_BY_GRPC: Final = {
    3: Kind.UPSTREAM_REFUSED,
    4: Kind.TIMEOUT,
    5: Kind.UPSTREAM_REFUSED,
    7: Kind.UPSTREAM_AUTH,
    8: Kind.RATE_LIMITED,
    14: Kind.OVERLOADED,
    16: Kind.UPSTREAM_AUTH,
}


class InworldVoice:
    """The adapter of one provider. Its key is base64 already."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._dial = Dial(
            websocket_url(join_url(account.base_url, "tts/v1/voice:streamBidirectional")),
            {"Authorization": f"Basic {account.api_key}", **account.headers},
            ping_interval_s=LINE_PING_S,
        )

    def dial(self, request: SpeechRequest) -> Dial:
        return self._dial

    def dialogue(self) -> InworldDialogue:
        return InworldDialogue()


class InworldDialogue:
    """Everything about a speech is in the message that creates its context."""

    def __init__(self) -> None:
        self._spaced: dict[str, bool] = {}

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        options = request.options
        audio: dict[str, Any] = {
            "audioEncoding": "PCM",
            "sampleRateHertz": request.sample_rate,
        }
        if "speaking_rate" in options:
            audio["speakingRate"] = options["speaking_rate"]
        create: dict[str, Any] = {
            "voiceId": request.voice or DEFAULT_VOICE,
            "modelId": request.model,
            "audioConfig": audio,
            "autoMode": True,  # whole sentences come in
            "timestampType": "WORD",  # the witness of what was spoken
            "timestampTransportStrategy": "ASYNC",
        }
        if request.language:
            create["language"] = request.language
        create |= {theirs: options[name] for name, theirs in _OPTIONS.items() if name in options}
        self._spaced[context] = base_language(request.language) not in ("ja", "zh")
        return (_message(context, "create", create),)

    def say(self, context: str, text: str) -> Sequence[str]:
        return (_message(context, "send_text", {"text": text}),)

    def finish(self, context: str) -> Sequence[str]:
        return (_message(context, "flush_context", {}), _message(context, "close_context", {}))

    def cancel(self, context: str) -> Sequence[str]:
        self._spaced.pop(context, None)
        return (_message(context, "cancel_context", {}),)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        error = message.get("error")
        if isinstance(error, dict):
            return ((None, Failed(_failure(error))),)
        result = message.get("result")
        if not isinstance(result, dict):
            return ()
        context = context_of(result)
        status = result.get("status")
        if isinstance(status, dict) and status.get("code"):
            return ((context, Failed(_failure(status))),)
        if "contextClosed" in result:
            self._spaced.pop(str(context), None)
            return ((context, Finished()),)
        chunk = result.get("audioChunk")
        return self._chunk(context, chunk) if isinstance(chunk, dict) else ()

    def _chunk(
        self, context: Any, chunk: dict[str, Any]
    ) -> Sequence[tuple[str | None, SynthesisEvent]]:
        heard: list[tuple[str | None, SynthesisEvent]] = []
        timed = self._timings(context, chunk.get("timestampInfo"))
        if timed is not None:
            heard.append((context, timed))
        if chunk.get("audioContent"):
            audio = encoded_audio(chunk["audioContent"])
            if audio is None:
                return ((context, Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio"))),)
            heard.append((context, audio))
        return heard

    def _timings(self, context: Any, info: Any) -> Words | Chars | None:
        if not isinstance(info, dict):
            return None
        words = _timed(
            info.get("wordAlignment"), "words", "wordStartTimeSeconds", "wordEndTimeSeconds"
        )
        if words:
            # sometimes spaces come as words, or on them; then they are passed as they are
            if any(not word.text or word.text != word.text.strip() for word in words):
                self._spaced[str(context)] = False
            return Words(words, self._spaced.get(str(context), True))
        chars = _timed(
            info.get("characterAlignment"),
            "characters",
            "characterStartTimeSeconds",
            "characterEndTimeSeconds",
        )
        return Chars(chars) if chars else None

    def closed(self, code: int, reason: str) -> Failure:
        return by_close(code, reason)


def _message(context: str, command: str, body: dict[str, Any]) -> str:
    return orjson.dumps({command: body, "contextId": context}).decode()


def _timed(alignment: Any, texts: str, starts: str, ends: str) -> tuple[Timed, ...]:
    try:
        return tuple(
            Timed(str(text), moment(start), moment(end))
            for text, start, end in zip(
                alignment[texts], alignment[starts], alignment[ends], strict=True
            )
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _failure(status: dict[str, Any]) -> Failure:
    code = status.get("code")
    kind = _BY_GRPC.get(code, Kind.UPSTREAM_ERROR) if isinstance(code, int) else Kind.UPSTREAM_ERROR
    text = presentable(str(status.get("message") or "")) or "the provider reported an error"
    return Failure(kind, text)
