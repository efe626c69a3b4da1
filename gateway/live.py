"""Tries a provider's credentials, for `gateway check --live`."""

from __future__ import annotations

import openai

from gateway.errors import presentable
from gateway.provider import Account, find

TIMEOUT_S = 10.0
"""How long a provider may take to answer."""


def try_credentials(account: Account) -> str | None:
    """None if the provider lists its models for this key, else what is wrong."""
    if find(account.type).chat is None:
        return None
    client = openai.OpenAI(
        base_url=account.base_url,
        api_key=account.api_key or "none",
        default_headers=dict(account.headers),
        timeout=TIMEOUT_S,
        max_retries=0,
    )
    try:
        with client:
            client.models.list()
    except openai.APIStatusError as error:
        return f"refused with status {error.status_code}: {presentable(error.message)}"
    except openai.APIConnectionError:
        return f"cannot be reached at {account.base_url}"
    except openai.APIError as error:
        return presentable(error.message)
    return None
