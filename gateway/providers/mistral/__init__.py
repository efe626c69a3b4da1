"""Mistral."""

from gateway.providers._openai.dialect import openai_chat
from gateway.providers.mistral.chat import DIALECT
from gateway.upstreams.provider import Vendor

VENDOR = Vendor(
    title="Mistral",
    base_url="https://api.mistral.ai/v1",
    key_variable="MISTRAL_API_KEY",
    chat=openai_chat(
        DIALECT,
        {
            f"mistral/{name}": name
            for name in ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest")
        },
    ),
)
