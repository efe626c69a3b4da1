"""xAI's streaming recogniser, /v1/stt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    most_frequent,
    number,
    objects,
    parsed,
    said,
    text_of,
)
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
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
    Transcript,
    Word,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

_OPTIONS: Final[Table] = {
    "diarize": FLAG,
    "endpointing": options.whole(0, 5000),
    "format": FLAG,
    "interim_results": FLAG,
    "keyterm": TEXTS,
    "vad_threshold": options.number(0, 1),
    "smart_turn": options.number(0, 1),
    "smart_turn_timeout": options.whole(1, 5000),
}
ENDPOINTING_MS: Final = 100
"""What LiveKit's plugin sends; the provider's default is told differently everywhere."""

_HINTS: Final = (
    ("auth", Kind.UPSTREAM_AUTH),
    ("permission", Kind.UPSTREAM_AUTH),
    ("invalid", Kind.UPSTREAM_REFUSED),
    ("rate", Kind.RATE_LIMITED),
)
"""The provider's errors have no code, only words."""


class XaiStt(SpeechAdapter):
    """The adapter of one xAI provider."""

    terms_option = "keyterm"
    speakers_option = "diarize"
    table = _OPTIONS

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        return Streaming(self._account, attempt, rate)


class Streaming(SocketRecognizer):
    """One connection."""

    traits = Capabilities(
        rates=(16_000, 8_000, 22_050, 24_000, 44_100, 48_000),
        sends_ready=True,
        replay_rate=1.0,
        keepalive_s=20.0,
        keepalive_by="silence",
        flush_by="silence",
        final_within_s=3.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._sent_s = 0.0

    def dial(self) -> Dial:
        given = options.known(self.attempt.options, _OPTIONS)
        language = options.base_language(self.attempt.language)
        parameters = {
            "encoding": "pcm",
            "sample_rate": self.rate,
            "interim_results": True,
            "endpointing": ENDPOINTING_MS,
            **given,
        }
        if language not in (None, "multi"):
            parameters["language"] = language
        else:
            parameters.pop("format", None)  # it needs a language
        url = websocket_url(join_url(self.account.base_url, "stt"))
        return Dial(
            f"{url}?{options.query_string(parameters)}",
            {"authorization": f"Bearer {self.account.api_key}", **self.account.headers},
            ping_interval_s=30.0,
        )

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                self._sent_s += len(pcm) / 2 / self.rate
                return (pcm,)
            case Finish():
                return ('{"type":"audio.done"}',)
            case Flush() | KeepAlive():  # silence was sent
                return ()

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("type"):
            case "transcript.created":
                return (Ready(),)
            case "transcript.partial":
                transcript = self._transcript(message)
                if message.get("is_final") is True and message.get("speech_final") is True:
                    return (FinalHeard(transcript), Flushed())
                # the final of a chunk is said again with the final of its utterance
                return (InterimTranscript(transcript),) if transcript.text else ()
            case "transcript.done":
                transcript = self._transcript(message)
                last = (FinalHeard(transcript),) if transcript.text else ()
                return (*last, Ended())
            case "error":
                text = said(message.get("message"))
                kind = next(
                    (kind for hint, kind in _HINTS if hint in text.lower()), Kind.UPSTREAM_ERROR
                )
                return (Failed(Failure(kind, text)),)
            case _:
                return ()

    def _transcript(self, message: dict[str, Any]) -> Transcript:
        words = tuple(
            Word(
                text_of(word.get("text")),
                start,
                end,
                speaker=f"S{word['speaker']}" if isinstance(word.get("speaker"), int) else None,
            )
            for word in objects(message.get("words"))
            if (start := number(word.get("start"))) is not None
            and (end := number(word.get("end"))) is not None
        )
        start, duration = number(message.get("start")), number(message.get("duration"))
        return Transcript(
            text_of(message.get("text")).strip(),
            start=words[0].start if words else start,
            end=words[-1].end
            if words
            else start + duration
            if start is not None and duration is not None
            else None,
            language=text_of(message.get("language")) or None,
            words=words,
            speaker=most_frequent(word.speaker for word in words),
        )
