"""Deepgram: https://developers.deepgram.com."""

from gateway.providers.deepgram.settings import DeepgramSettings
from gateway.providers.deepgram.stt import DeepgramStt
from gateway.providers.deepgram.tts import DeepgramVoice
from gateway.upstreams.provider import Offer, Vendor

_STT_MODELS = (
    "nova-3 nova-3-medical nova-2 nova-2-medical nova-2-conversationalai nova-2-phonecall "
    "flux-general-en flux-general-multi flux-general"
).split()
_ENGLISH = "nova-2-medical nova-2-conversationalai nova-2-phonecall flux-general-en".split()

VENDOR = Vendor(
    title="Deepgram",
    base_url="https://api.deepgram.com",
    key_variable="DEEPGRAM_API_KEY",
    settings=DeepgramSettings,
    stt=Offer(
        DeepgramStt,
        {f"deepgram/{name}": name for name in _STT_MODELS},
        languages={name: frozenset({"en"}) for name in _ENGLISH},
    ),
    tts=Offer(
        DeepgramVoice, {"deepgram": "aura-2", "deepgram/aura-2": "aura-2", "deepgram/aura": "aura"}
    ),
)
