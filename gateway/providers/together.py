"""Together: https://docs.together.ai/reference/chat-completions-1."""

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect, in_dialect
from gateway.upstreams.provider import Provider

PROVIDER = Provider(
    title="Together",
    base_url="https://api.together.xyz/v1",
    key_variable="TOGETHER_API_KEY",
    chat=in_dialect(
        Dialect(
            drop=OPENAI_ONLY | {"metadata", "service_tier", "parallel_tool_calls", "user"},
            rename={"max_completion_tokens": "max_tokens"},
            developer="system",
        )
    ),
    chat_models={"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
)
