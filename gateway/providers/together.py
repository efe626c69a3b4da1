"""Together: https://docs.together.ai/reference/chat-completions-1."""

from gateway.providers._openai.dialect import OPENAI_ONLY, Dialect, openai_chat
from gateway.upstreams.provider import Vendor

VENDOR = Vendor(
    title="Together",
    base_url="https://api.together.xyz/v1",
    key_variable="TOGETHER_API_KEY",
    chat=openai_chat(
        Dialect(
            drop=OPENAI_ONLY | {"metadata", "service_tier", "parallel_tool_calls", "user"},
            rename={"max_completion_tokens": "max_tokens"},
            developer="system",
        ),
        {"openai/gpt-oss-120b": "openai/gpt-oss-120b"},
    ),
)
