"""Cartesia: https://docs.cartesia.ai."""

from gateway.providers.cartesia.stt import CartesiaStt
from gateway.providers.cartesia.tts import CartesiaVoice
from gateway.upstreams.provider import Offer, Vendor

_TTS_MODELS = "sonic-3.5 sonic-3 sonic-3-latest sonic-latest sonic-2 sonic-turbo sonic".split()

VENDOR = Vendor(
    title="Cartesia",
    base_url="https://api.cartesia.ai",
    key_variable="CARTESIA_API_KEY",
    stt=Offer(
        CartesiaStt,
        {
            "cartesia/ink-2": "ink-2",
            "cartesia/ink-2-latest": "ink-2",
            "cartesia/ink-whisper": "ink-whisper",
        },
        languages={"ink-2": frozenset({"en"})},
    ),
    tts=Offer(
        CartesiaVoice, {"cartesia": "sonic-3", **{f"cartesia/{name}": name for name in _TTS_MODELS}}
    ),
)
