"""Azure OpenAI: the v1 API, or a dated one with the deployment in the path.

https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson
from pydantic import Field

from gateway.providers._openai.dialect import Dialect, OpenAIChat, with_options
from gateway.providers._openai.models import (
    OpenAIModelsChat,
    OpenAIModelsSettings,
    adapt,
    is_trusted,
    takes_breakpoints,
)
from gateway.providers._openai.realtime import LiveLine, RelayedLine
from gateway.providers._shared.history import OPENAI
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial, join_url, path_segment, websocket_url
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Offer, Vendor


class Settings(OpenAIModelsSettings):
    """Settings of an Azure OpenAI resource. `base_url` is https://{resource}.openai.azure.com (or
    .services.ai.azure.com), without a path; a model is the name of a deployment."""

    api_version: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$")
    """A dated version (2024-10-21 or later) puts the deployment in the path. Default: the v1 API,
    which needs none."""
    bearer: bool = False
    """True sends the key as a bearer token (Entra ID) in place of the header `api-key`."""


class AzureChat(OpenAIModelsChat):
    """The v1 API: OpenAI's paths under /openai/v1, models being deployments."""

    def __init__(self, account: Account[Settings]) -> None:
        super().__init__(account)
        self._headers = azure_headers(account, self._headers)
        base = join_url(account.base_url, "openai/v1")
        self._models_url = join_url(base, "models")
        self._url = join_url(base, "chat/completions")
        self._responses_url = join_url(base, "responses")


class DatedAzureChat(OpenAIChat):
    """A dated API: the deployment is in the path."""

    def __init__(self, account: Account[Settings], api_version: str) -> None:
        super().__init__(
            account,
            Dialect(
                clean=is_trusted(account),
                breakpoints=takes_breakpoints,
                adapt=adapt,
                history=OPENAI,
            ),
        )
        self._headers = azure_headers(account, self._headers)
        self._base = join_url(account.base_url, "openai/deployments")
        self._models_url = join_url(account.base_url, f"openai/models?api-version={api_version}")
        self._query = f"?api-version={api_version}"

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        dial = super().dial(request, attempt)
        deployment = path_segment(attempt.model)
        url = join_url(self._base, f"{deployment}/chat/completions") + self._query
        return Dial(url, dial.headers, body=dial.body)

    def embeddings(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        deployment = path_segment(attempt.model)
        url = join_url(self._base, f"{deployment}/embeddings") + self._query
        return Dial(url, self._headers, body=orjson.dumps(with_options(body, attempt)))


class AzureRealtime:
    """The Realtime protocol of the v1 API; a model is the name of a deployment.

    Source: https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-websockets
    """

    def __init__(self, account: Account[Settings]) -> None:
        self._url = websocket_url(join_url(account.base_url, "openai/v1/realtime"))
        bearer = {"authorization": f"Bearer {account.api_key}"}
        self._headers = {**azure_headers(account, bearer), **account.headers}

    def line(self, attempt: Attempt) -> RelayedLine:
        url = f"{self._url}?{urlencode({'model': attempt.model})}"
        return RelayedLine(Dial(url, self._headers, ping_interval_s=30.0), attempt.options)


class AzureLive:
    """The Live protocol of the v1 API.

    Source: https://learn.microsoft.com/azure/foundry/openai/gpt-live-reference
    """

    def __init__(self, account: Account[Settings]) -> None:
        self._url = websocket_url(join_url(account.base_url, "openai/v1/live/sessions"))
        bearer = {"authorization": f"Bearer {account.api_key}"}
        self._headers = {**azure_headers(account, bearer), **account.headers}

    def line(self, attempt: Attempt) -> LiveLine:
        dial = Dial(self._url, self._headers, ping_interval_s=30.0)
        return LiveLine(dial, attempt.model, attempt.options)


def azure_headers(account: Account[Settings], headers: dict[str, str]) -> dict[str, str]:
    """`headers` with the key where Azure looks for it."""
    if account.settings.bearer:
        return headers
    bare = {name: value for name, value in headers.items() if name != "authorization"}
    return {**bare, "api-key": account.api_key}


def chat(account: Account[Settings]) -> OpenAIChat:
    """The adapter for the API that the settings choose."""
    if account.settings.api_version:
        return DatedAzureChat(account, account.settings.api_version)
    return AzureChat(account)


VENDOR = Vendor(
    title="Azure OpenAI",
    base_url=None,
    key_variable="AZURE_OPENAI_API_KEY",
    pinned_as=("azure",),
    settings=Settings,
    chat=Offer(chat, deployed_as="openai/"),
    realtime=Offer(AzureRealtime, deployed_as="openai/"),
    duplex=Offer(AzureLive, deployed_as="openai/"),
    listed=(),  # it lists models; ours are names of deployments
)
