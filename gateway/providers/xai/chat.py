"""xAI's chat endpoint: https://docs.x.ai/docs/api-reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.providers._openai.dialect import MAX_TOKENS, OPENAI_ONLY, Dialect, OpenAIChat
from gateway.providers._openai.responses_relay import responses_relay
from gateway.upstreams.chat import ResponsesReader
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings


def adapt(body: dict[str, Any], model: str) -> None:
    """Reasoning models refuse penalties and stop sequences."""
    if "non-reasoning" not in model:
        for name in ("presence_penalty", "frequency_penalty", "stop"):
            body.pop(name, None)


DIALECT: Final = Dialect(
    drop=OPENAI_ONLY | {"metadata", "service_tier", "logit_bias"},
    rename=MAX_TOKENS,
    developer="system",
    message_names=False,
    extras=frozenset({"xai"}),
    adapt=adapt,
)

_NO_RESPONSES: Final = frozenset(
    {"metadata", "service_tier", "safety_identifier", "prompt_cache_retention",
     "prompt_cache_options", "truncation", "stream_options"}
)  # fmt: skip
"""Parameters of OpenAI's /responses that xAI's refuses."""


class XaiChat(OpenAIChat):
    """Chat completions, and the Responses API (https://docs.x.ai/docs/api-reference), which takes
    no `instructions`: they are its first message."""

    def __init__(self, account: Account[ProviderSettings]) -> None:
        super().__init__(account, DIALECT)
        self._responses_url = join_url(account.base_url, "responses")

    def responses(self, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
        made = {name: value for name, value in body.items() if name not in _NO_RESPONSES}
        made["model"] = attempt.model
        said = [_as_system(item) for item in made.get("input") or ()]
        if (instructions := made.pop("instructions", None)) is not None:
            said.insert(0, {"role": "system", "content": instructions})
        made["input"] = said
        return Dial(self._responses_url, self._headers, body=orjson.dumps(made))

    def responses_reader(self, *, stream: bool) -> ResponsesReader:
        return responses_relay(stream=stream)


def _as_system(item: Any) -> Any:
    if isinstance(item, dict) and item.get("role") == "developer":
        return {**item, "role": "system"}
    return item
