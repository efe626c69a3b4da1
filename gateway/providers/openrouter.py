"""OpenRouter: https://openrouter.ai/docs/api-reference."""

from __future__ import annotations

from typing import Any

from gateway.providers._openai.dialect import Dialect, OpenAIChat
from gateway.upstreams.provider import Account, Offer, ProviderSettings, Vendor


class Settings(ProviderSettings):
    """Settings of an OpenRouter account."""

    training: bool = False
    """True lets it use providers that keep prompts or train on them. False asks only others,
    whatever a client says."""


def adapt(body: dict[str, Any], model: str) -> None:
    """Effort is part of an object here."""
    effort = body.pop("reasoning_effort", None)
    if effort is not None and "reasoning" not in body:
        body["reasoning"] = {"enabled": False} if effort == "none" else {"effort": effort}


def adapt_private(body: dict[str, Any], model: str) -> None:
    """`adapt`, and no provider that keeps what it is sent.

    Source: https://openrouter.ai/docs/features/provider-routing
    """
    adapt(body, model)
    given = body.get("provider")
    body["provider"] = {**(given if isinstance(given, dict) else {}), "data_collection": "deny"}


def chat(account: Account[Settings]) -> OpenAIChat:
    """The adapter of one account."""
    return OpenAIChat(
        account,
        Dialect(
            drop=frozenset({"store", "prediction"}),
            developer="system",
            adapt=adapt if account.settings.training else adapt_private,
        ),
    )


VENDOR = Vendor(
    title="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    key_variable="OPENROUTER_API_KEY",
    settings=Settings,
    chat=Offer(chat, {"openai/gpt-oss-120b": "openai/gpt-oss-120b"}),
)
