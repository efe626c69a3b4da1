"""POST /v1/audio/speech, as OpenAI and the servers that speak its protocol have it: a request for
each sentence. https://platform.openai.com/docs/api-reference/audio/createSpeech"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.providers._shared.audio_format import AudioReader
from gateway.providers._shared.chat_errors import read_error, retry_after_s
from gateway.providers._shared.tts import by_status, samples
from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Capabilities, Failed, SpeechRequest, SynthesisEvent

SSE_LINE_BYTES_MAX: Final = 4 << 20


class OpenAISpeech:
    """One server. `rate` is what it delivers as raw pcm: the answer does not say it."""

    def __init__(
        self, account: Account, voice: str | None = None, rate: int = 24000, look_ahead: int = 1
    ) -> None:
        self.traits = Capabilities(
            rates=(rate,),
            text_chars_max=4096,
            look_ahead=look_ahead,
            marks=True,
            options=VOICES.get(account.type, VOICES["openai-compatible"]),
        )
        self._voice = voice
        self._url = join_url(account.base_url, "audio/speech")
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **({"authorization": f"Bearer {account.api_key}"} if account.api_key else {}),
            **account.headers,
        }

    def dial(self, request: SpeechRequest, text: str) -> Dial:
        body: dict[str, Any] = {
            "model": request.model,
            "input": text.strip(),
            "response_format": "pcm",
            **request.options,
        }
        voice = request.voice or self._voice
        if voice is not None:
            body["voice"] = voice
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def reader(self, request: SpeechRequest) -> SpeechReader:
        return SpeechReader()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        error = read_error(body)
        failure = by_status(status, error.message)
        if "insufficient_quota" in (error.code, error.type):
            failure = replace(failure, kind=Kind.UPSTREAM_QUOTA)
        return replace(failure, retry_after_s=retry_after_s(headers))


class SpeechReader:
    """Raw samples, a WAV, or server-sent events with either in base64: whatever the server sends,
    which need not be what it was asked for."""

    def __init__(self) -> None:
        self._audio = AudioReader()
        self._events: bytes | None = None
        self._done = False

    def head(self, headers: Mapping[str, str]) -> None:
        content_type = headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self._events = b""
        else:
            self._audio = AudioReader(content_type)

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        if self._events is None:
            return self._audio.feed(data)
        self._events += data
        if len(self._events) > SSE_LINE_BYTES_MAX:
            return (Failed(Failure(Kind.PROTOCOL_ERROR, "the provider sent an endless line")),)
        *lines, self._events = self._events.split(b"\n")
        heard: list[SynthesisEvent] = []
        for line in lines:
            heard += self._event(line.strip())
        return heard

    def finish(self) -> Sequence[SynthesisEvent]:
        if self._events is not None and not self._done:
            return (Failed(Failure(Kind.CONNECTION_LOST, "the provider's answer broke off")),)
        return self._audio.finish()

    def _event(self, line: bytes) -> Sequence[SynthesisEvent]:
        if not line.startswith(b"data:"):
            return ()
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self._done = True
            return ()
        try:
            event = loads(payload)
        except orjson.JSONDecodeError:
            return ()
        match event:
            case {"type": "speech.audio.delta"}:
                pcm = samples(event.get("audio") or event.get("delta"))
                if pcm is None:
                    return (Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio")),)
                return self._audio.feed(pcm)
            case {"type": "speech.audio.done"}:
                self._done = True
            case {"type": "speech.audio.error" | "error"}:
                return (Failed(by_status(500, read_error(payload).message)),)
        return ()
