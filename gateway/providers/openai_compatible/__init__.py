"""Any server that speaks OpenAI's protocol: vLLM, llama.cpp, LocalAI, a proxy."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from pydantic import Field

from gateway.providers._openai.dialect import CLEAN, PROXIED_EXTRAS, Dialect, OpenAIChat
from gateway.providers._openai.realtime import OpenAIRealtime
from gateway.providers._openai.responses_relay import responses_relay
from gateway.providers._openai.stt import Transcriptions
from gateway.providers._openai.tts import OpenAISpeech
from gateway.upstreams.chat import ResponsesReader
from gateway.upstreams.dial import Dial
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Modality, Offer, ProviderSettings, Vendor


class Settings(ProviderSettings):
    """A server of one's own."""

    clean: bool = False
    """True relays its chat streams as bytes, which is faster: for servers whose streams are
    OpenAI's to the letter. Default: they are read and put right (ids and indices of tool calls,
    finish reasons, usage, reasoning)."""
    responses: bool = False
    """True: it has the Responses API too, to which `/responses` is relayed. Default: `/responses`
    is served from its chat completions."""

    stt_models: list[str] = Field(default_factory=list)
    """Names it is known to serve for /stt, for example whisper-large-v3."""
    tts_models: list[str] = Field(default_factory=list)
    """Names it is known to serve for /tts."""
    realtime_models: list[str] = Field(default_factory=list)
    """Names it is known to serve for /realtime, with OpenAI's Realtime protocol."""
    speech_rate: int = Field(24000, ge=8000, le=48000)
    """Samples per second of its raw `pcm` speech, which its answers do not tell. A WAV does."""
    speech_look_ahead: int = Field(1, ge=0, le=4)
    """Requests that run ahead of the sentence that is heard; 0 for a server that speaks one at a
    time."""

    def named_for(self, modality: Modality) -> Iterable[str]:
        named = {
            "stt": self.stt_models,
            "tts": self.tts_models,
            "realtime": self.realtime_models,
        }
        return named.get(modality, ())


_DIALECT = Dialect(extras=PROXIED_EXTRAS)


class _Responses(OpenAIChat):
    """A server that has the Responses API too."""

    def responses(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        made = orjson.dumps({**body, "model": attempt.model})
        return Dial(
            self._url.removesuffix("chat/completions") + "responses", self._headers, body=made
        )

    def responses_reader(self, *, stream: bool) -> ResponsesReader:
        return responses_relay(stream=stream)


def _chat(account: Account[Settings]) -> OpenAIChat:
    made = _Responses if account.settings.responses else OpenAIChat
    return made(account, CLEAN if account.settings.clean else _DIALECT)


def _speech(account: Account[Settings]) -> OpenAISpeech:
    settings = account.settings
    return OpenAISpeech(account, rate=settings.speech_rate, look_ahead=settings.speech_look_ahead)


VENDOR = Vendor(
    title="OpenAI-compatible server",
    base_url=None,
    key_variable="OPENAI_COMPATIBLE_API_KEY",
    key_required=False,
    settings=Settings,
    chat=Offer(_chat),
    tts=Offer(_speech),
    stt=Offer(Transcriptions),
    realtime=Offer(OpenAIRealtime),
    listed=("chat", "stt", "tts"),
)
