"""Piper's POST /synthesize: a text in, a WAV out when all of it is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.providers._shared.audio_format import AudioReader
from gateway.providers._shared.tts import by_status
from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Capabilities, SpeechRequest, SynthesisEvent

VOICE_OF_SERVER: Final = "default"
"""The model `piper`: the voice that the server was started with. Any other model is a voice's name,
such as en_US-lessac-medium; a voice that it does not have it replaces by its own."""

TRAITS: Final = Capabilities(
    rates=(22050,),  # of most voices; the WAV says what it is
    text_chars_max=2000,  # not documented
    look_ahead=1,
    marks=True,
    options=VOICES["piper"],
)


class PiperVoice:
    """The adapter of one server."""

    traits = TRAITS

    def __init__(self, account: Account) -> None:
        self._url = join_url(account.base_url, "synthesize")
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **({"authorization": f"Bearer {account.api_key}"} if account.api_key else {}),
            **account.headers,
        }

    def dial(self, request: SpeechRequest, text: str) -> Dial:
        body: dict[str, Any] = {"text": text.strip(), **request.options}
        voice = request.voice or request.model
        if voice != VOICE_OF_SERVER:
            body["voice"] = voice
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def reader(self, request: SpeechRequest) -> PiperReader:
        return PiperReader()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        # its errors are pages of Flask's, which say nothing of the cause
        return by_status(status, "")


class PiperReader:
    """A WAV, under whatever content type: the server says text/html."""

    def __init__(self) -> None:
        self._audio = AudioReader("audio/wav")

    def head(self, headers: Mapping[str, str]) -> None:
        """Nothing that is true."""

    def feed(self, data: bytes) -> Sequence[SynthesisEvent]:
        return self._audio.feed(data)

    def finish(self) -> Sequence[SynthesisEvent]:
        return self._audio.finish()
