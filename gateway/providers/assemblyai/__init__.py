"""AssemblyAI: https://www.assemblyai.com/docs."""

from gateway.providers.assemblyai.stt import AssemblyAIStt
from gateway.providers.assemblyai.tts import AssemblyAIVoice
from gateway.upstreams.provider import Offer, Vendor

_STT_MODELS = (
    "universal-streaming-multilingual u3-rt-pro universal-3-5-pro universal-3-6-pro"
).split()

VENDOR = Vendor(
    title="AssemblyAI",
    base_url="https://streaming.assemblyai.com",
    key_variable="ASSEMBLYAI_API_KEY",
    stt=Offer(
        AssemblyAIStt,
        {
            "assemblyai/universal-streaming": "universal-streaming-english",
            **{f"assemblyai/{name}": name for name in _STT_MODELS},
        },
        languages={"universal-streaming-english": frozenset({"en"})},
    ),
    tts=Offer(AssemblyAIVoice, {"assemblyai/assemblyai-tts-1": "assemblyai-tts-1"}),
)
