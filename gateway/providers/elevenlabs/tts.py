"""ElevenLabs' voices: a WebSocket for each voice, with up to five contexts.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input
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
    by_status,
    context_of,
    encoded_audio,
    moment,
    query_value,
    read_object,
)
from gateway.providers._shared.voice_options import VOICES
from gateway.providers.elevenlabs.settings import ElevenLabsSettings, private
from gateway.upstreams.dial import Dial, join_url, path_segment, websocket_url
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
)

DEFAULT_VOICE: Final = "hpp4J3VqNfWAUOO0d1Us"

INACTIVITY_S: Final = 180
"""The longest that may be asked for; a context without a word for so long is ended by them."""

TRAITS: Final = Capabilities(
    rates=(8000, 16000, 22050, 24000, 44100),
    text_chars_max=3000,
    cancel=CancelMode.ACKNOWLEDGED,
    times=Times.RESTARTING,
    contexts=4,  # five are allowed, but one too many kills them all
    lines_max=100,
    idle_s=INACTIVITY_S - 20,
    options=VOICES["elevenlabs"],
)

_QUERY: Final = (
    "enable_logging",
    "enable_ssml_parsing",
    "inactivity_timeout",
    "apply_text_normalization",
    "apply_language_text_normalization",
    "seed",
    "auto_mode",
)
_VOICE_SETTINGS: Final = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")
_CODES: Final = {
    "invalid_api_key": Kind.UPSTREAM_AUTH,
    "authentication_required": Kind.UPSTREAM_AUTH,
    "missing_permissions": Kind.UPSTREAM_AUTH,
    "detected_unusual_activity": Kind.UPSTREAM_AUTH,
    "quota_exceeded": Kind.UPSTREAM_QUOTA,
    "voice_not_found": Kind.UPSTREAM_REFUSED,
    "max_character_limit_exceeded": Kind.UPSTREAM_REFUSED,
    "too_many_concurrent_requests": Kind.RATE_LIMITED,
    "max_active_conversations": Kind.RATE_LIMITED,
    "system_busy": Kind.OVERLOADED,
    "input_timeout_exceeded": Kind.CONNECTION_LOST,
}
_TAKES_LANGUAGE: Final = ("v2_5", "v3", "v4")


class ElevenLabsVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account[ElevenLabsSettings]) -> None:
        self._private = private(account)
        self._base = websocket_url(join_url(account.base_url, "v1/text-to-speech"))
        self._headers = {"xi-api-key": account.api_key, **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        options = request.options
        query: dict[str, Any] = {
            "model_id": request.model,
            "output_format": f"pcm_{request.sample_rate}",
            "inactivity_timeout": INACTIVITY_S,
            # the witness of what was spoken; the client ignores it unless it asked
            "sync_alignment": True,
            # whole sentences come in, unless the client has a schedule of its own
            "auto_mode": "chunk_length_schedule" not in options,
        }
        language = options.get("language_code") or base_language(request.language)
        if language and any(name in request.model for name in _TAKES_LANGUAGE):
            query["language_code"] = language
        query |= {name: options[name] for name in _QUERY if name in options}
        query |= self._private
        encoded = urlencode({name: query_value(value) for name, value in query.items()})
        voice = path_segment(request.voice or DEFAULT_VOICE)
        return Dial(
            f"{self._base}/{voice}/multi-stream-input?{encoded}",
            self._headers,
            ping_interval_s=LINE_PING_S,
        )

    def dialogue(self) -> ElevenLabsDialogue:
        return ElevenLabsDialogue()


class ElevenLabsDialogue:
    """A context that is unknown to them is made by any message, so none may be sent late."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._original: set[str] = set()

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        options = request.options
        message: dict[str, Any] = {"text": " ", "context_id": context}
        settings = {name: options[name] for name in _VOICE_SETTINGS if name in options}
        if settings:
            message["voice_settings"] = settings
        if "chunk_length_schedule" in options:
            schedule = options["chunk_length_schedule"]
            message["generation_config"] = {"chunk_length_schedule": schedule}
        self._open.add(context)
        if (
            options.get("preferred_alignment") == "original"
            or base_language(request.language) in ("ja", "ko", "zh")
        ):  # fmt: skip
            self._original.add(context)
        return (orjson.dumps(message).decode(),)

    def say(self, context: str, text: str) -> Sequence[str]:
        spaced = text if text.endswith(" ") else text + " "
        return (orjson.dumps({"text": spaced, "context_id": context}).decode(),)

    def finish(self, context: str) -> Sequence[str]:
        if context not in self._open:
            return ()
        self._open.discard(context)
        return (orjson.dumps({"context_id": context, "close_context": True}).decode(),)

    def cancel(self, context: str) -> Sequence[str]:
        return self.finish(context)  # there is nothing harder

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        context = context_of(message)
        if message.get("error") or (message.get("code") and message.get("message")):
            return ((context, Failed(_failure(message))),)
        heard: list[tuple[str | None, SynthesisEvent]] = []
        chars = _chars(self._alignment(message, context))
        if chars:
            heard.append((context, Chars(chars)))  # before its audio: its times begin there
        if message.get("audio"):
            audio = encoded_audio(message["audio"])
            if audio is None:
                return ((context, Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio"))),)
            heard.append((context, audio))
        if message.get("isFinal") or message.get("is_final"):
            self._open.discard(context or "")
            self._original.discard(context or "")
            heard.append((context, Finished()))
        return heard

    def _alignment(self, message: dict[str, Any], context: Any) -> Any:
        plain, normalized = message.get("alignment"), message.get("normalizedAlignment")
        return (plain or normalized) if context in self._original else (normalized or plain)

    def closed(self, code: int, reason: str) -> Failure:
        for name, kind in _CODES.items():
            if name in reason:
                return Failure(kind, presentable(reason), upstream_status=code)
        return by_close(code, reason)


def _chars(alignment: Any) -> tuple[Timed, ...]:
    """Milliseconds to seconds, whatever the spelling of the fields."""
    if not isinstance(alignment, dict):
        return ()
    chars = alignment.get("chars")
    starts = _first(alignment, "charStartTimesMs", "charsStartTimesMs", "char_start_times_ms")
    lasts = _first(
        alignment, "charDurationsMs", "charsDurationsMs", "charsDurationMs", "char_durations_ms"
    )
    try:
        return tuple(
            Timed(str(char), moment(start) / 1000, (moment(start) + moment(last)) / 1000)
            for char, start, last in zip(chars, starts, lasts, strict=True)  # type: ignore[arg-type]
        )
    except (TypeError, ValueError):
        return ()


def _first(alignment: dict[str, Any], *names: str) -> Any:
    return next((alignment[name] for name in names if name in alignment), None)


def _failure(message: dict[str, Any]) -> Failure:
    name, text = str(message.get("error") or ""), str(message.get("message") or "")
    kind = _CODES.get(name)
    if kind is not None:
        return Failure(kind, presentable(text or name))
    code = message.get("code")
    return by_status(code if isinstance(code, int) and code < 1000 else 500, text or name)
