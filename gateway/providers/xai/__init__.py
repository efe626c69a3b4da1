"""xAI: Grok."""

from gateway.providers._openai.dialect import in_dialect
from gateway.providers.xai.chat import DIALECT
from gateway.providers.xai.stt import XaiStt
from gateway.providers.xai.tts import XaiVoice
from gateway.upstreams.provider import Provider

_CHAT_MODELS = (
    "grok-4-1-fast-non-reasoning grok-4-1-fast-reasoning grok-4.20-0309-non-reasoning "
    "grok-4.20-0309-reasoning grok-4.20-multi-agent-0309 grok-4.3 grok-4.5"
).split()

PROVIDER = Provider(
    title="xAI",
    base_url="https://api.x.ai/v1",
    key_variable="XAI_API_KEY",
    chat=in_dialect(DIALECT),
    chat_models={f"xai/{name}": name for name in _CHAT_MODELS},
    stt=XaiStt,
    stt_models={"xai/stt-1": "stt-1"},
    tts=XaiVoice,
    tts_models={"xai": "tts-1", "xai/tts-1": "tts-1"},
)
