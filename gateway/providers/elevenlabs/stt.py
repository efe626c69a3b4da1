"""ElevenLabs' streaming recogniser, Scribe v2 Realtime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pybase64

from gateway.audio.timeline import Timeline
from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, TEXT, TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    mean_confidence,
    number,
    objects,
    parsed,
    said,
    text_of,
)
from gateway.providers.elevenlabs.settings import ElevenLabsSettings, private
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
    "commit_strategy": options.choice("manual", "vad"),
    "vad_silence_threshold_secs": options.number(0.3, 3.0),
    "vad_threshold": options.number(0.1, 0.9),
    "min_speech_duration_ms": options.whole(50, 2000),
    "min_silence_duration_ms": options.whole(50, 2000),
    "language_code": TEXT,
    "secondary_languages": TEXTS,
    "include_timestamps": FLAG,
    "include_language_detection": FLAG,
    "keyterms": TEXTS,
    "no_verbatim": FLAG,
}

_RATES: Final = (16_000, 8_000, 22_050, 24_000, 44_100, 48_000)

SILENCE_S: Final = 0.5
"""The provider's own 1.5 s would make a caller wait for every answer."""

COMMIT_S_MIN: Final = 0.3
"""A commit of less audio since the last one, ours or the service's own, makes it close the session.
"""

LATE_S: Final = 0.3
"""Silence may be found so much later than it began."""

TERMS_MAX: Final = 50
TERM_CHARS_MAX: Final = 20

_KINDS: Final[Mapping[str, Kind]] = {
    "auth_error": Kind.UPSTREAM_AUTH,
    "unaccepted_terms": Kind.UPSTREAM_AUTH,
    "quota_exceeded": Kind.UPSTREAM_QUOTA,
    "invalid_request": Kind.UPSTREAM_REFUSED,
    "input_error": Kind.UPSTREAM_REFUSED,
    "chunk_size_exceeded": Kind.UPSTREAM_REFUSED,
    "commit_throttled": Kind.RATE_LIMITED,
    "rate_limited": Kind.RATE_LIMITED,
    "queue_overflow": Kind.OVERLOADED,
    "resource_exhausted": Kind.OVERLOADED,
    "transcriber_error": Kind.UPSTREAM_ERROR,
    "error": Kind.UPSTREAM_ERROR,
    "session_time_limit_exceeded": Kind.SESSION_LIMIT,
    "insufficient_audio_activity": Kind.SESSION_LIMIT,
}


class ElevenLabsStt(SpeechAdapter):
    """The adapter of one ElevenLabs provider."""

    terms_option = "keyterms"
    table = _OPTIONS

    def __init__(self, account: Account[ElevenLabsSettings]) -> None:
        super().__init__(account)
        self._elevenlabs = account

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        return Scribe(self._elevenlabs, attempt, rate)


class Scribe(SocketRecognizer):
    """One connection. Commits end utterances: by the service's voice detector, or by a flush."""

    traits = Capabilities(
        rates=_RATES,
        sends_ready=True,
        replay_rate=1.0,
        keepalive_s=8.0,
        final_within_s=4.0,
    )

    def __init__(self, account: Account[ElevenLabsSettings], attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        given = options.known(attempt.options, _OPTIONS)
        code = options.base_language(given.pop("language_code", None) or attempt.language)
        self._parameters: dict[str, Any] = {
            "model_id": attempt.model,
            "audio_format": f"pcm_{self.rate}",
            "commit_strategy": "vad",
            "vad_silence_threshold_secs": SILENCE_S,
            "include_timestamps": True,
            **given,
            **private(account),
        }
        if code is not None and code != "multi":
            self._parameters["language_code"] = code
        else:
            self._parameters["include_language_detection"] = True
        if terms := self._parameters.get("keyterms"):
            short = [term for term in terms if len(term) <= TERM_CHARS_MAX]
            self._parameters["keyterms"] = short[:TERMS_MAX]
        # with either of these each commit is sent twice; the second one has more in it
        self._second = bool(
            self._parameters["include_timestamps"]
            or self._parameters.get("include_language_detection")
        )
        self._session_id: str | None = None
        self._since_commit_s = 0.0
        self._clock = Timeline(self.rate)  # theirs counts the silence before a commit
        self._given = 0  # samples of the session's
        self._finishing = False

    def dial(self) -> Dial:
        url = websocket_url(join_url(self.account.base_url, "v1/speech-to-text/realtime"))
        return Dial(
            f"{url}?{options.query_string(self._parameters)}",
            {"xi-api-key": self.account.api_key, **self.account.headers},
        )

    def _chunk(self, pcm: bytes, *, commit: bool = False) -> str:
        audio = pybase64.b64encode_as_string(pcm)
        self._since_commit_s = 0.0 if commit else self._since_commit_s + len(pcm) / 2 / self.rate
        return (
            f'{{"message_type":"input_audio_chunk","audio_base_64":"{audio}",'
            f'"commit":{"true" if commit else "false"},"sample_rate":{self.rate}}}'
        )

    def _missing_s(self) -> float:
        """Silence without which a commit might be refused. Whether the service has committed by
        itself is told some time later: so it is made to, and is left enough behind it."""
        if self._parameters["commit_strategy"] == "vad":
            return float(self._parameters["vad_silence_threshold_secs"]) + LATE_S + COMMIT_S_MIN
        return COMMIT_S_MIN + 0.01 - self._since_commit_s

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                samples = len(pcm) // 2
                self._clock.feed(self._given, samples)
                self._given += samples
                return (self._chunk(pcm),)
            case KeepAlive():
                return (self._chunk(b""),)
            case Flush():
                self.flushing = True
            case Finish():
                self.flushing = self._finishing = True
        frames = []
        missing = round(max(0.0, self._missing_s()) * self.rate)
        if missing:
            self._clock.fill(missing)
        while missing:
            samples = min(missing, round(COMMIT_S_MIN * self.rate))
            frames.append(self._chunk(bytes(2 * samples)))
            missing -= samples
        frames.append(self._chunk(b"", commit=True))
        return frames

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        kind = text_of(message.get("message_type"))
        match kind:
            case "session_started":
                self._session_id = text_of(message.get("session_id")) or None
                return (Ready(),)
            case "partial_transcript":
                text = text_of(message.get("text"))
                return (
                    (InterimTranscript(Transcript(text, request_id=self._session_id)),)
                    if text
                    else ()
                )
            case "committed_transcript":
                return () if self._second else self._committed(message)
            case "committed_transcript_with_timestamps":
                return self._committed(message) if self._second else ()
            case "error" if text_of(message.get("error")) in _KINDS:
                kind = text_of(message.get("error"))
        if kind in _KINDS:
            return (Failed(Failure(_KINDS[kind], said(message.get("error")))),)
        return ()

    def _committed(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        words = []
        for word in objects(message.get("words")):
            start, end = number(word.get("start")), number(word.get("end"))
            if word.get("type", "word") != "word" or start is None or end is None:
                continue
            logprob = number(word.get("logprob"))
            confidence = math.exp(min(0.0, logprob)) if logprob is not None else 1.0
            start, end = self._clock.session_s(start), self._clock.session_s(end)
            words.append(Word(text_of(word.get("text")), start, end, confidence))
        transcript = Transcript(
            text_of(message.get("text")).strip(),
            language=text_of(message.get("language_code")) or None,
            confidence=mean_confidence(words),
            words=tuple(words),
            request_id=self._session_id,
        )
        flushed = self.flushed()
        # there is no message for the end
        ended = (Ended(),) if flushed and self._finishing else ()
        return (FinalHeard(transcript), *flushed, *ended)
