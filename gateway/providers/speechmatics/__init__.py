"""Speechmatics: https://docs.speechmatics.com."""

from gateway.providers.speechmatics.stt import SpeechmaticsStt
from gateway.upstreams.provider import Offer, Vendor

VENDOR = Vendor(
    title="Speechmatics",
    base_url="https://global.rt.speechmatics.com",
    key_variable="SPEECHMATICS_API_KEY",
    stt=Offer(
        SpeechmaticsStt,
        {f"speechmatics/{name}": name for name in ("enhanced", "standard", "linden-1")},
    ),
)
