"""Tries a provider's credentials, for `gateway check --live`."""

from __future__ import annotations

import urllib.error
import urllib.request

import openai

from gateway.providers._shared.chat_errors import read_error
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import presentable
from gateway.upstreams.provider import Account, find

TIMEOUT_S = 10.0
"""How long a provider may take to answer."""


def try_credentials(account: Account) -> str | None:
    """None if the provider lists its models for this key, else what is wrong."""
    offer = find(account.type).chat
    if offer is None:
        return None
    dial = offer.adapter(account).warm()
    if dial is None:  # it is on this machine
        return None
    if dial.url != join_url(account.base_url, "models"):
        return _try_own_protocol(dial)
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


def _try_own_protocol(dial: Dial) -> str | None:
    """As `try_credentials`, for who lists models elsewhere than OpenAI does (Anthropic, Azure)."""
    request = urllib.request.Request(dial.url, headers=dict(dial.headers))  # noqa: S310 - config
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"refused with status {error.code}: {read_error(error.read(1 << 16)).message}"
    except (urllib.error.URLError, OSError):
        return f"cannot be reached at {dial.url}"
