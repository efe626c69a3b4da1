"""Google's live transcription, over the Gemini Live API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import pybase64

from gateway.providers._shared import options
from gateway.providers._shared.options import TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    failure_of_close,
    number,
    parsed,
    said,
    text_of,
)
from gateway.upstreams.dial import Dial, websocket_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
    Ended,
    Expiring,
    Finish,
    Flush,
    InterimTranscript,
    KeepAlive,
    Ready,
    Recognizer,
    RecognizerEvent,
    Request,
    SpeechStarted,
    Transcript,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

_OPTIONS: Final[Table] = {"language_codes": TEXTS, "custom_vocabulary": TEXTS}

PATH: Final = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
TERMS_MAX: Final = 1000
END: Final = '{"realtimeInput":{"audioStreamEnd":true}}'


class GoogleStt(SpeechAdapter):
    """The adapter of one Gemini provider."""

    terms_option = "custom_vocabulary"
    table = _OPTIONS

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        return Live(self._account, attempt, rate)


class Live(SocketRecognizer):
    """One connection: at most 10 minutes long."""

    traits = Capabilities(
        rates=(16_000, 8_000, 24_000, 48_000),
        sends_ready=True,
        replay_rate=1.0,
        keepalive_s=20.0,
        keepalive_by="silence",
        final_within_s=4.0,
        session_s=600.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._interim: Transcript | None = None
        self._finishing = False

    def dial(self) -> Dial:
        parts = urlsplit(self.account.base_url)  # the chat's address has a path
        return Dial(
            websocket_url(f"{parts.scheme}://{parts.netloc}/{PATH}"),
            {"x-goog-api-key": self.account.api_key, **self.account.headers},
            ping_interval_s=30.0,
        )

    def opening(self) -> Sequence[str | bytes]:
        given = options.known(self.attempt.options, _OPTIONS)
        language = self.attempt.language
        codes = given.get("language_codes") or (
            [language] if language is not None and language != "multi" else []
        )
        transcription: dict[str, Any] = {}
        if codes:
            transcription["languageCodes"] = codes
        if "custom_vocabulary" in given:
            transcription["customVocabulary"] = given["custom_vocabulary"][:TERMS_MAX]
        setup = {
            "model": f"models/{self.attempt.model}",
            "generationConfig": {"responseModalities": ["TEXT"]},
            "inputAudioTranscription": transcription,
        }
        return (orjson.dumps({"setup": setup}).decode(),)

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                data = pybase64.b64encode_as_string(pcm)
                return (
                    f'{{"realtimeInput":{{"audio":{{"data":"{data}",'
                    f'"mimeType":"audio/pcm;rate={self.rate}"}}}}}}',
                )
            case Flush():
                self.flushing = True
                return (END,)
            case Finish():
                self.flushing = self._finishing = True
                return (END,)
            case KeepAlive():
                return ()

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        if "setupComplete" in message:
            return (Ready(),)
        if isinstance(going := message.get("goAway"), dict):
            return (Expiring(_seconds(going.get("timeLeft")) or 5.0),)
        heard: list[RecognizerEvent] = []
        if "voiceActivity" in message:
            activity = message["voiceActivity"]
            if isinstance(activity, dict) and "START" in text_of(activity.get("type")).upper():
                heard.append(SpeechStarted(_seconds(activity.get("audioOffset"))))
        content = message.get("serverContent")
        if not isinstance(content, dict):
            return heard
        interim = _transcript(content.get("interimInputTranscription"))
        if interim is not None and interim.text:
            if self._interim is None:
                heard.append(SpeechStarted())
            self._interim = interim
            heard.append(InterimTranscript(interim))
        final = _transcript(content.get("inputTranscription"))
        if final is not None:
            self._interim = None
            heard += [FinalHeard(final), *self._flushed()]
        elif content.get("turnComplete") is True or content.get("generationComplete") is True:
            if self._interim is not None:  # a turn that ended without a final
                heard.append(FinalHeard(self._interim))
                self._interim = None
            heard += self._flushed()
        return heard

    def _flushed(self) -> Sequence[RecognizerEvent]:
        flushed = self.flushed()
        return (*flushed, Ended()) if flushed and self._finishing else flushed

    def closed(self, code: int, reason: str) -> Failure:
        if code == 1008 and ("goaway" in reason.lower() or "duration" in reason.lower()):
            return Failure(Kind.SESSION_LIMIT, said(reason), upstream_status=code)
        if "RESOURCE_EXHAUSTED" in reason:
            return Failure(Kind.RATE_LIMITED, said(reason), upstream_status=code)
        return failure_of_close(code, reason)


def _transcript(given: Any) -> Transcript | None:
    if not isinstance(given, dict):
        return None
    return Transcript(
        text_of(given.get("text")).strip(),
        start=_seconds(given.get("startOffset")),
        end=_seconds(given.get("endOffset")),
        language=text_of(given.get("languageCode")) or None,
        speaker=text_of(given.get("speakerLabel")) or None,
    )


def _seconds(value: Any) -> float | None:
    """A duration as protobuf's JSON has it: "1.2s"."""
    try:
        return number(float(text_of(value).removesuffix("s")))
    except ValueError:
        return None
