"""Piper's own HTTP server: https://github.com/OHF-Voice/piper1-gpl, docs/API_HTTP.md. On when
PIPER_BASE_URL is set."""

from gateway.providers.piper.tts import VOICE_OF_SERVER, PiperVoice
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.provider import Offer, Vendor

VENDOR = Vendor(
    title="Piper",
    base_url="http://127.0.0.1:5000",
    key_variable="PIPER_API_KEY",
    key_required=False,
    tts=Offer(PiperVoice, {"piper": VOICE_OF_SERVER}),
    listing=lambda account: Dial(join_url(account.base_url, "voices"), account.headers),
    listed=(),
)
