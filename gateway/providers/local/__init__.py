"""Models that run inside or beside this server: no key, no network."""

from gateway.providers.local.chat import SMOLLM2, LocalChat, can_chat, packaged_model
from gateway.providers.local.lacks import lacks
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.stt import WHISPER_BASE, LocalStt, can_transcribe
from gateway.providers.local.tts import LocalVoice, can_speak
from gateway.upstreams.provider import Offer, Vendor

VENDOR = Vendor(
    title="Local",
    base_url="local://",
    key_variable=None,
    key_required=False,
    available=lambda: can_transcribe() or can_speak() or can_chat(),
    settings=LocalSettings,
    chat=Offer(
        LocalChat,
        # a demo model: 135M parameters
        {f"local/{SMOLLM2}": SMOLLM2} if packaged_model() else {},
    )
    if can_chat()
    else None,
    # listed only where they can serve
    stt=Offer(LocalStt, {"local/whisper": WHISPER_BASE} if can_transcribe() else {}),
    tts=Offer(LocalVoice, {"local": "kokoro", "local/kokoro": "kokoro"} if can_speak() else {}),
    listed=(),
    lacks=lacks,
)
