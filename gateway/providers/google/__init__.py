"""Google: Gemini by its OpenAI-compatible endpoint."""

from gateway.providers._openai.dialect import in_dialect
from gateway.providers.google.chat import DIALECT
from gateway.providers.google.stt import GoogleStt
from gateway.upstreams.provider import Provider

_CHAT_MODELS = (
    "gemini-4-argon gemini-3.1-pro gemini-3-flash gemini-3.1-flash-lite gemini-3.5-flash "
    "gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite"
).split()

PROVIDER = Provider(
    title="Google Gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_variable="GOOGLE_API_KEY",
    stt=GoogleStt,
    stt_models={"google/gemini-3.5-transcribe-live": "gemini-3.5-transcribe-live"},
    chat=in_dialect(DIALECT),
    chat_models={f"google/{name}": name for name in _CHAT_MODELS},
)
