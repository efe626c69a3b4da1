"""Models that run inside or beside this server: no key, no network."""

from collections.abc import Mapping

from gateway.engines.whisper import installed
from gateway.providers.local.chat import SMOLLM2, LocalChat, can_chat, models_of, packaged_model
from gateway.providers.local.lacks import lacks
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.stt import WHISPER_BASE, LocalStt, can_transcribe
from gateway.providers.local.tts import LocalVoice, can_speak, missing
from gateway.upstreams.provider import Modality, Offer, Vendor


def stand_ins(settings: LocalSettings) -> Mapping[Modality, tuple[str, str]]:
    """The models that can serve now: of each kind the operator's own first, then ours."""
    found: dict[Modality, tuple[str, str]] = {}
    whisper = next(iter(settings.whisper), None)
    if whisper is not None and installed():
        found["stt"] = (f"local/{whisper}", whisper)
    elif can_transcribe():
        found["stt"] = ("local/whisper", WHISPER_BASE)
    if missing(settings.voice_folder) is None:
        found["tts"] = ("local/kokoro", "kokoro")
    llm = next(iter({**settings.llm, **models_of(settings)}), None)
    if llm is not None and can_chat():
        found["chat"] = (f"local/{llm}", llm)
    return found


VENDOR = Vendor(
    title="Local",
    base_url="local://",
    key_variable=None,
    key_required=False,
    available=lambda: can_transcribe() or can_speak() or can_chat(),
    settings=LocalSettings,
    stand_ins=stand_ins,
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
