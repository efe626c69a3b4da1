"""Baseten: model APIs, or a dedicated deployment by its own `base_url`.

https://docs.baseten.co/reference/inference-api/chat-completions
"""

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, in_dialect
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Baseten",
    base_url="https://inference.baseten.co/v1",
    key_variable="BASETEN_API_KEY",
    chat=in_dialect(
        Dialect(
            drop=OPENAI_ONLY | {"service_tier"},
            rename=MAX_TOKENS,
            developer="system",
        )
    ),
    chat_models={"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
)
