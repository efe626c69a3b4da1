"""Groq."""

from functools import partial

from gateway.providers._openai.dialect import openai_chat
from gateway.providers._openai.stt import Transcriptions
from gateway.providers.groq.chat import DIALECT
from gateway.upstreams.provider import Offer, Vendor

VENDOR = Vendor(
    title="Groq",
    base_url="https://api.groq.com/openai/v1",
    key_variable="GROQ_API_KEY",
    chat=openai_chat(DIALECT, {"openai/gpt-oss-120b": "openai/gpt-oss-120b"}),
    stt=Offer(
        partial(Transcriptions, billed=True),
        {
            "groq/whisper-large-v3-turbo": "whisper-large-v3-turbo",
            "groq/whisper-large-v3": "whisper-large-v3",
        },
    ),
    listed=("chat", "stt"),
)
