"""OpenAI: https://platform.openai.com/docs/api-reference/chat."""

from functools import partial

from gateway.providers._openai.models import OpenAIModelsChat, OpenAIModelsSettings
from gateway.providers._openai.realtime import OpenAILive, OpenAIRealtime
from gateway.providers._openai.tts import OpenAISpeech
from gateway.providers.openai.stt import OpenAIStt
from gateway.upstreams.provider import Offer, Vendor

_CHAT_MODELS = (
    "gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-5 gpt-5-mini gpt-5-nano gpt-5.1 "
    "gpt-5.1-chat-latest gpt-5.2 gpt-5.2-chat-latest gpt-5.3-chat-latest gpt-5.4 gpt-5.4-mini "
    "gpt-5.4-nano gpt-5.5 gpt-5.6-luna gpt-5.6-sol gpt-5.6-terra gpt-6-luna gpt-6-sol gpt-6.1-sol "
    "chat-latest"
).split()
_STT_MODELS = "gpt-realtime-whisper gpt-4o-transcribe gpt-4o-mini-transcribe whisper-1".split()
_TTS_MODELS = "gpt-4o-mini-tts tts-1 tts-1-hd".split()
_DUPLEX_MODELS = "gpt-live-1 gpt-live-1.1".split()
_REALTIME_MODELS = (
    "gpt-realtime gpt-realtime-mini gpt-realtime-1.5 gpt-realtime-2 gpt-realtime-2.1 "
    "gpt-realtime-2.1-mini"
).split()

VENDOR = Vendor(
    title="OpenAI",
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    settings=OpenAIModelsSettings,
    chat=Offer(OpenAIModelsChat, {f"openai/{name}": name for name in _CHAT_MODELS}),
    stt=Offer(
        OpenAIStt,
        {
            "openai/gpt-live-transcribe": "gpt-live-transcribe",
            "openai": "gpt-live-transcribe",
            **{f"openai/{name}": name for name in _STT_MODELS},
        },
    ),
    tts=Offer(
        partial(OpenAISpeech, voice="alloy"), {f"openai/{name}": name for name in _TTS_MODELS}
    ),
    realtime=Offer(OpenAIRealtime, {f"openai/{name}": name for name in _REALTIME_MODELS}),
    duplex=Offer(OpenAILive, {f"openai/{name}": name for name in _DUPLEX_MODELS}),
    listed=("chat", "stt", "tts", "realtime", "duplex"),
)
