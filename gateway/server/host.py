"""Hosts: what all routes do alike, done once.

A host admits a request, refuses it or completes its upgrade, drives the route's session, lets a
client go that does not read, and at the end cancels what is left and has the request counted. A
route adds only what is its own: `open`, which makes a conversation of an admitted request, and the
conversation's `perform`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from gateway.runtime.loop import Gate, Inbox, Performed, Session, drive
from gateway.server.admission import Admission, RequestContext, request_id
from gateway.server.asgi import (
    JSON_TYPE,
    ClientSocket,
    Header,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    exchange_of,
    header,
    read_body,
    refuse,
    too_large,
)
from gateway.server.drain import Drain, Ending, OpenSocket, ending
from gateway.server.http import Exchange
from gateway.settings.server import LimitsConfig
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure
from gateway.upstreams.events import ClientLeft

BLOCKED_S: Final = 5.0
"""A client that reads nothing for so long is let go: what it has open upstream costs money."""

CUT: Final = 1006
"""Code of a connection that ended without a close frame: no session means to end so."""

ASKED_TO_END: Final = 1000
"""What a session is told of a client whose socket the host closes: nothing went wrong."""

SWITCHING_PROTOCOLS: Final = 101
"""Status of an upgrade."""

_PYTHON_AGENTS = re.compile(r"LiveKit Agents/\S+ \(python ")

EventT = TypeVar("EventT")


@runtime_checkable
class Interruptible(Protocol):
    """A session that knows when its end would cut nothing short."""

    def may_end(self, now: float) -> bool:
        """Whether nobody speaks, and nothing is waited for."""


@runtime_checkable
class Parting(Protocol):
    """A session whose client connects again sooner for a message before the close."""

    @property
    def last_words(self) -> str: ...


class Conversation(Protocol):
    """One session of a route, with what only this route does for it."""

    @property
    def session(self) -> Session[Any, Any]: ...

    def perform(self, action: Any) -> Performed:
        """Do what the session decided, at once if nothing has to be waited for."""

    async def close(self) -> Outcome:
        """Give back what it holds, and say what became of it. Called once, after its tasks have
        ended, whatever happened."""


@runtime_checkable
class Lasting(Protocol):
    """A conversation that may go on for long, and uses what is billed meanwhile."""

    async def settle(self) -> None:
        """Count what was used until now."""

    def outcome(self) -> Outcome:
        """How it stands, with what was counted."""


@runtime_checkable
class AcceptsItself(Protocol):
    """A conversation whose client is let in only once it says so (`SocketLink.accept`), or is
    refused with `refused`, before the upgrade: it dials first."""

    refused: Failure | None


@runtime_checkable
class Charged(Protocol):
    """A route that knows before an upgrade why a caller would be refused whatever it said."""

    async def look(self, request: RequestContext) -> Failure | None: ...


@runtime_checkable
class Subprotocol(Protocol):
    """A route whose clients may offer a subprotocol, which browsers want to see chosen."""

    @property
    def subprotocol(self) -> str: ...


class Link(Generic[EventT]):
    """Where a conversation's events come together: its inbox, and the tasks that fill it."""

    def __init__(self, events_max: int) -> None:
        self.inbox: Inbox[EventT] = Inbox(events_max)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside the conversation; it is cancelled when that ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def release(self, task: asyncio.Task[None]) -> None:
        """`task` may outlive the conversation; somebody else sees to its end."""
        self._tasks.discard(task)

    async def drive(self, conversation: Conversation) -> None:
        """Run the conversation to its end."""
        try:
            await drive(conversation.session, self.inbox, conversation.perform)
        except BaseException:
            # what it holds of things that sessions share (permits, probes) is given back
            with contextlib.suppress(Exception):
                conversation.session.handle(ClientLeft(), time.monotonic())
            raise

    async def end(self, conversation: Conversation, request: RequestContext) -> None:
        """Cancel and await all that is left; `request` learns what became of it."""
        try:
            if tasks := tuple(self._tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            request.outcome = await conversation.close()


class SocketLink(Link[EventT]):
    """The same, with the client's WebSocket. `gate` stands between that and the inbox."""

    def __init__(self, client: ClientSocket, events_max: int) -> None:
        super().__init__(events_max)
        self.client = client
        self.gate = Gate(self.inbox)
        self.ending: Ending | None = None
        self.let_in: Callable[[], Coroutine[Any, Any, bool]] | None = None
        """The host's part in it."""

    async def accept(self) -> bool:
        """Complete the upgrade, and listen to the client; False if it has gone already."""
        return await (self.client.accept() if self.let_in is None else self.let_in())

    def finish(self, ending: Ending, last_words: str = "") -> None:
        """Close the client's socket, after a last message to it, and with it the conversation."""
        if self.ending is None:
            self.ending = ending
            self.spawn(self._finish(ending, last_words))

    async def _finish(self, ending: Ending, last_words: str) -> None:
        if last_words:
            await self.client.say(last_words)
        await self.client.close(ending.code, ending.reason)
        self.inbox.post(ClientLeft(ASKED_TO_END))  # type: ignore[arg-type]


class ReplyLink(Link[EventT]):
    """The same, with the answer to an HTTP request."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        events_max: int,
        blocked_s: float = BLOCKED_S,
        exchange: Exchange | None = None,
        request_id: str = "",
    ) -> None:
        """`exchange`: the server's own, which needs no task to wait for the client's end. The
        answer names the request by `request_id`."""
        super().__init__(events_max)
        self._request_id = request_id
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self._blocked_s = blocked_s
        self.status: int | None = None
        """Of the answer, once that has begun."""
        self._sending_since: float | None = None
        self.blocked = False
        """The client has read nothing for `blocked_s`."""

        self._timer: asyncio.TimerHandle

    async def send(self, message: Message) -> None:
        """Send a part of the answer; waits while the client does not read."""
        self._sending_since = time.monotonic()
        if self.status is None and message["type"] == "http.response.start":
            self.status = message["status"]
            message = _named(message, self._request_id)
        await self._send(message)
        self._sending_since = None

    async def drive(self, conversation: Conversation) -> None:
        """Run the conversation until it ends or its client does not read."""
        if self._exchange is not None:
            self._exchange.when_left(self._left)
        else:
            self.spawn(self._watch())
        patience = asyncio.timeout(None)
        try:
            async with patience:
                self._look_later(patience)
                await super().drive(conversation)
        except TimeoutError:
            if not patience.expired():
                raise
            self.blocked = True
        finally:
            self._timer.cancel()

    async def _watch(self) -> None:
        await _leave(self._receive)
        self._left()

    def _left(self) -> None:
        self.inbox.post(ClientLeft())  # type: ignore[arg-type]

    def _look_later(self, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._blocked_s / 4, self._look, patience)

    def _look(self, patience: asyncio.Timeout) -> None:
        """Now and then: whether a send is stuck. It costs nothing on the way of a piece."""
        since = self._sending_since
        if since is not None and time.monotonic() - since > self._blocked_s:
            patience.reschedule(asyncio.get_running_loop().time())
        else:
            self._look_later(patience)


_REQUEST_ID: Final = b"x-request-id"


def _named(start: Message, request_id: str) -> Message:
    """The start of an answer, with a header that says which request it is for."""
    headers = start["headers"]
    if not request_id or any(name == _REQUEST_ID for name, _ in headers):
        return start
    return {**start, "headers": [*headers, (_REQUEST_ID, request_id.encode())]}


class Named(Protocol):
    """What every route has: its name, one of metrics.ROUTES."""

    @property
    def name(self) -> str: ...


class SocketRoute(Named, Protocol):
    """A WebSocket route. Its inbox holds `events_max`; a client that reads nothing for `blocked_s`
    is let go."""

    @property
    def events_max(self) -> int: ...

    @property
    def blocked_s(self) -> float: ...

    def open(self, request: RequestContext, link: SocketLink[Any]) -> Conversation | Failure:
        """A conversation, or why not: that is told before the upgrade completes. Opens nothing
        that has to be awaited; `close` of the conversation gives back what it takes."""


class ReplyRoute(Named, Protocol):
    """An HTTP route whose answer is a session."""

    @property
    def events_max(self) -> int: ...

    @property
    def body_bytes_max(self) -> int: ...

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Any]
    ) -> Conversation | Failure:
        """A conversation, or why not: that is answered with its status."""


class BodyRoute(Named, Protocol):
    """An HTTP route with a body in and a JSON body out. Who comes from one of the networks
    `anonymous` needs no token."""

    @property
    def body_bytes_max(self) -> int: ...

    @property
    def anonymous(self) -> Sequence[IPv4Network | IPv6Network]: ...

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        """What the answer is."""


@runtime_checkable
class EndsWithClient(Protocol):
    """A body route whose answer costs money, and is cancelled where its client has left."""

    @property
    def ends_with_client(self) -> bool: ...


class _Host:
    """Admission, and its end."""

    def __init__(
        self,
        name: str,
        admission: Admission,
        limits: LimitsConfig,
        anonymous: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._name = name
        self._admission = admission
        self._limits = limits
        self._anonymous = anonymous

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = request_id(scope)
        headers = ((b"x-request-id", name.encode()),)
        request = self._admission.admit(scope, self._name, self._anonymous, name)
        if isinstance(request, Failure):
            await refuse(scope, send, request, headers)
            return
        await self._admitted(request, receive, send, headers)

    async def serve_part(
        self, whole: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve what this server asks of itself for the admitted session `whole`."""
        await self._admitted(whole.part(self._name, scope), receive, send)

    async def _admitted(
        self, request: RequestContext, receive: Receive, send: Send, headers: Sequence[Header] = ()
    ) -> None:
        with request:
            failure = await self._serve(request, receive, send)
            if failure is not None:
                request.fail(failure)
                request.status = failure.status
                await refuse(request.scope, send, failure, headers)

    async def _serve(self, request: RequestContext, receive: Receive, send: Send) -> Failure | None:
        """Serve an admitted request, or say why it is refused."""
        raise NotImplementedError

    async def _body(
        self, request: RequestContext, receive: Receive, bytes_max: int
    ) -> bytes | Failure | None:
        exchange = exchange_of(request.scope)
        if exchange is not None and (there := exchange.whole_body()) is not None:
            return there if len(there) <= bytes_max else too_large(bytes_max)
        body = await read_body(request.scope, receive, bytes_max, self._limits.body_timeout_s)
        if body is None:
            request.leave()
        return body


class OpenSockets:
    """The WebSockets that are open, to be closed when their time has come. One for each process.
    `record_every_s`: how often it is recorded what they have used."""

    def __init__(self, record_every_s: float = 50.0) -> None:
        self._record_every_s = record_every_s
        self._open: dict[SocketLink[Any], OpenSocket] = {}
        self._running: dict[SocketLink[Any], _Running] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self,
        link: SocketLink[Any],
        socket: OpenSocket,
        request: RequestContext,
        conversation: Conversation,
    ) -> None:
        self._open[link] = socket
        if isinstance(conversation, Lasting):
            at = time.monotonic() + self._record_every_s
            self._running[link] = _Running(request, conversation, at)

    def remove(self, link: SocketLink[Any]) -> None:
        self._open.pop(link, None)
        self._running.pop(link, None)

    def sweep(self, drain: Drain | None, now: float) -> None:
        """Close those whose time has come; of the others keep what they have used so far."""
        for link, socket in self._open.items():
            if link.ending is None and (found := ending(socket, drain, now)) is not None:
                link.finish(found, socket.last_words)
        for link, running in self._running.items():
            if now >= running.record_at:
                running.record_at = now + self._record_every_s
                link.spawn(running.record())


@dataclass(slots=True)
class _Running:
    """A session that is recorded as it goes on."""

    request: RequestContext
    conversation: Lasting
    record_at: float

    async def record(self) -> None:
        await self.conversation.settle()
        self.request.record_part(self.conversation.outcome())


def _may_end(session: Session[Any, Any]) -> Callable[[float], bool]:
    if isinstance(session, Interruptible):
        return session.may_end
    return lambda now: False


class SocketHost(_Host):
    """Serves a WebSocket route."""

    def __init__(
        self,
        route: SocketRoute,
        admission: Admission,
        limits: LimitsConfig,
        sockets: OpenSockets | None = None,
    ) -> None:
        super().__init__(route.name, admission, limits)
        self._route = route
        self._sockets = OpenSockets() if sockets is None else sockets

    async def _serve(self, request: RequestContext, receive: Receive, send: Send) -> Failure | None:
        route = self._route
        if isinstance(route, Charged) and (failure := await route.look(request)) is not None:
            return failure
        subprotocol = route.subprotocol if isinstance(route, Subprotocol) else None
        client = ClientSocket(receive, send, request.scope, route.blocked_s, subprotocol)
        link: SocketLink[Any] = SocketLink(client, route.events_max)
        conversation = route.open(request, link)
        if isinstance(conversation, Failure):
            return conversation
        accepted = False

        async def accept() -> bool:
            nonlocal accepted
            accepted = await client.accept()
            if accepted:
                request.status = SWITCHING_PROTOCOLS
                link.spawn(client.listen(link.gate))
                socket = self._open_socket(request, conversation)
                self._sockets.add(link, socket, request, conversation)
            return accepted

        link.let_in = accept
        refused: Failure | None = None
        try:
            if isinstance(conversation, AcceptsItself):
                await link.drive(conversation)
                refused = conversation.refused
            elif await accept():
                await link.drive(conversation)
        finally:
            self._sockets.remove(link)
            await link.end(conversation, request)
            if link.ending is not None:
                failure = link.ending.failure or request.outcome.failure
                request.outcome = replace(request.outcome, left=False, failure=failure)
            elif refused is None and (not accepted or client.code == CUT):
                request.leave()
        return refused

    def _open_socket(self, request: RequestContext, conversation: Conversation) -> OpenSocket:
        if request.connection is not None:  # that is closed, and this with it
            return OpenSocket(math.inf, 0.0, replaces=False, may_end=lambda now: False)
        agent = header(request.scope, b"user-agent") or ""
        session = conversation.session
        return OpenSocket(
            ends_at=time.monotonic() + self._limits.session_s_max,
            spread=random.random(),  # noqa: S311 - a place in a queue
            replaces=self._name == "tts" and _PYTHON_AGENTS.match(agent) is not None,
            may_end=_may_end(session),
            last_words=session.last_words if isinstance(session, Parting) else "",
        )


class ReplyHost(_Host):
    """Serves an HTTP route whose answer is a session."""

    def __init__(self, route: ReplyRoute, admission: Admission, limits: LimitsConfig) -> None:
        super().__init__(route.name, admission, limits)
        self._route = route

    async def _serve(self, request: RequestContext, receive: Receive, send: Send) -> Failure | None:
        route = self._route
        body = await self._body(request, receive, route.body_bytes_max)
        if not isinstance(body, bytes):
            return body
        exchange = exchange_of(request.scope)
        link: ReplyLink[Any] = ReplyLink(
            receive, send, route.events_max, exchange=exchange, request_id=request.id
        )
        conversation = await route.open(request, body, link)
        if isinstance(conversation, Failure):
            return conversation
        try:
            await link.drive(conversation)
        finally:
            request.status = link.status
            await link.end(conversation, request)
            if link.blocked:
                request.outcome = replace(request.outcome, bounds=(Bound.SLOW_READER,))
        return None


class BodyHost(_Host):
    """Serves an HTTP route with a body in and a body out."""

    def __init__(self, route: BodyRoute, admission: Admission, limits: LimitsConfig) -> None:
        super().__init__(route.name, admission, limits, route.anonymous)
        self._route = route

    async def _serve(self, request: RequestContext, receive: Receive, send: Send) -> Failure | None:
        body = await self._body(request, receive, self._route.body_bytes_max)
        if not isinstance(body, bytes):
            return body
        reply: bytes | Failure | None
        if isinstance(self._route, EndsWithClient):
            reply = await self._while_there(request, body, receive)
        else:
            reply = await self._route.answer(request, body)
        if not isinstance(reply, bytes):
            return reply
        request.status = 200
        headers = (JSON_TYPE, (_REQUEST_ID, request.id.encode()))
        await answer(send, request.status, reply, headers)
        return None

    async def _while_there(
        self, request: RequestContext, body: bytes, receive: Receive
    ) -> bytes | Failure | None:
        """The answer; None: the client left before it was there, and what was done for it ends."""
        answering = asyncio.create_task(self._route.answer(request, body))
        leaving = asyncio.create_task(_leave(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        request.leave()
        return None


async def _leave(receive: Receive) -> None:
    """Wait for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
