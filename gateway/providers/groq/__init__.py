"""Groq."""

from gateway.providers._openai.dialect import in_dialect
from gateway.providers._openai.stt import Transcriptions
from gateway.providers.groq.chat import DIALECT
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Groq",
    base_url="https://api.groq.com/openai/v1",
    key_variable="GROQ_API_KEY",
    chat=in_dialect(DIALECT),
    chat_models={"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
    stt=Transcriptions,
    stt_models={
        "groq/whisper-large-v3-turbo": "whisper-large-v3-turbo",
        "groq/whisper-large-v3": "whisper-large-v3",
    },
    listed=("chat", "stt"),
)
