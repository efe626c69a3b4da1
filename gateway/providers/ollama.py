"""Ollama: https://docs.ollama.com/api/openai-compatibility. On when OLLAMA_BASE_URL is set."""

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

VENDOR = Vendor(
    title="Ollama",
    base_url="http://127.0.0.1:11434/v1",
    key_variable="OLLAMA_API_KEY",
    key_required=False,
    chat=openai_chat(
        Dialect(
            drop=OPENAI_ONLY | {"logit_bias", "user", "n", "metadata", "service_tier"},
            rename=MAX_TOKENS,
            developer="system",
            call_content="",
        )
    ),
)
