"""OpenAI's recognisers: live transcription over the Realtime WebSocket, older ones by recording."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson
import pybase64

from gateway.providers._openai.models import is_vendors
from gateway.providers._openai.stt import OPTIONS as RECORDING_OPTIONS
from gateway.providers._openai.stt import Transcriptions
from gateway.providers._shared import options
from gateway.providers._shared.options import TEXT, TEXTS, Table
from gateway.providers._shared.stt import SocketRecognizer, SpeechAdapter, parsed, said, text_of
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
    SpeechStarted,
    Transcript,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

_OPTIONS: Final[Table] = {
    "languages": TEXTS,
    "prompt": TEXT,
    "keywords": TEXTS,
    "delay": options.choice("minimal", "low", "medium", "high", "xhigh"),
    "noise_reduction": options.choice("near_field", "far_field"),
}

RATE: Final = 24_000
"""The only rate of audio/pcm."""

COMMIT_S_MIN: Final = 0.1
"""A commit of less audio is an error."""

PROMPT_CHARS_MAX: Final = 1024

_LIVE: Final = ("gpt-live-transcribe", "gpt-realtime-whisper")
"""Models without turn detection: an utterance ends when we say so."""

_KINDS: Final[Mapping[str, Kind]] = {
    "session_expired": Kind.SESSION_LIMIT,
    "insufficient_quota": Kind.UPSTREAM_QUOTA,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "invalid_api_key": Kind.UPSTREAM_AUTH,
    "invalid_model": Kind.UPSTREAM_NOT_FOUND,
    "model_not_found": Kind.UPSTREAM_NOT_FOUND,
}

_ITEM: Final = "conversation.item.input_audio_transcription."


class OpenAIStt(SpeechAdapter):
    """The adapter of one OpenAI provider."""

    terms_option = "keywords"
    table: ClassVar[Table] = {**RECORDING_OPTIONS, **_OPTIONS}

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._recordings = Transcriptions(account, billed=is_vendors(account.base_url))

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        if attempt.model == "whisper-1":
            return self._recordings.recognizer(attempt, rate)
        return Realtime(self._account, attempt, rate)


class Realtime(SocketRecognizer):
    """One connection to /realtime?intent=transcription."""

    traits = Capabilities(
        rates=(RATE,),
        sends_ready=True,
        replay_rate=float("inf"),  # the audio goes into a buffer
        final_within_s=2.5,  # then it is committed for a client that does not finalize
        deaf_after_s=20.0,
        session_s=60 * 60.0,
    )

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        super().__init__(account, attempt, rate)
        self._appended_s = 0.0
        self._commits: deque[str] = deque()  # event ids of our own, still without an item
        self._waiting: set[str] = set()  # committed items whose text is still to come
        self._texts: dict[str, str] = {}
        self._number = 0
        self._finishing = False

    def _session(self, attempt: Attempt) -> dict[str, Any]:
        given = options.known(attempt.options, _OPTIONS)
        transcription: dict[str, Any] = {"model": attempt.model}
        several = attempt.model in ("gpt-live-transcribe", "gpt-transcribe")
        language = options.base_language(attempt.language)
        languages = given.get("languages") or ([language] if language else [])
        codes = [code.split("-")[0] for code in languages if code != "multi"]
        if codes and several:
            transcription["languages"] = codes
        elif codes:
            transcription["language"] = codes[0]
        if several and "keywords" in given:
            transcription["keywords"] = given["keywords"]
        if "prompt" in given and attempt.model != "gpt-realtime-whisper":
            transcription["prompt"] = given["prompt"][:PROMPT_CHARS_MAX]
        if "delay" in given and attempt.model in _LIVE:
            transcription["delay"] = given["delay"]
        heard: dict[str, Any] = {
            "format": {"type": "audio/pcm", "rate": RATE},
            "transcription": transcription,
        }
        if "noise_reduction" in given:
            heard["noise_reduction"] = {"type": given["noise_reduction"]}
        if attempt.model in _LIVE:
            heard["turn_detection"] = None
        return {"type": "transcription", "audio": {"input": heard}}

    def dial(self) -> Dial:
        url = websocket_url(join_url(self.account.base_url, "realtime"))
        return Dial(
            f"{url}?intent=transcription",
            {"authorization": f"Bearer {self.account.api_key}", **self.account.headers},
            ping_interval_s=30.0,
        )

    def opening(self) -> Sequence[str | bytes]:
        return (self._update(self.attempt),)

    def _update(self, attempt: Attempt) -> str:
        message = {"type": "session.update", "session": self._session(attempt)}
        return orjson.dumps(message).decode()

    def encode(self, request: Request) -> Sequence[str | bytes]:
        match request:
            case Audio(pcm):
                self._appended_s += len(pcm) / 2 / RATE
                audio = pybase64.b64encode_as_string(pcm)
                return (f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}',)
            case Flush():
                return self._commit()
            case Finish():
                self._finishing = True
                # an answer to this one, or to nothing at all, is the end
                return self._commit()
            case KeepAlive():
                return ()

    def _commit(self) -> Sequence[str]:
        if self._appended_s < COMMIT_S_MIN:
            missing = bytes(2 * round((COMMIT_S_MIN + 0.01 - self._appended_s) * RATE))
            pad = pybase64.b64encode_as_string(missing)
            before = [f'{{"type":"input_audio_buffer.append","audio":"{pad}"}}']
        else:
            before = []
        self._appended_s = 0.0
        self._number += 1
        event_id = f"commit_{self._number}"
        self._commits.append(event_id)
        return (*before, f'{{"type":"input_audio_buffer.commit","event_id":"{event_id}"}}')

    def decode(self, frame: str | bytes) -> Sequence[RecognizerEvent]:
        message = parsed(frame)
        kind = text_of(message.get("type"))
        item = text_of(message.get("item_id"))
        match kind:
            case "session.updated":
                return (Ready(),)
            case "input_audio_buffer.speech_started":
                return (SpeechStarted(),)
            case "input_audio_buffer.committed":
                self._waiting.add(item)
                if self._commits:
                    self._commits.popleft()
                return ()
            case "error":
                return self._error(message)
        match kind.removeprefix(_ITEM):
            case "delta":
                self._texts[item] = self._texts.get(item, "") + text_of(message.get("delta"))
                return (InterimTranscript(self._transcript(item, self._texts[item], message)),)
            case "completed":
                text = text_of(message.get("transcript"))
                return (FinalHeard(self._transcript(item, text, message)), *self._done(item))
            case "failed":
                return self._item_failed(item, message)
            case _:
                return ()

    def _item_failed(self, item: str, message: Mapping[str, Any]) -> Sequence[RecognizerEvent]:
        """An item has no text: its audio says nothing, unless the service or the account is at
        fault. Then there are words in it, which somebody else may hear."""
        error = message.get("error")
        error = error if isinstance(error, dict) else {}
        kind = _KINDS.get(text_of(error.get("code")))
        if kind is None and error.get("type") == "server_error":
            kind = Kind.UPSTREAM_ERROR
        if kind is None:
            return (FinalHeard(Transcript("")), *self._done(item))
        return (Failed(Failure(kind, said(error.get("message")))),)

    def _done(self, item: str) -> Sequence[RecognizerEvent]:
        """An item has its text; with the last one a flush is answered."""
        self._texts.pop(item, None)
        self._waiting.discard(item)
        if self._waiting or self._commits:
            return ()
        return (Flushed(), Ended()) if self._finishing else (Flushed(),)

    def _transcript(self, item: str, text: str, message: Mapping[str, Any]) -> Transcript:
        languages = message.get("languages")
        first = languages[0] if isinstance(languages, list) and languages else None
        code = text_of(first.get("code")) if isinstance(first, dict) else ""
        usage = message.get("usage")
        return Transcript(
            text.strip(),
            language=code or None,
            request_id=item or None,
            extra={"usage": usage} if isinstance(usage, dict) else None,
        )

    def _error(self, message: dict[str, Any]) -> Sequence[RecognizerEvent]:
        error = message.get("error")
        error = error if isinstance(error, dict) else {}
        ours = text_of(error.get("event_id"))
        code = text_of(error.get("code"))
        if ours in self._commits or code == "input_audio_buffer_commit_empty":
            # nothing was there to be committed
            if ours in self._commits:
                self._commits.remove(ours)
            elif self._commits:
                self._commits.popleft()
            return self._done("")
        text = said(error.get("message"))
        kind = _KINDS.get(code)
        if kind is None:
            client = error.get("type") == "invalid_request_error"
            kind = Kind.UPSTREAM_REFUSED if client else Kind.UPSTREAM_ERROR
        return (Failed(Failure(kind, text)),)

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        before, after = self._session(self.attempt), self._session(attempt)
        if before == after:
            self.attempt = attempt
            return ()
        was = before["audio"]["input"]["transcription"]
        now = after["audio"]["input"]["transcription"]
        if was["model"] != now["model"] or set(was) - set(now):
            return None  # what is set cannot be cleared
        self.attempt = attempt
        return (self._update(attempt),)
