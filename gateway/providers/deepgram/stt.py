"""Deepgram's recognisers: /v1/listen (Nova and older) and /v2/listen (Flux)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import orjson

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, IGNORED, TEXT, TEXTS, Table
from gateway.providers._shared.stt import (
    SocketRecognizer,
    SpeechAdapter,
    changed,
    failure_of_close,
    mean_confidence,
    most_frequent,
    number,
    objects,
    parsed,
    said,
    text_of,
)
from gateway.providers.deepgram.closes import code_of
from gateway.providers.deepgram.settings import DeepgramSettings, private
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
    NotUpdated,
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


def _keywords(value: Any) -> list[str] | None:
    """[["word", 1.5], ...] as ["word:1.5", ...]."""
    if not isinstance(value, list):
        return None
    boosted = []
    for entry in value:
        match entry:
            case str():
                boosted.append(entry)
            case [str(word), int() | float() as boost]:
                boosted.append(f"{word}:{boost:g}")
            case _:
                return None
    return boosted


_NOVA: Final[Table] = {
    "filler_words": FLAG,
    "interim_results": FLAG,
    "endpointing": options.whole(0, 60_000),
    "punctuate": FLAG,
    "smart_format": FLAG,
    "keywords": options.Option(_keywords, "a list of words, or of pairs of a word and a boost"),
    "keyterm": TEXTS,
    "profanity_filter": FLAG,
    "numerals": FLAG,
    "mip_opt_out": FLAG,
    "vad_events": FLAG,
    "diarize": FLAG,
    "dictation": FLAG,
    "detect_language": IGNORED,  # for recordings only; a stream has language=multi
    "no_delay": FLAG,
    "utterance_end": FLAG,
    "redact": TEXTS,
    "replace": TEXTS,
    "search": TEXTS,
    "tag": TEXTS,
    "channels": IGNORED,  # the audio is mono
    "version": TEXT,
    "callback": IGNORED,  # would send a caller's words to any address a client names
    "callback_method": IGNORED,
    "extra": TEXTS,
    "detect_entities": FLAG,
    "language_hint": TEXTS,
}

_NOVA_DEFAULTS: Final[Mapping[str, Any]] = {
    "interim_results": True,
    "endpointing": 25,
    "punctuate": True,
    "no_delay": True,
    "filler_words": True,
}
"""What LiveKit's client documents."""

_FLUX: Final[Table] = {
    "eager_eot_threshold": options.number(0.3, 0.9),
    "eot_threshold": options.number(0.5, 1.0),
    "eot_timeout_ms": options.whole(500, 60_000),
    "keyterm": TEXTS,
    "mip_opt_out": FLAG,
    "tag": TEXTS,
    "detect_language": FLAG,
    "language_hint": TEXTS,
    "numerals": FLAG,
    "profanity_filter": FLAG,
    "redact": TEXTS,
}

EAGER_DEFAULT: Final = 0.5
"""LiveKit's documented default; the provider's own is no eager end of turn at all."""

KEYTERMS_MAX: Final = 100
KEYTERM_CHARS_MAX: Final = 2000
"""Terms beyond are left out: Deepgram takes 500 tokens of them, and stops without a word when
there are more."""

_RATES_FLUX: Final = (16_000, 8_000, 24_000, 44_100, 48_000)


class DeepgramStt(SpeechAdapter):
    """The adapter of one Deepgram provider."""

    terms_option = "keyterm"
    speakers_option = "diarize"
    table: ClassVar[Table] = {**_NOVA, **_FLUX}

    def __init__(self, account: Account[DeepgramSettings]) -> None:
        super().__init__(account)
        self._deepgram = account

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        if attempt.model.startswith("flux"):
            return Flux(self._deepgram, attempt, rate)
        return Nova(self._deepgram, attempt, rate)


def _bounded_terms(terms: list[str]) -> list[str]:
    kept, chars = [], 0
    for term in terms[:KEYTERMS_MAX]:
        chars += len(term)
        if chars > KEYTERM_CHARS_MAX:
            break
        kept.append(term)
    return kept


def _is_deepgrams(base_url: str) -> bool:
    host = base_url.partition("://")[2].partition("/")[0].partition(":")[0]
    return host == "deepgram.com" or host.endswith(".deepgram.com")


def _failure_of_close(code: int, reason: str) -> Failure:
    if code == 1008:
        return Failure(Kind.UPSTREAM_REFUSED, said(reason), upstream_status=code)
    if code == 1011 and code_of(reason) == "NET-0001":  # it heard nothing of us for 10 s
        return Failure(Kind.SESSION_LIMIT, said(reason), upstream_status=code)
    return failure_of_close(code, reason)


_TRAITS: Final = Capabilities(
    replay_rate=1.25,  # documented
    keepalive_s=4.0,  # closed after 10 s without a message
    first_audio=True,
    final_within_s=3.0,
)


class Nova(SocketRecognizer):
    """One connection to /v1/listen: Deepgram's, or a server's of somebody else that speaks the
    protocol (WhisperLiveKit). Only Deepgram's own service is known to send empty results all the
    time. A server that sends Metadata at the start is none of Deepgram's, and has no Finalize:
    WhisperLiveKit takes that for the end of the audio."""

    def __init__(self, account: Account[DeepgramSettings], attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._private = private(account)
        self._global = account.base_url.rstrip("/").endswith("://api.deepgram.com")
        heartbeat_s = 8.0 if _is_deepgrams(account.base_url) else None
        self.traits = replace(_TRAITS, heartbeat_s=heartbeat_s)
        self._finishing = self._is_foreign = False
        self._keyterms = attempt.model.startswith("nova-3")

    def _parameters(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _NOVA)
        parameters = {
            "model": attempt.model,
            "encoding": "linear16",
            "sample_rate": self.rate,
            "channels": 1,
            **_NOVA_DEFAULTS,
            **given,
            **self._private,
        }
        if attempt.language is not None:
            parameters["language"] = attempt.language
        if parameters["endpointing"] == 0:
            parameters["endpointing"] = False
        if parameters.pop("utterance_end", False):
            parameters["utterance_end_ms"] = 1000  # shorter is of no use, says the provider
        if self._keyterms:
            # nova-3 refuses keywords, and its key terms have no boost
            words = [word.partition(":")[0] for word in parameters.pop("keywords", ())]
            terms = dict.fromkeys((*parameters.pop("keyterm", ()), *words))
            if terms:
                parameters["keyterm"] = _bounded_terms(list(terms))
        else:
            terms = parameters.pop("keyterm", None)
            if terms and "keywords" not in parameters:
                parameters["keywords"] = _bounded_terms(terms)
        return parameters

    def dial(self) -> Dial:
        url = websocket_url(join_url(self.account.base_url, "v1/listen"))
        return Dial(
            f"{url}?{options.query_string(self._parameters(self.attempt))}",
            {"authorization": f"Token {self.account.api_key}", **self.account.headers},
        )

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                return (pcm,)
            case Flush():
                if self._is_foreign:
                    return ()
                self.flushing = True
                return ('{"type":"Finalize"}',)
            case KeepAlive():
                return ('{"type":"KeepAlive"}',)
            case Finish():
                self._finishing = True
                return ('{"type":"CloseStream"}',)

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("type"):
            case "Results":
                return self._results(message)
            case "SpeechStarted":
                return (SpeechStarted(number(message.get("timestamp"))),)
            case "Metadata":
                if self._finishing:
                    return (Ended(),)
                self._is_foreign = True
                return ()
            case "ConfigureFailure":
                return (NotUpdated(),)
            case _:  # new types come without notice
                return ()

    def _results(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        channel = message.get("channel")
        alternatives = objects(channel.get("alternatives")) if isinstance(channel, dict) else []
        best = alternatives[0] if alternatives else {}
        is_final = message.get("is_final") is True
        start, duration = number(message.get("start")), number(message.get("duration"))
        end = start + duration if start is not None and duration is not None else None
        words = _words(best.get("words"), speakers=is_final)
        languages = best.get("languages")
        metadata = message.get("metadata")
        extra = {
            name: message[name]
            for name in ("speech_final", "entities")
            if message.get(name) is not None
        }
        if isinstance(languages, list) and languages:
            extra["languages"] = languages
        transcript = Transcript(
            text=text_of(best.get("transcript")),
            start=words[0].start if words else start,
            end=end,
            language=text_of(languages[0]) or None
            if isinstance(languages, list) and languages
            else None,
            confidence=_or(number(best.get("confidence")), 1.0),
            words=words,
            speaker=most_frequent(word.speaker for word in words),
            request_id=text_of(metadata.get("request_id")) or None
            if isinstance(metadata, dict)
            else None,
            extra=extra,
        )
        if not is_final:
            return (InterimTranscript(transcript),) if transcript.text else ()
        flushed = self.flushed() if message.get("from_finalize") is True else ()
        return (FinalHeard(transcript), *flushed)

    def closed(self, code: int, reason: str) -> Failure:
        return _failure_of_close(code, reason)

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._parameters(self.attempt), self._parameters(attempt)
        names = changed(before, after)
        if not names:
            self.attempt = attempt
            return ()
        if not (self._keyterms and self._global and names <= {"keyterm", "numerals"}):
            return None
        self.attempt = attempt
        configure: dict[str, Any] = {"type": "Configure"}
        if "keyterm" in names:
            configure["keyterms"] = after.get("keyterm", [])
        if "numerals" in names:
            configure["features"] = {"numerals": bool(after.get("numerals", False))}
        return (orjson.dumps(configure).decode(),)


def _words(given: Any, *, speakers: bool) -> tuple[Word, ...]:
    words = []
    for word in objects(given):
        start, end = number(word.get("start")), number(word.get("end"))
        text = text_of(word.get("punctuated_word")) or text_of(word.get("word"))
        if start is None or end is None or not text:
            continue
        speaker = word.get("speaker")
        words.append(
            Word(
                text,
                start,
                end,
                _or(number(word.get("confidence")), 1.0),
                # those of interims are unreliable
                f"S{speaker}" if speakers and isinstance(speaker, int) else None,
            )
        )
    return tuple(words)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class Flux(SocketRecognizer):
    """One connection to /v2/listen: turns are found by the model."""

    traits = Capabilities(
        rates=_RATES_FLUX,
        sends_ready=True,
        ready_s=10.0,
        replay_rate=1.25,  # of /v1; for /v2 nothing is documented
        keepalive_s=5.0,  # there is no message for it
        keepalive_by="silence",
        needs_audio_to_end_turn=True,
        final_within_s=7.0,  # eot_timeout_ms is 5000 by default
        heartbeat_s=6.0,  # an update comes with every 0.25 s of audio
    )

    def __init__(self, account: Account[DeepgramSettings], attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._private = private(account)
        self._turn_open = False
        self._model = attempt.model
        if self._model == "flux-general":  # a name of LiveKit's
            hints = options.known(attempt.options, _FLUX).get("language_hint", ())
            spoken = {language.split("-")[0] for language in (attempt.language, *hints) if language}
            english = spoken <= {"en"}
            self._model = "flux-general-en" if english else "flux-general-multi"

    def _parameters(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _FLUX)
        detect = given.pop("detect_language", False)
        hints = given.pop("language_hint", None)
        parameters = {
            "model": self._model,
            "encoding": "linear16",
            "sample_rate": self.rate,
            "eager_eot_threshold": min(EAGER_DEFAULT, given.get("eot_threshold", EAGER_DEFAULT)),
            **given,
            **self._private,
        }
        eot = parameters.get("eot_threshold")
        if eot is not None and parameters["eager_eot_threshold"] > eot:
            parameters["eager_eot_threshold"] = eot
        if "keyterm" in parameters:
            parameters["keyterm"] = _bounded_terms(parameters["keyterm"])
        if self._model.endswith("-multi") and not detect:
            if not hints and attempt.language not in (None, "multi"):
                hints = [attempt.language]
            if hints:
                parameters["language_hint"] = hints
        return parameters

    def dial(self) -> Dial:
        url = websocket_url(join_url(self.account.base_url, "v2/listen"))
        return Dial(
            f"{url}?{options.query_string(self._parameters(self.attempt))}",
            {"authorization": f"Token {self.account.api_key}", **self.account.headers},
            ping_interval_s=30.0,
        )

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                return (pcm,)
            case Flush():
                self.flushing = True
                return ('{"type":"ForceEndTurn"}',)
            case KeepAlive():
                return ()
            case Finish():
                close = '{"type":"CloseStream"}'
                if not self._turn_open:
                    return (close,)
                self.flushing = True
                return ('{"type":"ForceEndTurn"}', close)

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("type"):
            case "Connected":
                return (Ready(),)
            case "TurnInfo":
                return self._turn(message)
            case "ConfigureFailure":
                return (NotUpdated(),)
            case "Error":
                text = said(message.get("description") or message.get("code"))
                code = message.get("code")
                kind = (
                    Kind.UPSTREAM_REFUSED
                    if code == "UNPARSABLE_CLIENT_MESSAGE"
                    else Kind.UPSTREAM_ERROR
                )
                return (Failed(Failure(kind, text)),)
            case _:
                return ()

    def _turn(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        transcript = self._transcript(message)
        match message.get("event"):
            case "StartOfTurn":
                self._turn_open = True
                started: list[RecognizerEvent] = [SpeechStarted(transcript.start)]
                return [*started, InterimTranscript(transcript)] if transcript.text else started
            case "Update":
                return (
                    (InterimTranscript(transcript),) if self._turn_open and transcript.text else ()
                )
            case "EagerEndOfTurn":
                return (EagerEndOfTurn(transcript),) if transcript.text else ()
            case "TurnResumed":
                return (TurnResumed(), InterimTranscript(transcript))
            case "EndOfTurn":
                self._turn_open = False
                return (FinalHeard(transcript), *self.flushed())
            case _:
                return ()

    def _transcript(self, message: dict[str, Any]) -> Transcript:
        given = objects(message.get("words"))
        words = _words(given, speakers=False)
        confidence = mean_confidence(
            [Word("", 0, 0, _or(number(word.get("confidence")), 1.0)) for word in given]
        )
        languages = message.get("languages")
        language = text_of(languages[0]) if isinstance(languages, list) and languages else ""
        if not language and self._model == "flux-general-en":
            language = "en"
        begin = number(message.get("audio_window_start"))
        end = number(message.get("audio_window_end"))
        extra = {
            name: message[name]
            for name in ("end_of_turn_confidence", "turn_index", "trigger")
            if message.get(name) is not None
        }
        return Transcript(
            text=text_of(message.get("transcript")),
            start=words[0].start if words else begin,
            end=end,
            language=language or None,
            confidence=confidence,
            # a list with a gap would be worse than none
            words=words if len(words) == len(given) else (),
            request_id=text_of(message.get("request_id")) or None,
            extra=extra,
        )

    def closed(self, code: int, reason: str) -> Failure:
        return _failure_of_close(code, reason)

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._parameters(self.attempt), self._parameters(attempt)
        names = changed(before, after)
        thresholds = {"eot_threshold", "eager_eot_threshold", "eot_timeout_ms"}
        if not names <= {*thresholds, "keyterm", "language_hint", "numerals"}:
            return None
        self.attempt = attempt
        if not names:
            return ()
        configure: dict[str, Any] = {"type": "Configure"}
        if tuned := {name: after[name] for name in names & thresholds if name in after}:
            configure["thresholds"] = tuned
        if "keyterm" in names:
            configure["keyterms"] = after.get("keyterm", [])
        if "language_hint" in names:
            configure["language_hints"] = after.get("language_hint", [])
        if "numerals" in names:
            configure["numerals"] = bool(after.get("numerals", False))
        return (orjson.dumps(configure).decode(),)
