"""What all routes do alike, with routes made for these tests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.runtime.loop import Inbox
from gateway.server.admission import Admission, RequestContext, SessionLimiter, _client_ids
from gateway.server.auth import Authenticator, mint
from gateway.server.drain import DRAINED, TOO_LONG, Drain, Ending
from gateway.server.host import (
    BodyHost,
    Link,
    OpenSockets,
    ReplyHost,
    ReplyLink,
    SocketHost,
    SocketLink,
)
from gateway.server.websocket import ClientGoneError
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ClientLeft, DeadlinePassed, Text

SECRET = "s" * 40
FULL = Failure(Kind.OVERLOADED, "full")


class Door:
    """Admission with what it counts in reach."""

    def __init__(self, **limits: float) -> None:
        self.limits = LimitsConfig(**limits)
        self.metrics = Metrics()
        self.limiter = SessionLimiter(self.limits)
        self.admission = Admission(Authenticator({"key": SECRET}), self.limiter, self.metrics)

    def outcomes(self) -> dict[str, float]:
        """How many requests ended how."""
        return {
            sample.labels["outcome"]: sample.value
            for metric in self.metrics.requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.value
        }


def scope(kind: str) -> dict[str, Any]:
    token = mint("key", SECRET, identity="agent", ttl_s=60)
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return {"type": kind, "client": ("127.0.0.1", 1), "headers": headers, "query_string": b""}


class Peer:
    """The other end: says `said`, one after the other, and then nothing more."""

    def __init__(self, *said: dict[str, Any]) -> None:
        self.said = list(said)
        self.sent: list[Any] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def receive(self) -> Any:
        if not self.said:
            await asyncio.Future()
        return self.said.pop(0)

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)


class Echo:
    """A conversation that sends back what comes, until it is told "end" or the client leaves."""

    def __init__(self, link: Link[Any], send: Callable[[str], Any]) -> None:
        self.session = self
        self.deadline: float | None = None
        self.events: list[Any] = []
        self.closed = 0
        self.beside = link.spawn(asyncio.sleep(3600))
        self._send = send

    def handle(self, event: Any, now: float) -> list[Any]:
        assert not isinstance(event, DeadlinePassed)
        self.events.append(event)
        match event:
            case ClientLeft():
                return [None]
            case Text("end"):
                return [None]
            case Text("break"):
                raise ValueError
            case Text(text):
                return [text]
        return []

    async def perform(self, action: Any) -> bool:
        if action is None:
            return False
        await self._send(action)
        return True

    async def close(self) -> Outcome:
        assert self.beside.cancelled()
        self.closed += 1
        return Outcome()


class Sockets:
    """A WebSocket route of echoes."""

    name = "bargein"
    events_max = 4
    blocked_s = 5.0

    def __init__(self, refuses: Failure | None = None) -> None:
        self.refuses = refuses
        self.made: list[Echo] = []

    def open(self, request: RequestContext, link: SocketLink[Any]) -> Echo | Failure:
        if self.refuses is not None:
            return self.refuses
        self.made.append(Echo(link, link.client.say))
        return self.made[-1]


class CalmEcho(Echo):
    """May end at any time."""

    def may_end(self, now: float) -> bool:
        return True


class Calm(Sockets):
    """A WebSocket route of those."""

    def open(self, request: RequestContext, link: SocketLink[Any]) -> Echo:
        self.made.append(CalmEcho(link, link.client.say))
        return self.made[-1]


class Replies:
    """An HTTP route that answers with what its inbox is given, as a stream."""

    name = "chat"
    events_max = 4
    body_bytes_max = 10

    def __init__(self, *events: Any, refuses: Failure | None = None) -> None:
        self.events = events
        self.refuses = refuses
        self.made: list[Echo] = []

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Any]
    ) -> Echo | Failure:
        if self.refuses is not None:
            return self.refuses

        async def send(text: str) -> None:
            await link.send({"type": "http.response.body", "body": text.encode()})

        self.made.append(Echo(link, send))
        for event in self.events:
            link.inbox.post(event)
        return self.made[-1]


CONNECT = {"type": "websocket.connect"}
LEFT = {"type": "websocket.disconnect", "code": 1006}
BODY = {"type": "http.request", "body": b"{}"}


def text(said: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": said}


async def test_a_session_is_driven_from_its_upgrade_to_its_end() -> None:
    door, route, peer = Door(), Sockets(), Peer(CONNECT, text("a"), text("end"))
    await SocketHost(route, door.admission, door.limits)(
        scope("websocket"), peer.receive, peer.send
    )
    assert [one["type"] for one in peer.sent] == ["websocket.accept", "websocket.send"]
    assert route.made[0].closed == 1
    assert door.outcomes() == {"ok": 1}
    assert door.limiter.open == 0


async def test_what_a_route_refuses_is_told_before_the_upgrade() -> None:
    door, route, peer = Door(), Sockets(FULL), Peer(CONNECT)
    await SocketHost(route, door.admission, door.limits)(
        scope("websocket"), peer.receive, peer.send
    )
    assert peer.sent[0]["type"] == "websocket.http.response.start"
    assert peer.sent[0]["status"] == 503
    assert door.outcomes() == {"upstream_overloaded": 1}


async def test_a_client_that_goes_before_the_upgrade_has_left() -> None:
    door, route, peer = Door(), Sockets(), Peer(LEFT)
    await SocketHost(route, door.admission, door.limits)(
        scope("websocket"), peer.receive, peer.send
    )
    assert peer.sent == []
    assert route.made[0].closed == 1
    assert door.outcomes() == {"left": 1}


class Gone(Peer):
    """A client whose connection ended after its handshake was read."""

    async def send(self, message: Any) -> None:
        raise ClientGoneError


@pytest.mark.parametrize(("refuses", "outcome"), [(None, "left"), (FULL, "upstream_overloaded")])
async def test_a_client_that_goes_while_its_handshake_is_answered_is_no_fault_of_ours(
    refuses: Failure | None, outcome: str
) -> None:
    door, route, peer = Door(), Sockets(refuses), Gone(CONNECT, LEFT)
    await SocketHost(route, door.admission, door.limits)(
        scope("websocket"), peer.receive, peer.send
    )
    assert door.outcomes() == {outcome: 1}
    assert door.limiter.open == 0


@pytest.mark.parametrize(("code", "outcome"), [(1000, "ok"), (1005, "ok"), (1006, "left")])
async def test_a_connection_that_was_cut_did_not_end_well(code: int, outcome: str) -> None:
    door, peer = Door(), Peer(CONNECT, {"type": "websocket.disconnect", "code": code})
    await SocketHost(Sockets(), door.admission, door.limits)(
        scope("websocket"), peer.receive, peer.send
    )
    assert door.outcomes() == {outcome: 1}


async def test_who_has_last_words_says_them_before_the_close() -> None:
    class Told(Calm):
        def open(self, request: RequestContext, link: SocketLink[Any]) -> Echo:
            echo = super().open(request, link)
            echo.last_words = "connect again"  # type: ignore[attr-defined]
            return echo

    door, route, peer, sockets = Door(), Told(), Peer(CONNECT), OpenSockets()
    host = SocketHost(route, door.admission, door.limits, sockets)
    task = asyncio.create_task(host(scope("websocket"), peer.receive, peer.send))
    async with asyncio.timeout(60):
        while not len(sockets):
            await asyncio.sleep(0)
        now = time.monotonic()
        sockets.sweep(Drain(began=now - 1, delay_s=0, grace_s=1), now)
        await task
    said, closed = peer.sent[-2:]
    assert said == {"type": "websocket.send", "text": "connect again"}
    assert closed["type"] == "websocket.close"


@pytest.mark.parametrize(("ends", "outcome"), [(DRAINED, "ok"), (TOO_LONG, "session_too_long")])
async def test_a_socket_whose_time_has_come_is_closed_and_its_session_told(
    ends: Ending, outcome: str
) -> None:
    door, route, peer, sockets = Door(session_s_max=90), Calm(), Peer(CONNECT), OpenSockets()
    host = SocketHost(route, door.admission, door.limits, sockets)
    task = asyncio.create_task(host(scope("websocket"), peer.receive, peer.send))
    async with asyncio.timeout(60):
        while not len(sockets):
            await asyncio.sleep(0)
        now = time.monotonic()
        sockets.sweep(None, now)
        assert not task.done()
        if ends is DRAINED:
            sockets.sweep(Drain(began=now - 1, delay_s=0, grace_s=1), now)
        else:
            sockets.sweep(None, now + 100)
        await task
    assert peer.sent[-1] == {
        "type": "websocket.close",
        "code": ends.code,
        "reason": ends.reason,
    }
    assert route.made[0].events == [ClientLeft(1000)]
    assert door.outcomes() == {outcome: 1}
    assert not len(sockets)


async def test_a_session_that_breaks_gives_back_what_it_shares_and_is_ours() -> None:
    door, route, peer = Door(), Sockets(), Peer(CONNECT, text("break"))
    with pytest.raises(ValueError):
        await SocketHost(route, door.admission, door.limits)(
            scope("websocket"), peer.receive, peer.send
        )
    assert route.made[0].events == [Text("break"), ClientLeft()]
    assert route.made[0].closed == 1
    assert door.outcomes() == {"internal": 1}
    assert door.limiter.open == 0


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_session_that_is_cancelled_ends_once(kind: str) -> None:
    door = Door()
    route: Any = Sockets() if kind == "websocket" else Replies()
    host = (SocketHost if kind == "websocket" else ReplyHost)(route, door.admission, door.limits)
    peer = Peer(CONNECT if kind == "websocket" else BODY)
    task = asyncio.create_task(host(scope(kind), peer.receive, peer.send))
    async with asyncio.timeout(60):
        while not route.made:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert route.made[0].events == [ClientLeft()]
    assert route.made[0].closed == 1
    assert door.outcomes() == {"shutting_down": 1}
    assert door.limiter.open == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_ends_the_answer() -> None:
    door, route, peer = Door(), Replies(), Peer(BODY, {"type": "http.disconnect"})
    await ReplyHost(route, door.admission, door.limits)(scope("http"), peer.receive, peer.send)
    assert route.made[0].events == [ClientLeft()]
    assert route.made[0].closed == 1


async def test_a_client_that_does_not_read_its_answer_is_let_go() -> None:
    peer = Peer()
    peer.reads.clear()
    link: ReplyLink[Any] = ReplyLink(peer.receive, peer.send, 4, blocked_s=0.01)
    echo = await Replies(Text("a"), Text("never")).open(None, b"", link)  # type: ignore[arg-type]
    assert isinstance(echo, Echo)
    async with asyncio.timeout(60):
        await link.drive(echo)
        await link.end(echo, SimpleNamespace())  # type: ignore[arg-type]
    assert peer.sent == []
    assert echo.events == [Text("a"), ClientLeft()]
    assert echo.closed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Lengths:
    """An HTTP route that answers with the length of the body."""

    name = "eot_multi"
    body_bytes_max = 10
    anonymous = ()

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        return b"%d" % len(body)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("said", "status", "outcome"),
    [
        ([part(b"abc")], 200, "ok"),
        ([part(b"abc", more=True), part(b"", more=True), part(b"d")], 200, "ok"),
        ([part(b"x" * 11)], 413, "too_large"),
        ([part(b"x" * 9, more=True), part(b"xx", more=True)], 413, "too_large"),
        ([part(b"x", more=True)], 408, "idle"),
        ([part(b"x", more=True), {"type": "http.disconnect"}], None, "left"),
    ],
)
async def test_a_body_is_read_within_its_bounds(
    said: list[dict[str, Any]], status: int | None, outcome: str
) -> None:
    door = Door(body_timeout_s=0.01)
    peer = Peer(*said)
    host = BodyHost(Lengths(), door.admission, door.limits)
    async with asyncio.timeout(60):
        await host(scope("http"), peer.receive, peer.send)
    assert [m["status"] for m in peer.sent if "status" in m] == ([status] if status else [])
    assert door.outcomes() == {outcome: 1}
    if status == 408:
        assert (b"connection", b"close") in peer.sent[0]["headers"]
        assert json.loads(peer.sent[1]["body"])["error"]["code"] == "idle"


class Statuses(Replies):
    """An HTTP route whose answer begins with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(Text("a"), Text("end"))
        self._status = status

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Any]
    ) -> Echo | Failure:
        await link.send({"type": "http.response.start", "status": self._status, "headers": []})
        return await super().open(request, body, link)


@pytest.mark.parametrize(
    ("route", "said", "status"),
    [
        (Sockets(), [CONNECT, text("end")], 101),
        (Sockets(FULL), [CONNECT], 503),
        (Sockets(), [LEFT], None),
        (Statuses(200), [BODY], 200),
        (Statuses(502), [BODY], 502),
        (Replies(refuses=FULL), [BODY], 503),
        (Lengths(), [part(b"abc")], 200),
        (Lengths(), [part(b"x" * 11)], 413),
    ],
)
async def test_the_log_has_the_status_and_whose_token_it_was(
    route: Any,
    said: list[dict[str, Any]],
    status: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    door, peer = Door(), Peer(*said)
    host = {Sockets: SocketHost, Lengths: BodyHost}.get(type(route), ReplyHost)
    kind = "websocket" if host is SocketHost else "http"
    async with asyncio.timeout(60):
        await host(route, door.admission, door.limits)(scope(kind), peer.receive, peer.send)
    line = vars(caplog.records[-1])
    assert (line["status"], line["identity"], line["route"]) == (status, "agent", route.name)


async def test_a_session_that_breaks_before_its_upgrade_is_told_with_status_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    class Broken(Sockets):
        def open(self, request: RequestContext, link: SocketLink[Any]) -> Echo | Failure:
            raise ValueError

    door, peer = Door(), Peer(CONNECT)
    with pytest.raises(ValueError):
        await SocketHost(Broken(), door.admission, door.limits)(
            scope("websocket"), peer.receive, peer.send
        )
    assert vars(caplog.records[-1])["status"] == 500


async def test_who_is_not_admitted_is_not_read() -> None:
    door = Door()
    peer = Peer()
    nobody = {**scope("http"), "headers": []}
    await BodyHost(Lengths(), door.admission, door.limits)(nobody, peer.receive, peer.send)
    assert peer.sent[0]["status"] == 401


async def test_an_inbox_whose_gate_is_shut_takes_from_the_other_sources() -> None:
    link: SocketLink[Any] = SocketLink(None, 4)  # type: ignore[arg-type]
    link.gate.shut()
    assert link.gate.full
    waiting = asyncio.create_task(link.gate.put("client"))
    await asyncio.sleep(0)
    inbox: Inbox[Any] = link.inbox
    await inbox.put("provider")
    assert len(inbox) == 2
    assert not waiting.done()
    link.gate.open()
    await waiting


def ids(sent: list[Any]) -> list[bytes]:
    return [value for name, value in sent[0]["headers"] if name == b"x-request-id"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_refused_request_can_be_found_by_the_id_that_its_caller_gave(kind: str) -> None:
    door, peer = Door(), Peer(CONNECT if kind == "websocket" else BODY)
    asked = scope(kind)
    asked["headers"].append((b"x-request-id", b"call-17"))
    if kind == "http":
        await ReplyHost(Replies(refuses=FULL), door.admission, door.limits)(
            asked, peer.receive, peer.send
        )
    else:
        await SocketHost(Sockets(refuses=FULL), door.admission, door.limits)(
            asked, peer.receive, peer.send
        )
    assert ids(peer.sent) == [b"call-17"]


@pytest.mark.parametrize("given", [None, b"", b"a b", b"x" * 129, "caf\u00e9".encode()])
async def test_who_gives_no_id_or_a_bad_one_gets_one_of_ours(given: bytes | None) -> None:
    door, peer = Door(), Peer(BODY)
    asked: dict[str, Any] = {"type": "http", "client": ("127.0.0.1", 1), "query_string": b""}
    asked["headers"] = []
    if given is not None:
        asked["headers"] = [(b"x-request-id", given)]
    await ReplyHost(Replies(), door.admission, door.limits)(asked, peer.receive, peer.send)
    (found,) = ids(peer.sent)
    assert found.startswith(b"req_")


def test_the_trace_that_a_request_belongs_to_is_known() -> None:
    door = Door()
    asked = scope("http")
    trace = b"4bf92f3577b34da6a3ce929d0e0e4736"
    asked["headers"].append((b"traceparent", b"00-" + trace + b"-00f067aa0ba902b7-01"))
    request = door.admission.admit(asked, "chat")
    assert isinstance(request, RequestContext)
    assert _client_ids(request.scope).trace_id == trace.decode()
    asked["headers"][-1] = (b"traceparent", b"00-xyz")
    assert _client_ids(asked).trace_id == ""
    with request:
        pass
