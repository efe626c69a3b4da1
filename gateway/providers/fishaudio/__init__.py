"""Fish Audio: https://docs.fish.audio."""

from gateway.providers.fishaudio.tts import FishAudioVoice
from gateway.upstreams.provider import Offer, Vendor

_TTS_MODELS = "s2.1-pro s2.1-pro-free s2-pro s1 drama-3".split()

VENDOR = Vendor(
    title="Fish Audio",
    base_url="https://api.fish.audio",
    key_variable="FISH_API_KEY",
    tts=Offer(
        FishAudioVoice,
        {"fishaudio": "s2.1-pro", **{f"fishaudio/{name}": name for name in _TTS_MODELS}},
    ),
)
