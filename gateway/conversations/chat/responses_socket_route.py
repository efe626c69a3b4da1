"""WebSocket /responses: each response is a request to POST /responses, on one connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import orjson

from gateway.conversations.chat.responses_route import ResponsesRoute
from gateway.conversations.chat.responses_socket import (
    Action,
    Close,
    Create,
    Ended,
    Event,
    EventText,
    ResponsesSocket,
    Say,
    error_text,
)
from gateway.runtime.loop import Performed
from gateway.server.admission import RequestContext
from gateway.server.asgi import ClientSocket, Header, Message, failure_headers, query
from gateway.server.host import BLOCKED_S, ReplyLink, SocketLink
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, error_body

_logger = logging.getLogger(__name__)

EVENTS_MAX: Final = 32
"""Messages of a client that wait; then its socket is read no further."""


class ResponsesSocketRoute:
    """Shares everything with POST /responses: each response is admitted against the quotas, logged
    and recorded as a request of its own, in the place of its connection."""

    name: Final = "chat"
    events_max: Final = EVENTS_MAX
    blocked_s: Final = BLOCKED_S

    def __init__(self, responses: ResponsesRoute, idle_s: float) -> None:
        self._responses = responses
        self._idle_s = idle_s

    def open(self, request: RequestContext, link: SocketLink[Event]) -> ResponsesSocketConversation:
        request.carries = True
        model = query(request.scope).get("model") or None
        session = ResponsesSocket(model, self._idle_s, time.monotonic())
        return ResponsesSocketConversation(self._responses, session, request, link)

    async def look(self, request: RequestContext) -> Failure | None:
        """Whether the caller's key has anything left; of the model in the URL, if it names one."""
        return await request.purse.look(query(request.scope).get("model") or None)


class ResponsesSocketConversation:
    """One connection's I/O."""

    def __init__(
        self,
        responses: ResponsesRoute,
        session: ResponsesSocket,
        request: RequestContext,
        link: SocketLink[Event],
    ) -> None:
        self.session = session
        self._responses = responses
        self._request = request
        self._link = link

    def perform(self, action: Action) -> Performed:
        match action:
            case Say(text):
                return self._link.client.say_now(text)
            case Create(lane, body):
                self._link.spawn(self._create(lane, body))
            case Close(code, reason):
                return self._close(code, reason)
        return None

    async def _close(self, code: int, reason: str) -> bool:
        await self._link.client.close(code, reason)
        return False

    async def _create(self, lane: str, body: bytes) -> None:
        """Make one response, as its own request."""
        try:
            with self._request.part() as request:
                try:
                    await self._answer(lane, body, request)
                except asyncio.CancelledError:
                    if not self.session.left:
                        raise
                    return  # the client is gone, and so is its answer
        except Exception:  # or the client would wait for ever, and its lane with it
            _logger.exception("internal error", extra={"path": "/responses"})
            failure = Failure(Kind.INTERNAL, "internal error")
            await _Frames(self._link.client, lane).refuse(failure)
        self._link.inbox.post(Ended(lane))

    async def _answer(self, lane: str, body: bytes, request: RequestContext) -> None:
        route, frames = self._responses, _Frames(self._link.client, lane)
        link: ReplyLink[Any] = ReplyLink(_for_ever, frames.send, route.events_max)
        conversation = await route.open(request, body, link)
        if isinstance(conversation, Failure):
            request.fail(conversation)
            await frames.refuse(conversation)
            return
        try:
            await link.drive(conversation)
        finally:
            request.status = link.status
            await link.end(conversation, request)

    async def close(self) -> Outcome:
        self._responses.forget(self._request)
        session = self.session
        bounds = (Bound.WAITING_REQUESTS,) if session.too_many else ()
        return Outcome(failure=session.failure, left=session.left, bounds=bounds)


async def _for_ever() -> Message:
    """What an HTTP client says while it waits: nothing. The end of the WebSocket ends the task."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


class _Frames:
    """The answer to an HTTP request, as messages of a WebSocket."""

    def __init__(self, client: ClientSocket, lane: str) -> None:
        self._client = client
        self._lane = lane
        self._events = EventText(lane)
        self._status = 200
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """As of ASGI."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._keep(message["headers"])
            return
        data = message.get("body", b"")
        if self._status == 200:
            for text in self._events.feed(data):
                await self._client.say(text)
            return
        self._body += data
        if not message.get("more_body", False):
            await self._say_error(orjson.loads(self._body))

    async def refuse(self, failure: Failure) -> None:
        """Say why no response was begun."""
        self._status = failure.status
        self._keep(failure_headers(failure))
        await self._say_error(error_body(failure))

    def _keep(self, headers: Iterable[Header]) -> None:
        """What of an answer's headers a client of the WebSocket is to know."""
        for name, value in headers:
            if name == b"retry-after" or name.lower().startswith(b"x-"):
                self._headers[name.decode("latin-1")] = value.decode("latin-1")

    async def _say_error(self, body: Any) -> None:
        await self._client.say(error_text(self._status, body, self._lane, self._headers))
