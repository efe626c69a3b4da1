"""POST /v1/audio/speech, as OpenAI and the servers that speak its protocol have it: a request for
each sentence. https://platform.openai.com/docs/api-reference/audio/createSpeech"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.audio.chunks import Whole
from gateway.providers._shared.chat_errors import read_error, retry_after_s
from gateway.providers._shared.tts import by_status, samples
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Audio, Capabilities, Failed, Rate, SpeechRequest, SynthesisEvent

WAV_HEADER_BYTES_MAX: Final = 64 << 10
"""A header is mostly 44 bytes; one with long comments is still found."""

SSE_LINE_BYTES_MAX: Final = 4 << 20

_WAVE_PCM: Final = 1
_WAVE_EXTENSIBLE: Final = 0xFFFE


class OpenAISpeech:
    """One server. `rate` is what it delivers as raw pcm: the answer does not say it."""

    def __init__(
        self, account: Account, voice: str | None = None, rate: int = 24000, look_ahead: int = 1
    ) -> None:
        self.traits = Capabilities(
            rates=(rate,), text_chars_max=4096, look_ahead=look_ahead, marks=True
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
        self._whole = Whole()
        self._begun = False
        self._start = b""
        self._events: bytes | None = None
        self._done = False
        self._refused: Failure | None = None

    def head(self, headers: Mapping[str, str]) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            self._events = b""
        elif kind.startswith(("text/", "audio/mpeg", "audio/mp3", "audio/ogg", "audio/aac")) or (
            kind == "application/json"
        ):
            self._refused = Failure(
                Kind.PROTOCOL_ERROR, f"the provider answered with {kind[:64]} instead of samples"
            )

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        if self._refused is not None:
            return (Failed(self._refused),)
        if self._events is None:
            return self._audio(data)
        self._events += data
        if len(self._events) > SSE_LINE_BYTES_MAX:
            return (Failed(Failure(Kind.PROTOCOL_ERROR, "the provider sent an endless line")),)
        *lines, self._events = self._events.split(b"\n")
        heard: list[SynthesisEvent] = []
        for line in lines:
            heard += self._event(line.strip())
        return heard

    def finish(self) -> Sequence[SynthesisEvent]:
        if self._refused is not None:
            return (Failed(self._refused),)
        if self._events is not None and not self._done:
            return (Failed(Failure(Kind.CONNECTION_LOST, "the provider's answer broke off")),)
        if self._start and not self._begun and not self._start.startswith(b"RIFF"):
            self._begun = True
            return (Audio(self._whole.feed(self._start)),)
        return ()

    def _event(self, line: bytes) -> Sequence[SynthesisEvent]:
        if not line.startswith(b"data:"):
            return ()
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self._done = True
            return ()
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return ()
        match event:
            case {"type": "speech.audio.delta"}:
                pcm = samples(event.get("audio") or event.get("delta"), strip=False)
                if pcm is None:
                    return (Failed(Failure(Kind.PROTOCOL_ERROR, "unreadable audio")),)
                return self._audio(pcm)
            case {"type": "speech.audio.done"}:
                self._done = True
            case {"type": "speech.audio.error" | "error"}:
                return (Failed(by_status(500, read_error(payload).message)),)
        return ()

    def _audio(self, data: bytes) -> Sequence[SynthesisEvent]:
        if self._begun:
            return (Audio(self._whole.feed(data)),)
        self._start += data
        if len(self._start) < 4:
            return ()
        if not self._start.startswith(b"RIFF"):
            self._begun = True
            start, self._start = self._start, b""
            return (Audio(self._whole.feed(start)),)
        header = wav_header(self._start)
        if header is None:
            if len(self._start) > WAV_HEADER_BYTES_MAX:
                return (Failed(Failure(Kind.PROTOCOL_ERROR, "a WAV header without an end")),)
            return ()
        if isinstance(header, Failure):
            return (Failed(header),)
        rate, begins = header
        self._begun = True
        start, self._start = self._start[begins:], b""
        return (Rate(rate), Audio(self._whole.feed(start)))


def wav_header(data: bytes) -> tuple[int, int] | Failure | None:
    """Rate and where the samples begin; None if the header is not whole yet. Its sizes are not
    believed: a server that streams does not know them."""
    at, rate = 12, None
    while len(data) >= at + 8:
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"data":
            if rate is None:
                return Failure(Kind.PROTOCOL_ERROR, "a WAV without a format")
            return rate, at + 8
        if name == b"fmt " and len(data) >= at + 24:
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            if code not in (_WAVE_PCM, _WAVE_EXTENSIBLE) or channels != 1 or bits != 16:
                return Failure(
                    Kind.PROTOCOL_ERROR,
                    f"the provider's WAV has {channels} channels of {bits} bits, format {code}; "
                    "expected mono of 16 bits",
                )
            if not 4000 <= rate <= 192_000:
                return Failure(Kind.PROTOCOL_ERROR, f"the provider's WAV has a rate of {rate} Hz")
        at += 8 + size + size % 2
    return None
