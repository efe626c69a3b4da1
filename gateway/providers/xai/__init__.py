"""xAI: Grok."""

from datetime import date

from gateway.providers._openai.realtime import OpenAIRealtime
from gateway.providers.xai.chat import XaiChat
from gateway.providers.xai.stt import XaiStt
from gateway.providers.xai.tts import XaiVoice
from gateway.upstreams.provider import Ended, Offer, Vendor

_CHAT_MODELS = (
    "grok-4.20-0309-non-reasoning grok-4.20-0309-reasoning grok-4.20-multi-agent-0309 "
    "grok-4.3 grok-4.5"
).split()

_ENDED = {
    f"xai/{name}": Ended(
        successor, "https://docs.x.ai/developers/migration/may-15-retirement", date(2026, 5, 15)
    )
    for name, successor in {
        "grok-4-1-fast-non-reasoning": "grok-4.20-0309-non-reasoning",
        "grok-4-1-fast-reasoning": "grok-4.3",
    }.items()
}

_VOICE_AGENTS = {
    "xai/grok-voice": "grok-voice-latest",
    "xai/grok-voice-latest": "grok-voice-latest",
    "xai/grok-voice-3.0": "grok-voice-3.0",
    "xai/grok-voice-think-fast-2.0": "grok-voice-think-fast-2.0",
}
"""Of the Voice Agent API, https://docs.x.ai/developers/models/voice-agent-api."""

VENDOR = Vendor(
    title="xAI",
    base_url="https://api.x.ai/v1",
    key_variable="XAI_API_KEY",
    chat=Offer(XaiChat, {f"xai/{name}": name for name in _CHAT_MODELS}, ended=_ENDED),
    stt=Offer(XaiStt, {"xai/stt-1": "stt-1"}),
    tts=Offer(XaiVoice, {"xai": "tts-1", "xai/tts-1": "tts-1"}),
    realtime=Offer(OpenAIRealtime, _VOICE_AGENTS),
)
