"""Cartesia's recognisers: ink-2, which finds turns itself, and ink-whisper, which does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson

from gateway.providers._shared import options
from gateway.providers._shared.options import TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    changed,
    failure_of_status,
    number,
    objects,
    parsed,
    text_of,
)
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
    EagerEndOfTurn,
    Ended,
    Failed,
    Finish,
    Flush,
    Flushed,
    InterimTranscript,
    KeepAlive,
    Ready,
    Recognizer,
    RecognizerEvent,
    Request,
    SpeechStarted,
    Transcript,
    TurnResumed,
    Word,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

VERSION: Final = "2026-03-01"
"""From this version on errors are objects."""

TERMS_MAX: Final = 100
TERMS_CHARS_MAX: Final = 1200

_TURNS: Final[Table] = {
    "turn_start_threshold": options.number(0.5, 0.9),
    "turn_eager_end_threshold": options.number(0.3, 0.6),
    "turn_end_threshold": options.number(0.05, 0.5),
    "turn_end_timeout_ms": options.whole(640, 11_200),
    "keyterm": TEXTS,
}
_MANUAL: Final[Table] = {
    "min_volume": options.number(0, 1),
    "max_silence_duration_secs": options.number(0, 60),
}


class CartesiaStt(SpeechAdapter):
    """The adapter of one Cartesia provider."""

    terms_option = "keyterm"
    table: ClassVar[Table] = {**_TURNS, **_MANUAL}

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        kind = Manual if attempt.model.startswith("ink-whisper") else Turns
        return kind(self._account, attempt, rate)


def _dial(account: Account, path: str, parameters: Mapping[str, Any]) -> Dial:
    url = websocket_url(join_url(account.base_url, path))
    return Dial(
        f"{url}?{options.query_string(parameters)}",
        {"x-api-key": account.api_key, "cartesia-version": VERSION, **account.headers},
        ping_interval_s=30.0,
    )


def _failure(message: Mapping[str, Any]) -> Failure:
    status = message.get("status_code", message.get("code"))
    text = text_of(message.get("message")) or text_of(message.get("title"))
    return failure_of_status(
        status if isinstance(status, int) else None, text or text_of(message.get("error"))
    )


class Turns(SocketRecognizer):
    """/stt/turns/websocket: no times, no words, English."""

    traits = Capabilities(
        sends_ready=True,
        replay_rate=1.0,
        keepalive_s=20.0,
        keepalive_by="silence",
        needs_audio_to_end_turn=True,
        flush_by="silence",
        final_within_s=7.5,  # turn_end_timeout_ms is 5600 by default
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._text = ""

    def _parameters(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _TURNS)
        if terms := given.get("keyterm"):
            given["keyterm"] = _bounded(terms)
        return {
            "model": attempt.model,
            "encoding": "pcm_s16le",
            "sample_rate": self.rate,
            **given,
        }

    def dial(self) -> Dial:
        return _dial(self.account, "stt/turns/websocket", self._parameters(self.attempt))

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                return (pcm,)
            case Finish():
                return ('{"type":"close"}',)
            case Flush() | KeepAlive():  # there is no message for it; silence was sent
                return ()

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        text = text_of(message.get("transcript"))
        transcript = Transcript(
            text or self._text, language="en", request_id=text_of(message.get("request_id")) or None
        )
        match message.get("type"):
            case "connected":
                return (Ready(),)
            case "turn.start":
                self._text = ""
                return (SpeechStarted(),)
            case "turn.update":
                self._text = text
                return (InterimTranscript(transcript),) if text else ()
            case "turn.eager_end":
                return (EagerEndOfTurn(transcript),)
            case "turn.resume":
                return (TurnResumed(),)
            case "turn.end":
                self._text = ""
                # Flushed is heard by a session that waits for one, and by no other
                return (
                    FinalHeard(Transcript(text, language="en", request_id=transcript.request_id)),
                    Flushed(),
                )
            case "error":
                return (Failed(_failure(message)),)
            case _:
                return ()

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._parameters(self.attempt), self._parameters(attempt)
        names = changed(before, after)
        if any(not name.startswith("turn_") for name in names):
            return None
        self.attempt = attempt
        turn = {name.removeprefix("turn_"): after[name] for name in names if name in after}
        return (orjson.dumps({"type": "config", "turn": turn}).decode(),) if turn else ()


def _bounded(terms: list[str]) -> list[str]:
    kept: list[str] = []
    chars = 0
    for term in terms[:TERMS_MAX]:
        chars += len(term)
        if chars > TERMS_CHARS_MAX:
            break
        kept.append(term)
    return kept


class Manual(SocketRecognizer):
    """/stt/websocket: finals are pieces, times are seconds of the connection."""

    traits = Capabilities(
        replay_rate=1.0,
        keepalive_s=60.0,  # closed after 3 minutes without a message
        keepalive_by="silence",
        flush_is_answered=False,
        final_within_s=4.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._done_s = 0.0

    def dial(self) -> Dial:
        language = options.base_language(self.attempt.language)
        parameters = {
            "model": self.attempt.model,
            "encoding": "pcm_s16le",
            "sample_rate": self.rate,
            "language": "en" if language in (None, "multi") else language,
            **options.known(self.attempt.options, _MANUAL),
        }
        return _dial(self.account, "stt/websocket", parameters)

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                return (pcm,)
            case Flush():
                return ("finalize",)
            case Finish():
                return ("finalize", "close")
            case KeepAlive():
                return ()

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("type"):
            case "transcript":
                return self._transcript(message)
            case "flush_done":
                return (Flushed(),)
            case "done":
                return (Ended(),)
            case "error":
                return (Failed(_failure(message)),)
            case _:
                return ()

    def _transcript(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        words = tuple(
            Word(text_of(word.get("word")).strip(), start, end)
            for word in objects(message.get("words"))
            if (start := number(word.get("start"))) is not None
            and (end := number(word.get("end"))) is not None
        )
        is_final = message.get("is_final") is True
        duration = number(message.get("duration")) or 0.0
        begin = self._done_s
        end = max(begin + duration, words[-1].end if words else 0.0)
        transcript = Transcript(
            text_of(message.get("text")),
            start=words[0].start if words else begin,
            end=end,
            language=text_of(message.get("language")) or None,
            words=words,
            request_id=text_of(message.get("request_id")) or None,
        )
        if not is_final:
            return (InterimTranscript(transcript),)
        self._done_s = end
        return (FinalHeard(transcript),)
