"""Mistral."""

from gateway.providers._openai.dialect import in_dialect
from gateway.providers.mistral.chat import DIALECT
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Mistral",
    base_url="https://api.mistral.ai/v1",
    key_variable="MISTRAL_API_KEY",
    chat=in_dialect(DIALECT),
    chat_models={
        f"mistral/{name}": name
        for name in ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest")
    },
)
