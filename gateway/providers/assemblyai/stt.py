"""AssemblyAI's streaming recogniser, /v3/ws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, TEXT, TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    changed,
    failure_of_close,
    mean_confidence,
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
    EagerEndOfTurn,
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
    SpeechStarted,
    Transcript,
    Word,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

_OPTIONS: Final[Table] = {
    "format_turns": FLAG,
    "end_of_turn_confidence_threshold": options.number(0, 1),
    "min_end_of_turn_silence_when_confident": options.whole(0, 60_000).called("min_turn_silence"),
    "min_turn_silence": options.whole(0, 60_000),
    "max_turn_silence": options.whole(0, 60_000),
    "keyterms_prompt": TEXTS,
    "language_detection": FLAG,
    "inactivity_timeout": options.whole(5, 3600),
    "prompt": TEXT,
    "speaker_labels": FLAG,
    "max_speakers": options.whole(1, 10),
    "agent_context": TEXT,
    "previous_context_n_turns": options.whole(0, 100),
    "voice_focus": options.choice("near-field", "far-field"),
    "voice_focus_threshold": options.number(0, 1),
    "mode": options.choice("min_latency", "balanced", "max_accuracy"),
    "vad_threshold": options.number(0, 1),
    "continuous_partials": FLAG,
    "interruption_delay": options.whole(0, 1000),
    "filter_profanity": FLAG,
}

_U3_ONLY: Final = frozenset(
    "prompt agent_context previous_context_n_turns voice_focus voice_focus_threshold mode "
    "continuous_partials interruption_delay".split()
)
_STREAMING_ONLY: Final = frozenset({"format_turns", "end_of_turn_confidence_threshold"})

_LIVE: Final = frozenset(
    "keyterms_prompt prompt min_turn_silence max_turn_silence agent_context language_codes "
    "end_of_turn_confidence_threshold vad_threshold continuous_partials interruption_delay".split()
)
"""What UpdateConfiguration changes."""

TERMS_MAX: Final = 100
TERM_CHARS_MAX: Final = 50
CONTEXT_CHARS_MAX: Final = 1750


class AssemblyAIStt(SpeechAdapter):
    """The adapter of one AssemblyAI provider."""

    terms_option = "keyterms_prompt"
    speakers_option = "speaker_labels"
    table = _OPTIONS

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        return Streaming(self._account, attempt, rate)


class Streaming(SocketRecognizer):
    """One connection."""

    traits = Capabilities(
        frame_s_min=0.05,  # outside of 50..1000 ms the provider closes with 3007
        frame_s_max=1.0,
        sends_ready=True,
        replay_rate=1.0,  # faster than real time: 3007
        final_within_s=4.0,
        session_s=3 * 3600.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._u3 = not attempt.model.startswith("universal-streaming")
        self._session_id: str | None = None
        self._formatted = self._parameters(attempt).get("format_turns") is True

    def _parameters(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _OPTIONS)
        without = _STREAMING_ONLY if self._u3 else _U3_ONLY
        parameters: dict[str, Any] = {
            "sample_rate": self.rate,
            "encoding": "pcm_s16le",
            "speech_model": attempt.model,
        }
        if not self._u3:  # what LiveKit's client documents
            parameters |= {"end_of_turn_confidence_threshold": 0.01, "min_turn_silence": 0}
        if attempt.model != "universal-streaming-english":
            parameters["language_detection"] = True
        parameters |= {name: value for name, value in given.items() if name not in without}
        if self._u3 and attempt.language is not None:
            code = options.base_language(attempt.language)
            parameters["language_codes"] = [code]
        if terms := parameters.get("keyterms_prompt"):
            short = [term for term in terms if len(term) <= TERM_CHARS_MAX]
            parameters["keyterms_prompt"] = short[:TERMS_MAX]
        if context := parameters.get("agent_context"):
            parameters["agent_context"] = context[-CONTEXT_CHARS_MAX:]
        return parameters

    def dial(self) -> Dial:
        written = {
            # lists are one parameter each, as JSON
            name: orjson.dumps(value).decode() if isinstance(value, list) else value
            for name, value in self._parameters(self.attempt).items()
        }
        url = websocket_url(join_url(self.account.base_url, "v3/ws"))
        return Dial(
            f"{url}?{options.query_string(written)}",
            {"authorization": self.account.api_key, **self.account.headers},
            ping_interval_s=30.0,
        )

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                return (pcm,)
            case Flush():
                self.flushing = True
                return ('{"type":"ForceEndpoint"}',)
            case KeepAlive():
                return ('{"type":"KeepAlive"}',)
            case Finish():
                return ('{"type":"ForceEndpoint"}', '{"type":"Terminate"}')

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("type"):
            case "Begin":
                self._session_id = text_of(message.get("id")) or None
                return (Ready(),)
            case "SpeechStarted":
                at = number(message.get("timestamp"))
                return (SpeechStarted(at / 1000 if at is not None else None),)
            case "Turn":
                return self._turn(message)
            case "Termination":
                return (Ended(),)
            case _:
                if message.get("type") == "Error" or "error" in message:
                    code = message.get("error_code")
                    return (Failed(_failure(code if isinstance(code, int) else 3005, message)),)
                return ()

    def _turn(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        words = tuple(
            Word(
                text_of(word.get("text")),
                start / 1000,
                end / 1000,
                confidence if (confidence := number(word.get("confidence"))) is not None else 1.0,
                text_of(word.get("speaker")) or None,
            )
            for word in objects(message.get("words"))
            if (start := number(word.get("start"))) is not None
            and (end := number(word.get("end"))) is not None
        )
        over = message.get("end_of_turn") is True
        text = text_of(message.get("transcript"))
        if not over:
            text = " ".join(word.text for word in words) or text
        speaker = text_of(message.get("speaker_label"))
        extra = {
            name: message[name]
            for name in ("end_of_turn_confidence", "language_confidence", "turn_order")
            if message.get(name) is not None
        }
        transcript = Transcript(
            text,
            language=text_of(message.get("language_code")) or None,
            confidence=mean_confidence(words),
            words=words,
            speaker=None if speaker == "UNKNOWN" else speaker or None,
            request_id=self._session_id,
            extra=extra,
        )
        if over and self._formatted and message.get("turn_is_formatted") is not True:
            return (InterimTranscript(transcript),) if text else ()  # the formatted one follows
        if over:
            return (FinalHeard(transcript), *self.flushed())
        if not text:
            return ()
        if text_of(message.get("utterance")) and not self._u3:
            return (InterimTranscript(transcript), EagerEndOfTurn(transcript))
        return (InterimTranscript(transcript),)

    def closed(self, code: int, reason: str) -> Failure:
        return (
            _failure(code, {"error": reason}) if code in _CODES else failure_of_close(code, reason)
        )

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._parameters(self.attempt), self._parameters(attempt)
        names = changed(before, after)
        if not names <= _LIVE:
            return None
        self.attempt = attempt
        if not names:
            return ()
        values = {name: after.get(name, [] if name in _LISTS else "") for name in names}
        values = {name: value for name, value in values.items() if value != ""}
        return (orjson.dumps({"type": "UpdateConfiguration", **values}).decode(),)


_LISTS: Final = frozenset({"keyterms_prompt", "language_codes"})

_CODES: Final[Mapping[int, Kind]] = {
    1008: Kind.UPSTREAM_AUTH,
    3005: Kind.UPSTREAM_ERROR,
    3006: Kind.UPSTREAM_REFUSED,
    3007: Kind.UPSTREAM_REFUSED,
    3008: Kind.SESSION_LIMIT,
    3009: Kind.RATE_LIMITED,
    4001: Kind.UPSTREAM_AUTH,
    4002: Kind.UPSTREAM_QUOTA,
    4102: Kind.RATE_LIMITED,
}


def _failure(code: int, message: Mapping[str, Any]) -> Failure:
    text = said(message.get("error"))
    kind = _CODES.get(code, Kind.UPSTREAM_ERROR)
    if code == 1008 and "too many" in text.lower():
        kind = Kind.RATE_LIMITED
    return Failure(kind, text, upstream_status=code)
