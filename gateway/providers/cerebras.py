"""Cerebras: https://inference-docs.cerebras.ai/api-reference."""

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

VENDOR = Vendor(
    title="Cerebras",
    base_url="https://api.cerebras.ai/v1",
    key_variable="CEREBRAS_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=OPENAI_ONLY
            | {"frequency_penalty", "presence_penalty", "logit_bias", "metadata", "service_tier"}
        ),
        {"openai/gpt-oss-120b": "gpt-oss-120b"},
    ),
)
