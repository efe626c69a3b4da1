"""Inworld's streaming recogniser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pybase64

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    failure_of_status,
    mean_confidence,
    number,
    objects,
    parsed,
    text_of,
)
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
    Failed,
    Finish,
    Flush,
    InterimTranscript,
    KeepAlive,
    Recognizer,
    RecognizerEvent,
    Request,
    SpeechStarted,
    Transcript,
    Word,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

_OPTIONS: Final[Table] = {
    "enable_voice_profile": FLAG,
    "voice_profile_top_n": options.whole(1, 20),
    "include_word_timestamps": FLAG,
    "audio_encoding": options.choice("LINEAR16", "AUTO_DETECT"),
    "inactivity_timeout_seconds": options.whole(0, 86_400),
    "end_of_turn_confidence_threshold": options.number(0, 1),
    "min_end_of_turn_silence_when_confident": options.whole(0, 60_000),
    "prompts": TEXTS,
    "vad_threshold": options.number(0, 1),
}

_GRPC: Final[Mapping[int, int]] = {3: 400, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
"""Google's codes of errors, as HTTP statuses."""


class InworldStt(SpeechAdapter):
    """The adapter of one Inworld provider."""

    terms_option = "prompts"
    table = _OPTIONS

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        return Streaming(self._account, attempt, rate)


class Streaming(SocketRecognizer):
    """One connection. There is no greeting: the configuration is sent and audio follows."""

    traits = Capabilities(
        replay_rate=1.0,
        keepalive_s=20.0,
        keepalive_by="silence",
        final_within_s=3.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)

    def dial(self) -> Dial:
        url = websocket_url(
            join_url(self.account.base_url, "stt/v1/transcribe:streamBidirectional")
        )
        return Dial(
            url,
            {"authorization": f"Basic {self.account.api_key}", **self.account.headers},
            ping_interval_s=30.0,
        )

    def opening(self) -> Sequence[str | bytes]:
        given = options.known(self.attempt.options, _OPTIONS)
        language = self.attempt.language
        model: dict[str, Any] = {"vadThreshold": given.get("vad_threshold", 0.5)}
        if "min_end_of_turn_silence_when_confident" in given:
            model["minEndOfTurnSilenceWhenConfident"] = given[
                "min_end_of_turn_silence_when_confident"
            ]
        config: dict[str, Any] = {
            "modelId": self.attempt.model,
            "audioEncoding": given.get("audio_encoding", "LINEAR16"),
            "sampleRateHertz": self.rate,
            "numberOfChannels": 1,
            "language": "en-US" if language in (None, "multi") else language,
            "includeWordTimestamps": given.get("include_word_timestamps", True),
            "inactivityTimeoutSeconds": given.get("inactivity_timeout_seconds", 0),
            "endOfTurnConfidenceThreshold": given.get("end_of_turn_confidence_threshold", 0.5),
            "voiceProfileConfig": {
                "enableVoiceProfile": given.get("enable_voice_profile", True),
                "topN": given.get("voice_profile_top_n", 10),
            },
            "inworldSttV1Config": model,
        }
        if "prompts" in given:
            config["prompts"] = given["prompts"]
        return (orjson.dumps({"transcribeConfig": config}).decode(),)

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                content = pybase64.b64encode_as_string(pcm)
                return (f'{{"audioChunk":{{"content":"{content}"}}}}',)
            case Flush():
                self.flushing = True
                return ('{"endTurn":{}}',)
            case Finish():
                return ('{"endTurn":{}}', '{"closeStream":{}}')
            case KeepAlive():
                return ()

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        error = message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            status = _GRPC.get(code, code) if isinstance(code, int) else None
            return (Failed(failure_of_status(status, text_of(error.get("message")))),)
        match message.get("result"):
            case {"speechStarted": dict(started)}:
                at = number(started.get("startTimeMs"))
                return (SpeechStarted(at / 1000 if at is not None else None),)
            case {"transcription": dict(transcription)}:
                return self._transcription(transcription)
            case _:
                return ()

    def _transcription(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        words = []
        for word in objects(message.get("wordTimestamps")):
            start, end = _seconds(word, "startTime"), _seconds(word, "endTime")
            if start is not None and end is not None:
                confidence = number(word.get("confidence"))
                words.append(
                    Word(
                        text_of(word.get("word")),
                        start,
                        end,
                        1.0 if confidence is None else confidence,
                    )
                )
        profile = message.get("voiceProfile")
        transcript = Transcript(
            text_of(message.get("transcript")).strip(),
            confidence=mean_confidence(words),
            words=tuple(words),
            extra={"voice_profile": profile} if profile else None,
        )
        if message.get("isFinal") is not True:
            return (InterimTranscript(transcript),) if transcript.text else ()
        return (FinalHeard(transcript), *self.flushed())


def _seconds(word: Mapping[str, Any], name: str) -> float | None:
    """A time that is in milliseconds on the WebSocket and in seconds elsewhere."""
    ms = number(word.get(f"{name}Ms"))
    return ms / 1000 if ms is not None else number(word.get(f"{name}Seconds"))
