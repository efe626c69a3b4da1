"""ElevenLabs: https://elevenlabs.io/docs."""

from gateway.providers.elevenlabs.settings import ElevenLabsSettings
from gateway.providers.elevenlabs.stt import ElevenLabsStt
from gateway.providers.elevenlabs.tts import ElevenLabsVoice
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.provider import Offer, Vendor

_TTS_MODELS = (
    "eleven_flash_v2 eleven_flash_v2_5 eleven_turbo_v2 eleven_turbo_v2_5 eleven_multilingual_v2 "
    "eleven_monolingual_v1 eleven_multilingual_v1"
).split()

VENDOR = Vendor(
    title="ElevenLabs",
    base_url="https://api.elevenlabs.io",
    key_variable="ELEVEN_API_KEY",
    settings=ElevenLabsSettings,
    stt=Offer(ElevenLabsStt, {"elevenlabs/scribe_v2_realtime": "scribe_v2_realtime"}),
    tts=Offer(
        ElevenLabsVoice,
        {
            "elevenlabs": "eleven_turbo_v2_5",
            **{f"elevenlabs/{name}": name for name in _TTS_MODELS},
        },
    ),
    # https://elevenlabs.io/docs/api-reference/models/list
    listing=lambda account: Dial(
        join_url(account.base_url, "v1/models"),
        {"xi-api-key": account.api_key, **account.headers},
        method="GET",
    ),
    listed=("tts",),
)
