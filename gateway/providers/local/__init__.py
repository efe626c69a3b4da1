"""Models that run inside or beside this server: no key, no network."""

from gateway.provider import Provider
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.stt import WHISPER_BASE, LocalStt, can_transcribe
from gateway.providers.local.tts import LocalVoice, can_speak

PROVIDER = Provider(
    title="Local",
    base_url="local://",
    key_variable=None,
    key_required=False,
    available=lambda: can_transcribe() or can_speak(),
    settings=LocalSettings,
    stt=LocalStt,
    stt_models={"local/whisper": WHISPER_BASE},
    tts=LocalVoice,
    tts_models={"local": "kokoro", "local/kokoro": "kokoro"},
)
