"""Baseten: model APIs, or a dedicated deployment by its own `base_url`.

https://docs.baseten.co/reference/inference-api/chat-completions
"""

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

VENDOR = Vendor(
    title="Baseten",
    base_url="https://inference.baseten.co/v1",
    key_variable="BASETEN_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=OPENAI_ONLY | {"service_tier"},
            rename=MAX_TOKENS,
            developer="system",
        ),
        {"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
    ),
)
