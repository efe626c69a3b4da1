"""What OpenAI's models accept, by the beginning of their names. It changes with each release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

import orjson
from pydantic import Field

from gateway.providers._openai.dialect import PROXIED_EXTRAS, Dialect, OpenAIChat, merged
from gateway.providers._openai.responses import HISTORY as RESPONSES_HISTORY
from gateway.providers._openai.responses import responses_reader, to_responses
from gateway.providers._openai.responses_relay import responses_relay
from gateway.providers._shared.history import OPENAI, normalised
from gateway.upstreams.chat import ChatRequest, Reader, ResponsesReader
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings

BASE_URL: Final = "https://api.openai.com/v1"


class Tools(StrEnum):
    """How a model is asked when there are tools.

    Some refuse tools together with reasoning on /chat/completions: 400, "use /v1/responses or set
    reasoning_effort to 'none'".
    """

    CHAT = "chat"
    """As usual."""
    RESPONSES_FOR_EFFORT = "responses-for-effort"
    """By /responses where the caller asks for an effort other than none, else as usual."""
    NONE_UNLESS_ASKED = "none-unless-asked"
    """The same, and with effort `none` where the caller asks for nothing: the model's own default
    is refused."""
    RESPONSES = "responses"
    """Always by /responses: the model has no effort `none`."""


TOOLS: Final[Mapping[str, Tools]] = {
    "gpt-5.2": Tools.RESPONSES_FOR_EFFORT,
    "gpt-5.4": Tools.RESPONSES_FOR_EFFORT,
    "gpt-5.5": Tools.RESPONSES_FOR_EFFORT,
    "gpt-5.6": Tools.NONE_UNLESS_ASKED,
    "gpt-6": Tools.NONE_UNLESS_ASKED,
    "gpt-6-astra": Tools.RESPONSES,
    "gpt-6.1": Tools.RESPONSES,
}
"""By prefix, the longest counts; a model that fits none is asked as usual."""

_SAMPLING = "temperature top_p presence_penalty frequency_penalty logit_bias logprobs top_logprobs"
_REASONING_DROPS: Final[Mapping[str, frozenset[str]]] = {
    "o1": frozenset(f"{_SAMPLING} n".split()),
    "o3": frozenset(f"{_SAMPLING} n".split()),
    "o4": frozenset(f"{_SAMPLING} n".split()),
    "gpt-5": frozenset(f"{_SAMPLING} n".split()),
    "gpt-6": frozenset(f"{_SAMPLING} stop".split()),
}
"""What reasoning models refuse while they reason."""

_CHAT_ONLY = "-chat"
"""In the names of those that do not reason."""


def longest_prefix(table: Mapping[str, Any], model: str) -> Any:
    """The entry of the longest key that `model` begins with, or None."""
    fitting = [prefix for prefix in table if model.startswith(prefix)]
    return table[max(fitting, key=len)] if fitting else None


def takes_breakpoints(model: str) -> bool:
    """Whether a model takes prompt cache breakpoints (gpt-5.6 and newer)."""
    return model.startswith(("gpt-5.6", "gpt-6"))


def adapt(body: dict[str, Any], model: str) -> None:
    """Leave out what the model refuses, as LiveKit's client does for its own users."""
    drops = None if _CHAT_ONLY in model else longest_prefix(_REASONING_DROPS, model)
    if drops is None:
        return
    if "max_tokens" in body:
        limit = body.pop("max_tokens")
        body.setdefault("max_completion_tokens", limit)
    if body.get("reasoning_effort") == "none":
        if model.startswith("gpt-6"):
            return
        if not model.startswith(("o", "gpt-5-")) and model != "gpt-5":
            drops = drops - {"temperature", "top_p"}
    for name in drops:
        body.pop(name, None)


def effort_and_way(rule: Tools | None, *, tools: bool, effort: Any) -> tuple[Any, bool]:
    """The `reasoning_effort` to send, and whether the request goes to /responses."""
    if rule is None or rule is Tools.CHAT or not tools:
        return effort, False
    if rule is Tools.RESPONSES:
        return "low" if effort == "none" else effort, True
    if effort is None and rule is Tools.NONE_UNLESS_ASKED:
        return "none", False
    return effort, effort not in (None, "none")


class OpenAIModelsSettings(ProviderSettings):
    """Settings of whoever serves OpenAI's own models."""

    tools: dict[str, Tools] = Field(default_factory=lambda: dict(TOOLS))
    """How models are asked when there are tools, by the beginning of their names (the longest
    counts): chat, responses-for-effort, none-unless-asked, responses. Replaces the built-in
    table."""
    clean: bool | None = None
    """True relays streams as bytes. Default: only from the vendor's own address; behind another
    `base_url` may be any server, whose streams are read and put right."""
    responses: bool | None = None
    """True: it has the Responses API, to which `/responses` is relayed. False: `/responses` is
    served from its chat completions. Default: it has it at the vendor's own address."""


_VENDORS_HOSTS: Final = (
    "api.openai.com",
    ".api.openai.com",  # regions: eu.api.openai.com
    ".openai.azure.com",
    ".services.ai.azure.com",
    ".cognitiveservices.azure.com",
)


def is_vendors(base_url: str) -> bool:
    """Whether an address is OpenAI's or Azure's own."""
    host = base_url.partition("://")[2].partition("/")[0].partition(":")[0].lower()
    return base_url.startswith("https://") and host.endswith(_VENDORS_HOSTS)


def is_trusted(account: Account[OpenAIModelsSettings]) -> bool:
    """Whether streams may be relayed as bytes: by the operator's word, or by address."""
    word = account.settings.clean
    return is_vendors(account.base_url) if word is None else word


class OpenAIModelsChat(OpenAIChat):
    """OpenAI's own models: relayed as bytes from /chat/completions, or translated from /responses
    where a model refuses tools with reasoning."""

    def __init__(self, account: Account[OpenAIModelsSettings]) -> None:
        trusted = is_trusted(account)
        super().__init__(
            account,
            Dialect(
                clean=trusted,
                breakpoints=takes_breakpoints,
                adapt=adapt,
                # behind an address of the operator's own may be a proxy that leads to anybody
                extras=frozenset() if is_vendors(account.base_url) else PROXIED_EXTRAS,
                history=OPENAI,
            ),
        )
        self._responses_url = join_url(account.base_url, "responses")
        word = account.settings.responses
        self._has_responses = is_vendors(account.base_url) if word is None else word
        self._tools = account.settings.tools

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        effort, by_responses = self._way(request, attempt)
        if effort is not None and effort != _asked(request, attempt, "reasoning_effort"):
            options = {**attempt.options, "reasoning_effort": effort}
            attempt = replace(attempt, options=options)
        if not by_responses:
            return super().dial(request, attempt)
        body = merged(request, attempt)
        adapt(body, attempt.model)
        body["messages"] = normalised(body["messages"], RESPONSES_HISTORY)
        made = to_responses(body, stream=request.stream)
        return Dial(self._responses_url, self._headers, body=orjson.dumps(made))

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        if self._way(request, attempt)[1]:
            return responses_reader(request, attempt.model)
        return super().reader(request, attempt)

    def responses(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        if not self._has_responses:
            return None
        made = {**body, "model": attempt.model}
        return Dial(self._responses_url, self._headers, body=orjson.dumps(made))

    def responses_reader(self, *, stream: bool) -> ResponsesReader:
        return responses_relay(stream=stream)

    def _way(self, request: ChatRequest, attempt: Attempt) -> tuple[Any, bool]:
        return effort_and_way(
            longest_prefix(self._tools, attempt.model),
            tools=bool(_asked(request, attempt, "tools")),
            effort=_asked(request, attempt, "reasoning_effort"),
        )


def _asked(request: ChatRequest, attempt: Attempt, name: str) -> Any:
    return attempt.options.get(name, request.body.get(name))
