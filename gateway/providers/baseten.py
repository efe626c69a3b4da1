"""Baseten: model APIs, or a dedicated deployment by its own `base_url`.

https://docs.baseten.co/reference/inference-api/chat-completions; names of models from
https://docs.baseten.co/inference/model-apis/overview, read in November 2026.
"""

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Ended, Vendor

_SOURCE = "https://docs.baseten.co/inference/model-apis/overview"

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
        {
            "openai/gpt-oss-120b": "openai/gpt-oss-120b",
            "deepseek-ai/deepseek-v3.1": "deepseek-ai/DeepSeek-V3.1",
            "deepseek-ai/deepseek-v4-pro": "deepseek-ai/DeepSeek-V4-Pro",
            "moonshotai/kimi-k2.5": "moonshotai/Kimi-K2.5",
            "moonshotai/kimi-k2.6": "moonshotai/Kimi-K2.6",
            "zai/glm-5.1": "zai-org/GLM-5.1",
        },
        {
            "deepseek-ai/deepseek-v3": Ended("deepseek-ai/DeepSeek-V3.1", _SOURCE),
            "deepseek-ai/deepseek-v3.2": Ended("deepseek-ai/DeepSeek-V4-Pro", _SOURCE),
            "moonshotai/kimi-k2-instruct": Ended("moonshotai/Kimi-K2.6", _SOURCE),
        },
    ),
)
