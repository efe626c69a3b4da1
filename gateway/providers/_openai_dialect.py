"""What the vendors share whose chat endpoint is OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.chat.failures import failure_of
from gateway.chat.relay import StreamRelay, WholeRelay
from gateway.chat.upstream import ChatRequest, Reader
from gateway.dial import Dial, join_url
from gateway.errors import Failure
from gateway.plan import Attempt
from gateway.provider import Account


class OpenAIChat:
    """POST {base_url}/chat/completions with a bearer key; answers are relayed as bytes."""

    def __init__(self, account: Account) -> None:
        self._url = join_url(account.base_url, "chat/completions")
        self._headers = {
            "content-type": "application/json",
            # bytes are relayed as they come, so they must come as they are
            "accept-encoding": "identity",
            **({"authorization": f"Bearer {account.api_key}"} if account.api_key else {}),
            **account.headers,
        }

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        body = {**request.body, "model": attempt.model}
        for name, value in attempt.options.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        return StreamRelay() if request.stream else WholeRelay()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)
