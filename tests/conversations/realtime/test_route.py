"""The route with a line of this process: no socket is opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.conversations.realtime.route import Bill, RealtimeRoute
from gateway.conversations.realtime.session import METER_S, Used
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.runtime.connector import Connector
from gateway.server.admission import Admission, RequestContext, SessionLimiter
from gateway.server.auth import Authenticator, mint
from gateway.server.host import OpenSockets, SocketHost
from gateway.server.quota import Quota
from gateway.settings.models import Deployment
from gateway.settings.prices import Price
from gateway.settings.quota import KeyAllowance, QuotaConfig
from gateway.settings.realtime import RealtimeConfig
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import Outcome, RealtimeCounts
from gateway.telemetry.prices import Prices
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import SocketClosed, SocketFrame
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, find
from gateway.upstreams.realtime import (
    ClientEvent,
    Connection,
    InProcess,
    LineFailed,
    ServerEvent,
    Sink,
    TokensUsed,
)

KEY, SECRET = "APIkey", "secret-of-the-key-0123456789abcdef"
USAGE = {"input_tokens": 10, "output_tokens": 4}


class EchoLine:
    """A connection that answers each `response.create`, and repeats all else."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed = False

    def write(self, frame: str) -> bool:
        self.frames.put_nowait(orjson.loads(frame))
        return True

    async def drained(self) -> None:
        return

    async def listen(self, attempt: int, sink: Sink) -> None:
        def tell(**event: Any) -> None:
            sink(SocketFrame(attempt, orjson.dumps(event).decode()))

        if not self.silent:
            tell(type="session.created", session={})
        while True:
            said = await self.frames.get()
            match said["type"]:
                case "response.create":
                    tell(type="response.created", response={"id": "r"})
                    tell(type="response.output_text.delta", delta="noon")
                    tell(type="response.done", response={"id": "r", "usage": USAGE})
                case "hang.up":
                    sink(SocketClosed(attempt, 1000, "bye"))
                    return
                case _:
                    tell(**said)

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class HereLine:
    def dial(self) -> InProcess:
        return InProcess("echo")

    def opening(self) -> Sequence[str]:
        return ()

    def encode(self, event: ClientEvent) -> Sequence[str]:
        return (event.text,)

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed]:
        body = orjson.loads(frame)
        return (ServerEvent(body["type"], body, str(frame)),)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.CONNECTION_LOST, f"{code} {reason}")


class HereUpstream:
    def line(self, attempt: Attempt) -> HereLine:
        return HereLine()


class Client:
    """A WebSocket client of an ASGI application."""

    def __init__(self, query: str = "model=here/echo") -> None:
        token = mint(KEY, SECRET, identity="agent", ttl_s=60)
        self.headers = [(b"authorization", f"Bearer {token}".encode())]
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/realtime",
            "query_string": query.encode(),
            "headers": self.headers,
            "client": ("127.0.0.1", 1),
            "extensions": {"websocket.http.response": {}},
        }
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})

    async def send(self, message: Any) -> None:
        self.told.put_nowait(message)

    def say(self, **event: Any) -> None:
        self.says.put_nowait({"type": "websocket.receive", "text": orjson.dumps(event).decode()})

    def leave(self) -> None:
        self.says.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.told.get()

    async def event(self) -> dict[str, Any]:
        message = await self.next()
        assert message["type"] == "websocket.send", message
        event: dict[str, Any] = orjson.loads(message["text"])
        return event


class Setup:
    def __init__(
        self, limits: LimitsConfig | None = None, quota: QuotaConfig | None = None
    ) -> None:
        accounts = {
            "here": Account("here", "openai", "http://nowhere", settings=find("openai").settings())
        }
        self.lines: list[EchoLine] = []
        self.silent = False
        self.failure: Failure | None = None
        models = {"here/echo": [Deployment(provider="here", model="echo")]}
        route = RealtimeRoute(
            RealtimeConfig(),
            Catalogue(models, accounts, "realtime"),
            {"here": HereUpstream()},
            Breaker(),
            Connector(),
            Prices({"here:echo": Price(input=1.0, output=2.0)}),
            {"echo": self.open},
        )
        self.admission = Admission(
            Authenticator({KEY: SECRET}),
            SessionLimiter(LimitsConfig()),
            Metrics(),
            quota=Quota(quota or QuotaConfig()),
        )
        self.outcomes: list[Outcome] = []
        leave = self.admission.leave

        def noted(request: RequestContext) -> None:
            self.outcomes.append(request.outcome)
            leave(request)

        self.admission.leave = noted  # type: ignore[method-assign]
        self.sockets = OpenSockets()
        self.host = SocketHost(route, self.admission, limits or LimitsConfig(), self.sockets)

    def open(self, request: RequestContext, attempt: Attempt) -> Connection | Failure:
        assert (request.caller.key, attempt.model) == (KEY, "echo")
        if self.failure is not None:
            return self.failure
        self.lines.append(EchoLine(silent=self.silent))
        return self.lines[-1]

    async def serve(self, client: Client) -> None:
        await self.host(client.scope, client.says.get, client.send)


def test_the_stand_in_for_a_vendor_offers_realtime() -> None:
    assert "realtime" in find("openai").offers


async def test_a_line_of_this_process_serves_a_session() -> None:
    setup, client = Setup(), Client()
    serving = asyncio.create_task(setup.serve(client))
    assert (await client.next())["type"] == "websocket.accept"
    assert (await client.event())["type"] == "session.created"
    client.say(type="of.tomorrow", x=1)
    assert await client.event() == {"type": "of.tomorrow", "x": 1}
    client.say(type="response.create")
    assert [(await client.event())["type"] for _ in range(3)] == [
        "response.created", "response.output_text.delta", "response.done",
    ]  # fmt: skip
    client.leave()
    await serving
    (outcome,) = setup.outcomes
    assert outcome.word == "ok"
    assert outcome.counts == RealtimeCounts(1, 0, 0)
    assert outcome.usage is not None
    assert (outcome.usage.prompt, outcome.usage.completion) == (10, 4)
    assert outcome.cost == 18_000
    assert setup.lines[0].closed


async def test_a_line_that_ends_is_told_as_the_protocol_tells_it() -> None:
    setup, client = Setup(), Client()
    serving = asyncio.create_task(setup.serve(client))
    await client.next()
    await client.event()
    client.say(type="response.create")
    client.say(type="hang.up")
    for _ in range(3):
        await client.event()
    error = await client.event()
    assert (error["type"], error["error"]["code"]) == ("error", "stream_interrupted")
    assert (await client.next())["code"] == 1011
    await serving
    assert setup.outcomes[0].word == "stream_interrupted"


async def test_what_cannot_be_opened_is_refused_before_the_upgrade() -> None:
    setup, client = Setup(), Client()
    setup.failure = Failure(Kind.NOT_SERVED, "no recogniser here")
    await setup.serve(client)
    assert (await client.next())["status"] == 503
    assert b"no recogniser here" in (await client.next())["body"]
    assert setup.outcomes[0].word == "not_served"


async def test_a_session_that_has_lasted_too_long_is_closed_between_turns() -> None:
    setup, client = Setup(LimitsConfig(session_s_max=1)), Client()
    serving = asyncio.create_task(setup.serve(client))
    await client.next()
    await client.event()
    setup.sockets.sweep(None, time.monotonic() + 1.5)
    assert (await client.next())["code"] == 1012
    client.leave()
    await serving
    assert setup.outcomes[0].word == "session_too_long"


@pytest.mark.parametrize(("query", "status"), [("", 400), ("model=", 400), ("model=nobody/x", 404)])
async def test_a_model_that_is_not_served_is_refused(query: str, status: int) -> None:
    setup, client = Setup(), Client(query)
    await setup.serve(client)
    assert (await client.next())["status"] == status


async def test_a_region_that_nobody_is_in_is_refused_before_the_upgrade() -> None:
    setup, client = Setup(), Client()
    client.scope["headers"] = [*client.headers, (b"x-parley-region", b"eu")]
    await setup.serve(client)
    assert (await client.next())["status"] in (400, 403)
    assert not setup.lines


async def test_a_client_that_leaves_while_it_is_dialled_costs_nothing() -> None:
    setup, client = Setup(), Client()
    setup.silent = True
    serving = asyncio.create_task(setup.serve(client))
    while not setup.lines:
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert setup.lines[0].closed


async def test_a_key_without_anything_left_is_refused_before_the_upgrade() -> None:
    setup = Setup(quota=QuotaConfig(keys={KEY: KeyAllowance(credits=0)}))
    client = Client()
    await setup.serve(client)
    assert (await client.next())["status"] == 429


async def test_a_model_that_a_key_may_not_use_is_refused() -> None:
    setup = Setup(quota=QuotaConfig(keys={KEY: KeyAllowance(allowed_models=["another"])}))
    client = Client()
    await setup.serve(client)
    assert (await client.next())["status"] == 403


def test_a_bill_has_seconds_of_the_voice_and_transcripts() -> None:
    prices = Prices({"p:m": Price(session_minute=0.6), "p:whisper": Price(audio_minute=6.0)})
    attempt = Attempt("p", "m")
    used = Used(attempt, lines=1, open_s=10.0, transcribed_s={"whisper": 2.0, "unknown": 9.0})
    bill = Bill(prices)
    assert bill.ahead((attempt,)).cost == round(METER_S / 60 * 0.6 * 1e9)
    (spent,) = bill.since_last(0.0, [used])
    assert spent.cost == 100_000_000 + 200_000_000
    used.told_s = 5.0  # what the provider says goes before what we saw
    (less,) = bill.since_last(0.0, [used])
    assert less.cost == -50_000_000


def test_a_bill_tells_only_what_is_new() -> None:
    attempt = Attempt("p", "m")
    bill = Bill(Prices({"p:m": Price(input=1.0, output=1.0)}))
    assert bill.ahead((attempt,)).audio_ms == 1000 * METER_S
    first = bill.since_last(1.0, [Used(attempt, TokensUsed(10, 5), 1)])
    assert [(one.audio_ms, one.tokens, one.requests, one.cost) for one in first] == [
        (1000, 0, 0, 0), (0, 15, 1, 15_000),
    ]  # fmt: skip
    assert bill.since_last(1.0, [Used(attempt, TokensUsed(10, 5), 1)]) == []
    (more,) = bill.since_last(1.0, [Used(attempt, TokensUsed(12, 5), 2)])
    assert (more.tokens, more.requests, more.cost) == (2, 1, 2_000)
    assert bill.cost == 17_000
