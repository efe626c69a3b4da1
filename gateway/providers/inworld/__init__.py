"""Inworld: https://docs.inworld.ai."""

from gateway.providers.inworld.stt import InworldStt
from gateway.providers.inworld.tts import InworldVoice
from gateway.upstreams.provider import Offer, Vendor

_TTS_MODELS = (
    "inworld-tts-2 inworld-tts-1.5-max inworld-tts-1.5-mini inworld-tts-1.5 inworld-tts-1-max "
    "inworld-tts-1"
).split()

VENDOR = Vendor(
    title="Inworld",
    base_url="https://api.inworld.ai",
    key_variable="INWORLD_API_KEY",
    stt=Offer(InworldStt, {"inworld/inworld-stt-1": "inworld/inworld-stt-1"}),
    tts=Offer(
        InworldVoice,
        {
            "inworld": "inworld-tts-1.5-max",
            **{f"inworld/{name}": name for name in _TTS_MODELS},
        },
    ),
)
