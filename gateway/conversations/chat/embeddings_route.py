"""POST /embeddings: OpenAI's form, passed on to the providers of chat that have it too."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from gateway.conversations.chat.estimates import BYTES_PER_TOKEN
from gateway.conversations.chat.route import ChatRoute
from gateway.conversations.messages import Message, Name, parse, required, validated
from gateway.routing.failover import Exhausted, Failover, RetryPolicy
from gateway.runtime.exchange import exchange
from gateway.server.admission import RequestContext, who_and_where
from gateway.server.quota import Spent
from gateway.telemetry.outcome import Outcome, Try
from gateway.telemetry.prices import tokens_cost
from gateway.upstreams.chat import ChatUpstream, MakesEmbeddings, Usage, token_count
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, names_of
from gateway.upstreams.request_ids import named, told_id

ANSWER_S_MAX: Final = 60.0
"""How long one provider may take; a server without a GPU needs a while for a large batch."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""Longest answer: 2048 embeddings of 3072 numbers in base64 are 34 MB."""

VALUES_MAX: Final = 350_000
"""JSON values of a request: texts may come as lists of tokens, of which OpenAI takes 300,000."""

LARGE_BODY_BYTES: Final = 256 << 10
"""From this length on a body is read by a thread, as that of a chat request is."""

_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]{0,1000}\})')

POLICY: Final = RetryPolicy(rounds=1, rounds_alone=2)
"""A deployment that is alone is asked twice, if its failure says that this may help."""


class Request(Message):
    """What is read here; all the rest is the provider's business."""

    model: Name = required()


_REQUEST: Final = TypeAdapter(Request)


class EmbeddingsRoute:
    """One for each process. Shares providers, health, quotas and prices with /chat/completions."""

    name: Final = "embeddings"
    anonymous: Final = ()
    ends_with_client: Final = True

    def __init__(self, chat: ChatRoute) -> None:
        self._chat = chat
        self._parsing = asyncio.Lock()
        self.body_bytes_max = chat.body_bytes_max

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        if len(body) < LARGE_BODY_BYTES:
            parsed = parse(body, "the body", VALUES_MAX)
        else:
            async with self._parsing:
                parsed = await asyncio.to_thread(parse, body, "the body", VALUES_MAX)
        if isinstance(parsed, Failure):
            return parsed
        asked = validated(parsed, _REQUEST)
        if isinstance(asked, Failure):
            return asked
        chat, model = self._chat, asked.model
        catalogue = chat.catalogue.for_request(*who_and_where(request))
        if isinstance(catalogue, Failure):
            return catalogue
        found = catalogue.plan(model)
        if isinstance(found, Failure):
            return found
        plan = tuple(
            attempt for attempt in found if _dial(chat.upstreams[attempt.provider], {}, attempt)
        )
        if not plan:
            return Failure(
                Kind.UNABLE, f"no provider of {model[:128]!r} makes embeddings", param="model"
            )
        admitted = await request.purse.enter(model, plan)
        if isinstance(admitted, Failure):
            return admitted
        failover = Failover(admitted, POLICY, chat.breaker, time.monotonic())
        tries: list[Try] = []
        asked_at = time.monotonic()
        while True:
            began = time.monotonic()
            attempt = failover.next(began)
            if attempt is None:
                return Failure(Kind.UPSTREAM_ERROR, "no provider could be asked")
            chat.breaker.began(attempt, began)
            dial = _dial(chat.upstreams[attempt.provider], parsed, attempt)
            assert dial is not None  # or it would not be in the plan
            told = Try(attempt.provider, attempt.model, began)
            tries.append(told)
            try:
                heard = await self._ask(told, attempt, named(dial, request.id))
            except asyncio.CancelledError:  # the client has left
                told.ended, told.left = time.monotonic(), True
                await self._leave(request, model, tuple(tries), attempt, len(body))
                raise
            told.ended = now = time.monotonic()
            told.failure = heard if isinstance(heard, Failure) else None
            usage = None if isinstance(heard, Failure) else usage_of(heard)
            cost = self._cost(attempt, usage)
            request.outcome = Outcome(
                model=model,
                label=chat.catalogue.model_label(model),
                provider=attempt.provider,
                deployment=attempt.model,
                tries=tuple(tries),
                first_s=None if told.failure is not None else now - asked_at,
                usage=usage,
                bytes_out=0 if isinstance(heard, Failure) else len(heard),
                cost=cost,
            )
            if not isinstance(heard, Failure):
                chat.breaker.worked(attempt)
                tokens = usage.prompt if usage is not None else 0
                called = names_of(attempt) | {model}
                await request.purse.settle((Spent(called, requests=1, tokens=tokens, cost=cost),))
                return heard
            chat.breaker.failed(attempt, heard, now, hash(body))
            outcome = failover.failed(attempt, heard, now)
            if isinstance(outcome, Exhausted):
                return outcome.failure
            await asyncio.sleep(max(0.0, outcome.at - now))

    async def _leave(
        self,
        request: RequestContext,
        model: str,
        tries: tuple[Try, ...],
        attempt: Attempt,
        size: int,
    ) -> None:
        """The provider was asked, and nobody waits for its answer: it bills what it has read."""
        self._chat.breaker.cancelled(attempt)
        usage = Usage(max(1, size // BYTES_PER_TOKEN), 0)
        cost = self._cost(attempt, usage)
        request.outcome = Outcome(
            model=model,
            label=self._chat.catalogue.model_label(model),
            provider=attempt.provider,
            deployment=attempt.model,
            tries=tries,
            usage=usage,
            cost=cost,
            estimated=True,
            left=True,
        )
        called = names_of(attempt) | {model}
        spent = Spent(called, requests=1, tokens=usage.prompt, cost=cost)
        await request.purse.settle((spent,))

    def _cost(self, attempt: Attempt, usage: Usage | None) -> int:
        price = self._chat.prices.of_attempt(attempt)
        if price is None or usage is None:
            return 0
        return tokens_cost(price, usage.prompt, 0)

    async def _ask(self, told: Try, attempt: Attempt, dial: Dial) -> bytes | Failure:
        """One provider's answer, as it is; `told` learns how it calls the request."""
        answer = await exchange(
            self._chat.connector,
            dial,
            connect_timeout_s=self._chat.config.connect_timeout_s,
            answer_s=ANSWER_S_MAX,
            bytes_max=ANSWER_BYTES_MAX,
        )
        if isinstance(answer, Failure):
            return answer
        told.upstream_id = told_id(answer.headers)
        if answer.status != 200:
            upstream = self._chat.upstreams[attempt.provider]
            return upstream.failure(answer.status, answer.headers, answer.body)
        if not answer.body.lstrip().startswith(b"{"):
            return Failure(Kind.PROTOCOL_ERROR, "the provider's answer is no JSON")
        return answer.body


def _dial(upstream: ChatUpstream, body: Mapping[str, Any], attempt: Attempt) -> Dial | None:
    return upstream.embeddings(body, attempt) if isinstance(upstream, MakesEmbeddings) else None


def usage_of(answer: bytes) -> Usage | None:
    """The tokens that an answer tells; None if it tells none. Looked for and not read: an answer
    holds millions of numbers."""
    found = _USAGE.search(answer)
    try:
        told = orjson.loads(found[1]) if found is not None else {}
    except orjson.JSONDecodeError:
        return None
    tokens = token_count(told.get("prompt_tokens"))
    return Usage(tokens, 0) if tokens is not None else None
