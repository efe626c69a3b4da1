"""Rime: https://docs.rime.ai."""

from gateway.providers.rime.tts import RimeVoice
from gateway.upstreams.provider import Offer, Vendor

_TTS_MODELS = "coda arcana mistv3 mistv2 mist".split()

VENDOR = Vendor(
    title="Rime",
    base_url="https://users-ws.rime.ai",
    key_variable="RIME_API_KEY",
    tts=Offer(RimeVoice, {"rime": "coda", **{f"rime/{name}": name for name in _TTS_MODELS}}),
)
