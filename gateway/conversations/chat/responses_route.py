"""POST, GET and DELETE /responses: the Responses API, over the chat models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from gateway.conversations.chat import responses
from gateway.conversations.chat.protocol import SSE_TYPE, read_request
from gateway.conversations.chat.responses import Asked, Origins, Request
from gateway.conversations.chat.responses_events import (
    Narrated,
    Narrator,
    empty_response,
    event,
    failed,
    refused_by_none,
    unfound,
)
from gateway.conversations.chat.responses_store import Kept, ResponsesStore
from gateway.conversations.chat.route import (
    EVENTS_MAX,
    LARGE_BODY_BYTES,
    ChatConversation,
    ChatRoute,
)
from gateway.conversations.chat.session import (
    Action,
    Begin,
    BreakOff,
    ChatSession,
    Event,
    Finish,
    Start,
    Write,
)
from gateway.server.admission import RequestContext, new_id
from gateway.server.host import ReplyLink
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.chat import (
    ChatRequest,
    ChatUpstream,
    HasProcesses,
    HasResponses,
    Reader,
    ReaderUpdate,
    ResponsesReader,
)
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan

ReadT = TypeVar("ReadT")


class ResponsesRoute:
    """POST /responses. Shares models, health, quotas and prices with /chat/completions.

    A new configuration has a new one, which goes on with what the one `before` it has kept.
    """

    name: Final = "chat"
    events_max: Final = EVENTS_MAX

    def __init__(
        self,
        chat: ChatRoute,
        before: ResponsesRoute | None = None,
        tell: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        """`tell` has the other workers of this server keep a response too, or delete it (see
        `hear`)."""
        self._chat = chat
        self._tell = tell
        self._parsing = asyncio.Lock()
        self.body_bytes_max = chat.body_bytes_max
        kept = chat.config.responses
        bounds = (kept.per_key, kept.bytes_max, kept.age_s)
        if before is None:
            self.store, self.origins = ResponsesStore(*bounds), Origins()
        else:
            self.store, self.origins = before.store, before.origins
            self.store.bound(*bounds)

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> ResponsesConversation | KeptConversation | Failure:
        keys = _keys(request)
        read = await self._read(keys, body)
        if isinstance(read, Failure):
            return read
        asked, before, chat = read
        form = _Form(self, asked, before, keys, chat)
        if asked.only_kept:
            return KeptConversation(form, link)
        inner = await self._chat.begin(request, chat, link, form)
        return inner if isinstance(inner, Failure) else ResponsesConversation(inner, link)

    def keep(
        self, key: str, response: Mapping[str, Any], own: Sequence[Any], before: Kept | None
    ) -> None:
        """Keep a response that any request of `key` may name."""
        self.store.put(key, response, own, before, time.monotonic())
        if self._tell is not None:
            self._tell((key, response, own))

    def delete(self, key: str, name: str) -> None:
        """Forget a response, here and at the other workers."""
        self.store.delete(key, name)
        if self._tell is not None:
            self._tell((key, name))

    def hear(self, told: Sequence[Any]) -> None:
        """Another worker keeps a response, or was told to delete one."""
        if len(told) == 2:
            self.store.delete(*told)
            return
        key, response, own = told
        now = time.monotonic()
        previous = response.get("previous_response_id")
        before = self.store.get(key, previous, now) if previous else None
        if previous is None or before is not None:
            self.store.put(key, response, own, before, now)

    def forget(self, connection: RequestContext) -> None:
        """A WebSocket is closed: what was kept for it alone goes with it."""
        self.store.forget(_connection_key(connection.caller.key, connection.id))

    async def _read(
        self, keys: Sequence[str], body: bytes
    ) -> tuple[Asked, Kept | None, ChatRequest] | Failure:
        read = await self._in_turn(len(body), partial(responses.read, body))
        if isinstance(read, Failure):
            return read
        parsed, request = read
        before: Kept | None = None
        if (name := request.previous_response_id) is not None:
            now = time.monotonic()
            found = (self.store.get(key, name, now) for key in keys)
            before = next((one for one in found if one is not None), None)
            if before is None:
                return unfound(name)
        size = len(body) if before is None else len(body) + before.length
        return await self._in_turn(size, partial(_asked, parsed, request, before))

    async def _in_turn(self, size: int, read: Callable[[], ReadT]) -> ReadT:
        """What is read from `size` bytes: many of them by a thread, one after the other."""
        if size < LARGE_BODY_BYTES:
            return read()
        async with self._parsing:
            return await asyncio.to_thread(read)


def _asked(
    parsed: Mapping[str, Any], request: Request, before: Kept | None
) -> tuple[Asked, Kept | None, ChatRequest] | Failure:
    """The request with its whole conversation, and as a chat completion."""
    asked = responses.asked(parsed, request, before.conversation if before else ())
    if isinstance(asked, Failure):
        return asked
    written = orjson.dumps(responses.chat_body(asked))
    chat = read_request(written, new_id("resp"), int(time.time()))
    return chat if isinstance(chat, Failure) else (asked, before, chat)


def _keys(request: RequestContext) -> tuple[str, ...]:
    """Under which keys a request finds what was kept: its own, and its connection's."""
    key = request.caller.key
    if request.connection is None:
        return (key,)
    return key, _connection_key(key, request.connection)


def _connection_key(key: str, connection: str) -> str:
    return f"{key}\n{connection}"


class _Form:
    """One request in the form of the Responses API."""

    def __init__(
        self,
        route: ResponsesRoute,
        asked: Asked,
        before: Kept | None,
        keys: Sequence[str],
        chat: ChatRequest,
    ) -> None:
        self._route = route
        self._asked = asked
        self._before = before
        self._keys = keys
        self._chat = chat

    def able(self, plan: Plan, upstreams: Mapping[str, ChatUpstream]) -> Plan | Failure:
        if self._asked.native is None:
            return plan
        able = tuple(one for one in plan if _has_responses(upstreams[one.provider], one))
        return able or refused_by_none(self._asked)

    def upstreams(
        self, plan: Plan, upstreams: Mapping[str, ChatUpstream]
    ) -> Mapping[str, ChatUpstream]:
        first = plan[0].provider if plan else ""
        return {
            name: _Upstream(self, upstreams[name], name, first=name == first)
            for name in {one.provider for one in plan}
        }

    def kept_alone(self) -> bytes:
        """The events of a response that holds the input and no answer; it is kept."""
        whole = {**self.empty, "status": "completed"}
        self._keep(whole)
        begun = event("response.created", 0, response=self.empty)
        return begun + event("response.completed", 1, response=whole)

    def told(self, failure: Failure, reader: Reader | None) -> bytes:
        match reader:
            case Narrated():
                return reader.failed(failure)
            case _Relayed():
                return reader.failed(failure)
            case _:  # nothing has come of it but signs of life
                return failed(self.empty, failure, 0)

    @property
    def empty(self) -> dict[str, Any]:
        """The response before anything has come of it."""
        return empty_response(self._asked, self._chat.id, self._chat.created)

    @property
    def stream(self) -> bool:
        return self._chat.stream

    @property
    def model(self) -> str:
        return self._chat.model

    def narrated(self, inner: Reader) -> Narrated:
        """A reader for a chat completion."""
        narrator = Narrator(self._asked, self._chat.id, self._chat.created)
        return Narrated(inner, narrator, stream=self.stream, on_end=self._keep)

    def native(self, attempt: Attempt, *, first: bool) -> dict[str, Any]:
        """The request for a provider that has the Responses API."""
        origin = self._route.origins.of
        body = responses.native_body(self._asked, attempt.provider, origin, first=first)
        return responses.with_options(body, attempt.options)

    def ended(self, response: Mapping[str, Any], provider: str) -> None:
        """A provider's own response is whole."""
        output = response.get("output")
        self._route.origins.note(output if isinstance(output, list) else (), provider)
        self._keep(response)

    def _keep(self, response: Mapping[str, Any]) -> None:
        key, *connection = self._keys
        items = self._asked.items
        own = items[len(items) - self._asked.own :]
        if (previous := self._asked.request.previous_response_id) is not None:
            response = {**response, "previous_response_id": previous}
        if self._asked.stored:
            self._route.keep(key, response, own, self._before)
        elif connection:
            # not for others, and not for long: the next request on this connection may go on
            (key,) = connection
            self._route.store.forget(key)
            self._route.store.put(key, response, own, self._before, time.monotonic())


def _has_responses(upstream: ChatUpstream, attempt: Attempt) -> bool:
    return isinstance(upstream, HasResponses) and upstream.responses({}, attempt) is not None


class _Upstream(HasProcesses):
    """A chat adapter for one request in this form."""

    def __init__(self, form: _Form, inner: ChatUpstream, name: str, *, first: bool) -> None:
        self._form = form
        self._inner = inner
        self._name = name
        self._first = first
        self.companions = inner.companions if isinstance(inner, HasProcesses) else {}
        self.warm = inner.warm
        self.failure = inner.failure
        self.exhausted_for_s = inner.exhausted_for_s

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        inner = self._inner
        if isinstance(inner, HasResponses):
            made = inner.responses(self._form.native(attempt, first=self._first), attempt)
            if made is not None:
                return made
        return inner.dial(request, attempt)

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        inner = self._inner
        if isinstance(inner, HasResponses) and inner.responses({}, attempt) is not None:
            return _Relayed(
                self._form, inner.responses_reader(stream=self._form.stream), self._name
            )
        return self._form.narrated(inner.reader(request, attempt))


class _Relayed:
    """A reader of a provider's own responses that has them kept."""

    def __init__(self, form: _Form, inner: ResponsesReader, provider: str) -> None:
        self.streamed = inner.streamed
        self._form = form
        self._inner = inner
        self._provider = provider

    def feed(self, data: bytes) -> ReaderUpdate:
        return self._heard(self._inner.feed(data))

    def finish(self) -> ReaderUpdate:
        return self._heard(self._inner.finish())

    def _heard(self, heard: ReaderUpdate) -> ReaderUpdate:
        if heard.finished and heard.failure is None:
            self._form.ended(self._inner.response, self._provider)
        return heard

    def failed(self, failure: Failure) -> bytes:
        """The event with which it ends where it cannot go on."""
        response = self._inner.response or self._form.empty
        return failed(response, failure, self._inner.number)


class ResponsesConversation:
    """One request's I/O: that of /chat/completions."""

    def __init__(self, inner: ChatConversation, link: ReplyLink[Event]) -> None:
        self._inner = inner
        self._link = link

    @property
    def session(self) -> ChatSession:
        return self._inner.session

    async def perform(self, action: Action) -> bool:
        if isinstance(action, BreakOff) and not self.session.report.left:
            # `response.failed` has been told: that is an end, and no answer to be taken for whole
            await self._link.send({"type": "http.response.body", "body": b""})
            return False
        return await self._inner.perform(action)

    async def close(self) -> Outcome:
        return await self._inner.close()


class _Told:
    """Events in, actions out: all is said at once."""

    deadline: Final = None

    def __init__(self, events: bytes) -> None:
        self._events = events

    def handle(self, event: object, now: float) -> tuple[Action, ...]:
        return Start(), Write(self._events), Finish()


class KeptConversation:
    """A request that only hands in what the next one will need."""

    def __init__(self, form: _Form, link: ReplyLink[Event]) -> None:
        self.session = _Told(form.kept_alone())
        self._link = link
        self._model = form.model
        link.inbox.post(Begin())

    async def perform(self, action: Action) -> bool:
        match action:
            case Start():
                head = {"type": "http.response.start", "status": 200}
                await self._link.send({**head, "headers": [(b"content-type", SSE_TYPE)]})
            case Write(data):
                await self._link.send(
                    {"type": "http.response.body", "body": data, "more_body": True}
                )
            case _:
                await self._link.send({"type": "http.response.body", "body": b""})
                return False
        return True

    async def close(self) -> Outcome:
        return Outcome(model=self._model)


class KeptRoute:
    """GET and DELETE /responses/{id}, GET /responses/{id}/input_items: what is kept of this key."""

    name: Final = "models"
    anonymous: Final = ()
    body_bytes_max: Final = 1 << 16

    def __init__(self, route: ResponsesRoute, what: str) -> None:
        """`what`: get, delete or input_items."""
        self._route = route
        self._answer = {
            "get": self._get,
            "delete": self._delete,
            "input_items": self._items,
        }[what]

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        parts = str(request.scope["path"]).strip("/").split("/")
        name = parts[1]
        kept = self._route.store.get(request.caller.key, name, time.monotonic())
        if kept is None:
            words = f"Response with id '{name[:64]}' not found."
            return Failure(Kind.NOT_FOUND, words, details={"code": "response_not_found"})
        return self._answer(request.caller.key, name, kept)

    @staticmethod
    def _get(key: str, name: str, kept: Kept) -> bytes:
        return kept.response

    def _delete(self, key: str, name: str, kept: Kept) -> bytes:
        self._route.delete(key, name)
        return orjson.dumps({"id": name, "object": "response", "deleted": True})

    @staticmethod
    def _items(key: str, name: str, kept: Kept) -> bytes:
        items = kept.inputs
        ids = [one.get("id") if isinstance(one, dict) else None for one in items]
        return orjson.dumps(
            {
                "object": "list",
                "data": items,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": False,
            }
        )
