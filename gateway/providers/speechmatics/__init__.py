"""Speechmatics: https://docs.speechmatics.com."""

from gateway.providers.speechmatics.stt import SpeechmaticsStt
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Speechmatics",
    base_url="https://global.rt.speechmatics.com",
    key_variable="SPEECHMATICS_API_KEY",
    stt=SpeechmaticsStt,
    stt_models={f"speechmatics/{name}": name for name in ("enhanced", "standard", "linden-1")},
)
