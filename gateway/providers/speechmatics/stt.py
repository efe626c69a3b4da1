"""Speechmatics: real-time /v2 (finals in pieces, ended by us) and Agent /v2/agent (whole turns)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, OBJECT, TEXT, Table
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
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    Audio,
    Capabilities,
    Ended,
    Expiring,
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


def _vocabulary(value: Any) -> list[dict[str, Any]] | None:
    entries = []
    for entry in [value] if isinstance(value, str) else value if isinstance(value, list) else [0]:
        if isinstance(entry, str):
            entry = {"content": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            return None
        entries.append({k: v for k, v in entry.items() if k in ("content", "sounds_like")})
    return entries


_DIARIZES: Final = (
    "speaker",
    "channel",
    "channel_and_speaker",
    "channel_and_speaker_change",
    "speaker_change",
)
"""Whatever LiveKit's client takes for a wish to tell speakers apart."""


def _diarization(value: Any) -> str | None:
    if value is True or value in _DIARIZES:
        return "speaker"  # the audio is mono
    return "none" if value in (False, "none") else None


_OPTIONS: Final[Table] = {
    "domain": TEXT,
    "output_locale": TEXT,
    "max_delay": options.number(0.7, 4.0),
    "max_delay_mode": options.choice("flexible", "fixed"),
    "diarization": options.Option(_diarization, "none or speaker"),
    "speaker_sensitivity": options.number(0, 1),
    "max_speakers": options.whole(2, 100),
    "prefer_current_speaker": FLAG,
    "enable_partials": options.IGNORED,  # always
    "enable_entities": FLAG,
    "punctuation_overrides": OBJECT,
    "additional_vocab": options.Option(
        _vocabulary, "a list of words, or of objects with content and sounds_like"
    ),
    "end_of_utterance_silence_trigger": options.number(0, 2),
    "audio_filtering_config": OBJECT,
    "transcript_filtering_config": OBJECT,
}

_RT_ONLY: Final = frozenset(
    "max_delay max_delay_mode enable_entities end_of_utterance_silence_trigger "
    "audio_filtering_config".split()
)
_SPEAKERS: Final = ("speaker_sensitivity", "max_speakers", "prefer_current_speaker")
_LIVE: Final = frozenset(
    "max_delay max_delay_mode audio_filtering_config conversation_config enable_partials".split()
)

_KINDS: Final[Mapping[str, Kind]] = {
    "protocol_error": Kind.UPSTREAM_ERROR,
    "not_authorised": Kind.UPSTREAM_AUTH,
    "not_allowed": Kind.UPSTREAM_AUTH,
    "invalid_model": Kind.UPSTREAM_NOT_FOUND,
    "invalid_language": Kind.UPSTREAM_REFUSED,
    "invalid_config": Kind.UPSTREAM_REFUSED,
    "invalid_message": Kind.UPSTREAM_REFUSED,
    "invalid_audio_type": Kind.UPSTREAM_REFUSED,
    "quota_exceeded": Kind.RATE_LIMITED,  # of sessions at a time
    "timelimit_exceeded": Kind.UPSTREAM_QUOTA,
    "idle_timeout": Kind.SESSION_LIMIT,
    "session_timeout": Kind.SESSION_LIMIT,
}
_BY_CLOSE: Final[Mapping[int, Kind]] = {
    4001: Kind.UPSTREAM_AUTH,
    4003: Kind.UPSTREAM_AUTH,
    4004: Kind.UPSTREAM_NOT_FOUND,
    4005: Kind.RATE_LIMITED,
    4006: Kind.UPSTREAM_QUOTA,
}
_LANGUAGES: Final[Mapping[str, str]] = {"zh": "cmn", "multi": "en"}

LEAST_S: Final = 60.0
"""A warning of a time-out comes some minutes before; a new session is opened within this."""


class SpeechmaticsStt(SpeechAdapter):
    """The adapter of one Speechmatics provider."""

    terms_option = "additional_vocab"
    speakers_option = "diarization"
    table = _OPTIONS

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        kind = Agent if attempt.model.startswith("linden") else RealTime
        return kind(self._account, attempt, rate)


class _Speechmatics(SocketRecognizer, ABC):
    path = "v2"
    agent = False

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._id: str | None = None
        self._frames = 0
        self._sent_s = 0.0

    def _config(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _OPTIONS)
        language = options.base_language(attempt.language) or "en"
        config: dict[str, Any] = {
            "language": _LANGUAGES.get(language, language),
            "model": attempt.model,
            "enable_partials": True,
        }
        if not self.agent:
            config["max_delay"] = 1.0  # LiveKit's client documents it
        trigger = given.pop("end_of_utterance_silence_trigger", None)
        speakers = {name: given.pop(name) for name in _SPEAKERS if name in given}
        config |= {k: v for k, v in given.items() if not (self.agent and k in _RT_ONLY)}
        if config.get("diarization") == "none":
            del config["diarization"]
        if speakers and "diarization" in config:
            config["speaker_diarization_config"] = speakers
        if trigger and not self.agent:
            config["conversation_config"] = {"end_of_utterance_silence_trigger": trigger}
        return config

    def dial(self) -> Dial:
        return Dial(
            websocket_url(join_url(self.account.base_url, self.path)),
            {"authorization": f"Bearer {self.account.api_key}", **self.account.headers},
            ping_interval_s=30.0,  # they keep a silent session for an hour
        )

    def opening(self) -> Sequence[str | bytes]:
        start: dict[str, Any] = {
            "message": "StartRecognition",
            "audio_format": {"type": "raw", "encoding": "pcm_s16le", "sample_rate": self.rate},
            "transcription_config": self._config(self.attempt),
        }
        if self.agent:
            start["turn_config"] = {"turn_detection_mode": "vad"}
        return (orjson.dumps(start).decode(),)

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                self._frames += 1
                self._sent_s += len(pcm) / 2 / self.rate
                return (pcm,)
            case Flush():
                self.flushing = True
                return (self._force(),)
            case Finish():
                end = f'{{"message":"EndOfStream","last_seq_no":{self._frames}}}'
                return (self._force(), end)
            case KeepAlive():
                return ()

    def _force(self) -> str:
        return f'{{"message":"ForceEndOfUtterance","timestamp":{self._sent_s:.3f}}}'

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        match message.get("message"):
            case "RecognitionStarted":
                self._id = text_of(message.get("id")) or None
                return (Ready(),)
            case "EndOfTranscript":
                return (*self.rest(), Ended())
            case "Warning" if message.get("type") in ("idle_timeout", "session_timeout"):
                return (Expiring(LEAST_S),)
            case "Error":
                kind = _KINDS.get(text_of(message.get("type")), Kind.UPSTREAM_ERROR)
                return (Failed(Failure(kind, said(message.get("reason")))),)
            case _:
                return self.words(message)

    @abstractmethod
    def words(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        """What a message means that is about what was said, not about the connection."""

    def rest(self) -> Sequence[RecognizerEvent]:
        return ()

    def closed(self, code: int, reason: str) -> Failure:
        kind = _BY_CLOSE.get(code)
        if code == 1008:
            kind = next((k for name, k in _KINDS.items() if name in reason), None)
        if kind is None:
            return failure_of_close(code, reason)
        return Failure(kind, said(reason), upstream_status=code)


class RealTime(_Speechmatics):
    """Finals are pieces of an utterance: they are collected until it ends."""

    traits = Capabilities(
        sends_ready=True,
        ready_s=15.0,  # with many additional words
        replay_rate=float("inf"),  # the socket itself slows down
        final_within_s=2.0,
        heartbeat_s=5.0,  # every frame is acknowledged
        session_s=48 * 3600.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._text = ""
        self._words: list[Word] = []
        self._until = 0.0

    def words(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        metadata = message.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        match message.get("message"):
            case "AddPartialTranscript":
                text = self._text + text_of(metadata.get("transcript"))
                words = [*self._words, *_words(message, final=False)]
                return (InterimTranscript(self._transcript(text, words)),) if text.strip() else ()
            case "AddTranscript":
                self._text += text_of(metadata.get("transcript"))
                self._words += _words(message, final=True)
                self._until = number(metadata.get("end_time")) or self._until
                if not self._text.strip():
                    return ()
                return (InterimTranscript(self._transcript(self._text, self._words)),)
            case "EndOfUtterance":
                heard = self.rest()
                if message.get("forced") is True or self.flushing:
                    return (*heard, *self.flushed())
                return heard
            case _:
                return ()

    def rest(self) -> Sequence[RecognizerEvent]:
        """What is collected, as a final."""
        if not self._text.strip():
            return ()
        final = FinalHeard(self._transcript(self._text, self._words))
        self._text, self._words = "", []
        return (final,)

    def _transcript(self, text: str, words: Sequence[Word]) -> Transcript:
        return Transcript(
            text.strip(),
            end=max(self._until, words[-1].end) if words else None,
            confidence=mean_confidence(words),
            words=tuple(words),
            speaker=most_frequent(word.speaker for word in words),
            request_id=self._id,
        )

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._config(self.attempt), self._config(attempt)
        names = changed(before, after)
        if not names <= _LIVE:
            return None
        self.attempt = attempt
        if not names:
            return ()
        config = {"language": after["language"], **{n: after[n] for n in names if n in after}}
        message = {"message": "SetRecognitionConfig", "transcription_config": config}
        return (orjson.dumps(message).decode(),)


def _words(message: dict[str, Any], *, final: bool) -> list[Word]:
    words: list[Word] = []
    for result in objects(message.get("results")):
        alternatives = objects(result.get("alternatives"))
        start, end = number(result.get("start_time")), number(result.get("end_time"))
        if not alternatives or start is None or end is None:
            continue
        content = text_of(alternatives[0].get("content"))
        if result.get("type") == "punctuation":
            if words and result.get("attaches_to", "previous") in ("previous", "both"):
                last = words[-1]
                words[-1] = Word(
                    last.text + content, last.start, last.end, last.confidence, last.speaker
                )
            continue
        if result.get("type") not in ("word", "entity") or not content:
            continue
        confidence = number(alternatives[0].get("confidence"))
        speaker = text_of(alternatives[0].get("speaker"))
        words.append(
            Word(
                content,
                start,
                end,
                # a partial's has no meaning
                confidence if final and confidence is not None else 1.0,
                speaker if speaker and speaker != "UU" else None,
            )
        )
    return words


class Agent(_Speechmatics):
    """Turns are found by the service; no words, no times of theirs."""

    path = "v2/agent"
    agent = True
    traits = Capabilities(
        rates=(16_000,),
        sends_ready=True,
        ready_s=15.0,
        replay_rate=float("inf"),
        final_within_s=4.0,
        session_s=48 * 3600.0,
    )

    def words(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        metadata = message.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        start, end = number(metadata.get("start_time")), number(metadata.get("end_time"))
        match message.get("message"):
            case "SpeechStarted" | "StartOfTurn":
                return (SpeechStarted(start),)
            case "AddPartialSegment":
                return [
                    InterimTranscript(self._transcript(one, start, end))
                    for one in _segments(message)
                    if _segment_text(one)
                ]
            case "AddSegment":
                heard: list[RecognizerEvent] = [
                    FinalHeard(self._transcript(one, start, end)) for one in _segments(message)
                ]
                return [*heard, *self.flushed()]
            case "EndOfTurn":
                return self.flushed()
            case _:
                return ()

    def _transcript(
        self, segment: dict[str, Any], start: float | None, end: float | None
    ) -> Transcript:
        speaker = text_of(segment.get("speaker")) or text_of(segment.get("speaker_id"))
        return Transcript(
            _segment_text(segment),
            start=start,
            end=end,
            language=text_of(segment.get("language")) or None,
            speaker=speaker if speaker != "UU" else None,
            request_id=self._id,
        )


def _segments(message: dict[str, Any]) -> list[dict[str, Any]]:
    """One segment, or a preview's list of them."""
    segment = message.get("segment")
    return [segment] if isinstance(segment, dict) else objects(message.get("segments"))


def _segment_text(segment: dict[str, Any]) -> str:
    return (text_of(segment.get("transcript")) or text_of(segment.get("text"))).strip()
