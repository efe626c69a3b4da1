"""Cerebras: https://inference-docs.cerebras.ai/api-reference."""

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect, in_dialect
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Cerebras",
    base_url="https://api.cerebras.ai/v1",
    key_variable="CEREBRAS_API_KEY",
    chat=in_dialect(
        Dialect(
            drop=OPENAI_ONLY
            | {"frequency_penalty", "presence_penalty", "logit_bias", "metadata", "service_tier"}
        )
    ),
    chat_models={"openai/gpt-oss-120b": "gpt-oss-120b"},
)
