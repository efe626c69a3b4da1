"""AssemblyAI's voices: JSON over a WebSocket that its URL configures, one utterance at a time.

https://www.assemblyai.com/docs/tts/message-frames

A session answers `Begin` to its opening, or `Error`. `Generate` adds text, `Flush` makes a request
of it, whose number (`flush_id`) counts from 0; so does `Cancel`. `Audio` and `FlushDone` carry the
number, and so does `WordBoundaries`, which comes after a request's `FlushDone`, if it comes. Each
text is a request of its own here, so that its words are there while the next is heard; behind the
last goes an empty one, whose end says that no more words are to be waited for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from gateway.providers._shared.chat_errors import RETRY_AFTER_S_MAX
from gateway.providers._shared.stt import number
from gateway.providers._shared.tts import (
    LINE_PING_S,
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
    Failed,
    Finished,
    Released,
    SpeechRequest,
    SynthesisEvent,
    Timed,
    Words,
)

DEFAULT_VOICE: Final = "987db62e-a2c2-569a-9c4d-82460cdea1bd"
"""Keegan, as in AssemblyAI's plugin for LiveKit."""

TRAITS: Final = Capabilities(
    rates=(8000, 16000, 22050, 24000, 44100, 48000),
    text_chars_max=2000,
    cancel=CancelMode.ACKNOWLEDGED,
    life_s=3300,  # a session lasts an hour
    options=VOICES["assemblyai"],
)

UNBROKEN_CHARS_MAX: Final = 40
"""A longer run without a space is refused by some models, with all of its session (3006)."""

_UNBROKEN: Final = re.compile(rf"\S{{{UNBROKEN_CHARS_MAX}}}(?=\S)")

_FLUSH: Final = orjson.dumps({"type": "Flush"}).decode()
_CANCEL: Final = orjson.dumps({"type": "Cancel"}).decode()

_KINDS: Final[Mapping[int, Kind]] = {
    1008: Kind.UPSTREAM_AUTH,
    3005: Kind.UPSTREAM_ERROR,
    3006: Kind.UPSTREAM_REFUSED,
    3008: Kind.SESSION_LIMIT,
    3009: Kind.RATE_LIMITED,
    3010: Kind.UPSTREAM_REFUSED,
    3011: Kind.UPSTREAM_REFUSED,
    3012: Kind.UPSTREAM_REFUSED,
    3014: Kind.UPSTREAM_REFUSED,
}
"""Close codes, which are the codes of `Error` too."""


class AssemblyAIVoice:
    """The adapter of one provider."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(voices_host(account.base_url), "v1/ws"))
        self._headers = {"Authorization": account.api_key, **account.headers}

    def dial(self, request: SpeechRequest) -> Dial:
        query = {
            "model_id": request.model,
            "voice_id": request.voice or DEFAULT_VOICE,
            "sample_rate": request.sample_rate,
            "encoding": "pcm_s16le",
            "word_boundaries": request.options.get("word_timestamps", True),
        }
        if request.language not in (None, "multi"):
            query["language"] = request.language
        encoded = urlencode({name: query_value(value) for name, value in query.items()})
        return Dial(f"{self._url}?{encoded}", self._headers, ping_interval_s=LINE_PING_S)

    def dialogue(self) -> AssemblyAIDialogue:
        return AssemblyAIDialogue()


def voices_host(base_url: str) -> str:
    """Where the voices are of an account whose recognisers are at `base_url`: in the same zone; at
    an address of the operator's own, there."""
    if ".assemblyai.com" not in base_url:
        return base_url
    zone = "eu" if "://streaming.eu." in base_url else "us"
    return f"https://tts.{zone}.assemblyai.com"


class AssemblyAIDialogue:
    """Counts requests as the provider does."""

    def __init__(self) -> None:
        self._next = 0
        self._first = 0  # request of the utterance that is open
        self._last: int | None = None  # the last one with text, once no more comes
        self._said = 0  # texts of the utterance
        self._words = True
        self._offset_s = 0.0  # where in the utterance the request begins that is being spoken
        self._begins_s: dict[int, float] = {}

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        self._first, self._last, self._said = self._next, None, 0
        self._offset_s = 0.0
        self._begins_s = {}
        return ()

    def say(self, context: str, text: str) -> Sequence[str]:
        self._next += 1
        self._said += 1
        text = _UNBROKEN.sub(r"\g<0> ", text)
        return (orjson.dumps({"type": "Generate", "text": text}).decode(), _FLUSH)

    def finish(self, context: str) -> Sequence[str]:
        self._last = self._next - 1
        self._next += 1
        return (_FLUSH,)

    def cancel(self, context: str) -> Sequence[str]:
        self._next += 1
        self._first = self._next
        return (_CANCEL,)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        message = read_object(frame)
        if isinstance(message, Failure):
            return ((None, Failed(message)),)
        number = message.get("flush_id")
        number = number if isinstance(number, int) else -1
        match message.get("type"):
            case "Begin":
                configuration = message.get("configuration")
                if isinstance(configuration, dict):
                    self._words = configuration.get("word_boundaries") is not False
                return ()
            case "Audio" if number >= self._first:
                audio = encoded_audio(message.get("audio"))
                if audio is None:
                    return ((None, Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio"))),)
                self._begins_s.setdefault(number, self._offset_s)
                return ((None, audio),)
            case "FlushDone" if number >= self._first:
                return self._done(number, message)
            case "WordBoundaries" if number >= self._first:
                return self._heard_words(number, message)
            case "Cancelled":
                return ((None, Released()),)
            case "Error":
                return ((None, Failed(_failure(message))),)
            case _:  # Termination, late frames, and what they add without notice
                return ()

    def _done(
        self, number: int, message: Mapping[str, Any]
    ) -> Sequence[tuple[str | None, SynthesisEvent]]:
        self._begins_s.setdefault(number, self._offset_s)
        with contextlib.suppress(TypeError, ValueError):  # timings are a luxury
            self._offset_s += moment(message.get("audio_duration_ms")) / 1000
        if self._last is None or number < self._last or (number == self._last and self._words):
            return ()
        return self._finished()

    def _heard_words(
        self, number: int, message: Mapping[str, Any]
    ) -> Sequence[tuple[str | None, SynthesisEvent]]:
        told: list[tuple[str | None, SynthesisEvent]] = []
        if (words := _words(message, self._begins_s.get(number, 0.0))) is not None:
            told.append((None, words))
        if number == self._last:
            told += self._finished()
        return told

    def _finished(self) -> Sequence[tuple[str | None, SynthesisEvent]]:
        self._first = self._next  # what still comes is late
        self._last = None
        return ((None, Finished()),)

    def closed(self, code: int, reason: str) -> Failure:
        if (kind := _KINDS.get(code)) is not None:
            words = presentable(reason) or f"the provider closed the connection with code {code}"
            return Failure(kind, words, upstream_status=code)
        return by_close(code, reason)


def _words(message: Mapping[str, Any], begins_s: float) -> Words | None:
    """Words of a request, in seconds of the utterance. Theirs are milliseconds of the session."""
    try:
        start = moment(message["audio_start_ms"])
        return Words(
            tuple(
                Timed(
                    str(one["word"]),
                    begins_s + (moment(one["start"]) - start) / 1000,
                    begins_s + (moment(one["end"]) - start) / 1000,
                )
                for one in message["words"]
            )
        )
    except (KeyError, TypeError, ValueError):
        return None


def _failure(message: Mapping[str, Any]) -> Failure:
    code = message.get("error_code")
    code = code if isinstance(code, int) else None
    kind = _KINDS.get(code or 0)
    if kind is None:
        kind = Kind.UPSTREAM_REFUSED if message.get("retryable") is False else Kind.UPSTREAM_ERROR
    wait_s = number(message.get("retry_after_seconds"))
    return Failure(
        kind,
        presentable(str(message.get("error") or "")) or "the provider reported an error",
        upstream_status=code,
        retry_after_s=None if wait_s is None else min(max(wait_s, 0.0), RETRY_AFTER_S_MAX),
    )
