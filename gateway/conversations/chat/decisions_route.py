"""POST /decisions: questions about a conversation, over the chat models."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Final

import orjson

from gateway.conversations.chat import decisions
from gateway.conversations.chat.decisions import SPECIALISTS, Asked
from gateway.conversations.chat.route import EVENTS_MAX, ChatConversation, ChatRoute
from gateway.conversations.chat.session import (
    Action,
    Begin,
    ChatSession,
    Event,
    Refuse,
    Reply,
)
from gateway.server.admission import RequestContext
from gateway.server.asgi import JSON_TYPE, Header, answer, failure_headers
from gateway.server.host import ReplyLink
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ClientLeft

ANSWERS_KEPT: Final = 512
"""Answers that are remembered, over all keys; the oldest is forgotten first."""

ANSWER_KEPT_S: Final = 300.0
"""The same questions about the same conversation are asked again within a turn, not an hour."""

BODY_BYTES_MAX: Final = 2 << 20
"""STATE_CHARS_MAX characters of four bytes, and the questions."""


class DecisionsRoute:
    """Shares models, health, quotas and prices with /chat/completions."""

    name: Final = "chat"
    events_max: Final = EVENTS_MAX
    body_bytes_max: Final = BODY_BYTES_MAX

    def __init__(self, chat: ChatRoute) -> None:
        self._chat = chat
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> DecisionsConversation | KeptConversation | Failure:
        asked = decisions.read(body)
        if isinstance(asked, Failure):
            return asked
        model = self._model(asked.model)
        if isinstance(model, Failure):
            return model
        name = _digest(request.caller.key, body)
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept[0]:
            return KeptConversation(link, kept[1], model)
        chat_body = orjson.dumps(decisions.chat_body(asked, model))
        inner = await self._chat.open(request, chat_body, link)
        if isinstance(inner, Failure):
            return inner
        return DecisionsConversation(self, inner, asked, request.id, name, link)

    def _model(self, name: str) -> str | Failure:
        """The chat model that decides in place of `name`."""
        config, catalogue = self._chat.config, self._chat.catalogue
        if name in SPECIALISTS:  # a provider of that beginning would be asked for it in vain
            name = config.decision_model or SPECIALISTS[name]
        found = catalogue.plan(name)
        if not isinstance(found, Failure):
            return name
        if config.decision_model is not None:
            return config.decision_model
        return Failure(
            Kind.NOT_FOUND,
            f"{found.message}; chat.decision_model may name one that decides in its place",
            param="model",
        )

    def keep(self, name: bytes, body: bytes) -> None:
        """Remember an answer."""
        self._kept[name] = (time.monotonic() + ANSWER_KEPT_S, body)
        self._kept.move_to_end(name)
        if len(self._kept) > ANSWERS_KEPT:
            self._kept.popitem(last=False)


def _digest(key: str, body: bytes) -> bytes:
    """Of one key's request: what one asked is told to no other."""
    return hashlib.sha256(key.encode() + b"\0" + body).digest()


class DecisionsConversation:
    """One request's I/O: that of /chat/completions, but for what the client gets."""

    def __init__(
        self,
        route: DecisionsRoute,
        inner: ChatConversation,
        asked: Asked,
        request_id: str,
        name: bytes,
        link: ReplyLink[Event],
    ) -> None:
        self._route = route
        self._inner = inner
        self._asked = asked
        self._id = request_id
        self._name = name
        self._link = link

    @property
    def session(self) -> ChatSession:
        return self._inner.session

    async def perform(self, action: Action) -> bool:
        match action:
            case Reply(body):
                completion = orjson.loads(body)
                told = decisions.answers(self._asked, completion, self._id)
                self._route.keep(self._name, told)
                await answer(self._link.send, 200, told, self._headers([JSON_TYPE]))
                return False
            case Refuse(failure):
                headers = self._headers(failure_headers(failure))
                await answer(self._link.send, failure.status, decisions.error(failure), headers)
                return False
        return await self._inner.perform(action)

    def _headers(self, first: list[Header]) -> list[Header]:
        return [*first, (b"x-request-id", self._id.encode())]

    async def close(self) -> Outcome:
        return await self._inner.close()


class _Kept:
    """Events in, actions out: the answer is there."""

    deadline: Final = None

    def __init__(self, body: bytes) -> None:
        self._body = body

    def handle(self, event: Begin | ClientLeft, now: float) -> tuple[Reply, ...]:
        return (Reply(self._body),)


class KeptConversation:
    """An answer that was given before."""

    def __init__(self, link: ReplyLink[Event], body: bytes, model: str) -> None:
        self.session = _Kept(body)
        self._link = link
        self._model = model
        link.inbox.post(Begin())

    async def perform(self, action: Reply) -> bool:
        await answer(self._link.send, 200, action.body, (JSON_TYPE,))
        return False

    async def close(self) -> Outcome:
        return Outcome(model=self._model)
