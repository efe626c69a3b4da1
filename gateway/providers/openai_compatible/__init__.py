"""Any server that speaks OpenAI's protocol: vLLM, llama.cpp, LocalAI, a proxy."""

from gateway.provider import Provider
from gateway.providers._openai_dialect import OpenAIChat

PROVIDER = Provider(
    title="OpenAI-compatible server",
    base_url=None,
    key_variable="OPENAI_COMPATIBLE_API_KEY",
    key_required=False,
    chat=OpenAIChat,
)
