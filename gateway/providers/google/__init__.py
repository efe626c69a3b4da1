"""Google: Gemini by its OpenAI-compatible endpoint."""

from gateway.providers._openai.dialect import openai_chat
from gateway.providers.google.chat import DIALECT
from gateway.providers.google.realtime import GoogleRealtime
from gateway.providers.google.stt import GoogleStt
from gateway.upstreams.provider import Offer, Vendor

_CHAT_MODELS = (
    "gemini-4-argon gemini-3.1-pro-preview gemini-3-flash-preview gemini-3.1-flash-lite "
    "gemini-3.5-flash gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite"
).split()

_PREVIEWS = ("gemini-3.1-pro", "gemini-3-flash")
"""Names that clients list without the ending that they have at Google
(https://ai.google.dev/gemini-api/docs/models, read in November 2026)."""

VENDOR = Vendor(
    title="Google Gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_variable="GOOGLE_API_KEY",
    stt=Offer(GoogleStt, {"google/gemini-3.5-transcribe-live": "gemini-3.5-transcribe-live"}),
    realtime=Offer(
        GoogleRealtime,
        {
            "google/gemini-3.8-live": "gemini-3.8-live",
            "google/gemini-3.8-live-extended-thinking": "gemini-3.8-live-extended-thinking",
            "google/gemini-live": "gemini-3.8-live",
        },
    ),
    chat=openai_chat(
        DIALECT,
        {f"google/{name}": name for name in _CHAT_MODELS}
        | {f"google/{name}": f"{name}-preview" for name in _PREVIEWS},
    ),
)
