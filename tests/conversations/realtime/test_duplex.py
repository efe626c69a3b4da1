from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.conversations.realtime.duplex import START_S, DuplexSession
from gateway.conversations.realtime.session import (
    CALM_S,
    DOUBT_S,
    Accept,
    Action,
    Admit,
    Admitted,
    Begin,
    Close,
    Drop,
    Meter,
    Open,
    Refuse,
    Send,
    SendToClient,
)
from gateway.routing.breaker import Breaker
from gateway.settings.realtime import RealtimeConfig
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    ConnectionFailed,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.realtime import ClientEvent, LineFailed, ServerEvent, TokensUsed

CONFIG = RealtimeConfig()
FULL = Failure(Kind.OVERLOADED, "full")
NONE = Failure(Kind.NOT_FOUND, "no such model")


class PlainLine:
    """Speaks the client's protocol."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def dial(self) -> Dial:
        return Dial(f"ws://{self.attempt.provider}")

    def opening(self) -> Sequence[str]:
        return ()

    def encode(self, event: ClientEvent) -> Sequence[str]:
        return (event.text,)

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed]:
        body = orjson.loads(frame)
        return (ServerEvent(body["type"], body, str(frame)),)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.CONNECTION_LOST, f"closed {code}", upstream_status=code)


class Upstream:
    def line(self, attempt: Attempt) -> PlainLine:
        return PlainLine(attempt)


class Driver:
    """A session, its clock, and what it has asked for last."""

    def __init__(self, *, named: bool = True, charged: bool = False, allowed: str = "") -> None:
        self.plan: Plan = (Attempt("a", "live"), Attempt("b", "live"))
        self.now = 0.0
        self.session = DuplexSession(
            self.plan if named else None,
            {"a": Upstream(), "b": Upstream()},
            CONFIG,
            Breaker(),
            "s",
            self.now,
            planner=lambda model: self.plan if model == "openai/gpt-live-1" else NONE,
            permits=lambda attempt: not allowed or attempt.model == allowed,
            charged=charged,
        )
        self.number = 0
        self.do(Begin())

    def do(self, event: Any) -> list[Action]:
        self.actions = self.session.handle(event, self.now)
        for action in self.actions:
            if isinstance(action, Open):
                self.number = action.number
        return self.actions

    def wait(self, seconds: float) -> list[Action]:
        until, found = self.now + seconds, []
        while (at := self.session.deadline) is not None and at <= until:
            self.now = max(at, self.now)
            found += self.do(DEADLINE_PASSED)
        self.now = until
        self.actions = found
        return found

    def open(self) -> list[Action]:
        return self.do(SocketOpened(self.number))

    def hears(self, kind: str, **fields: Any) -> list[Action]:
        text = orjson.dumps({"type": kind, **fields}).decode()
        return self.do(SocketFrame(self.number, text))

    def says(self, kind: str, **fields: Any) -> list[Action]:
        return self.do(Text(orjson.dumps({"type": kind, **fields}).decode()))

    def start(self, **session: Any) -> list[Action]:
        return self.says("session.start", session={"model": "openai/gpt-live-1", **session})

    def begin(self) -> None:
        self.open()
        self.start()
        self.hears("session.started")

    @property
    def told(self) -> list[Any]:
        return [orjson.loads(a.text) for a in self.actions if isinstance(a, SendToClient)]

    @property
    def sent(self) -> list[str]:
        frames = [f for a in self.actions if isinstance(a, Send) for f in a.frames]
        return [orjson.loads(frame)["type"] for frame in frames]

    def of(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]


def test_the_client_is_let_in_as_soon_as_the_line_is_open() -> None:
    driver = Driver()
    assert driver.of(Open)
    assert isinstance(driver.open()[0], Accept)
    assert driver.start()
    assert driver.sent == ["session.start"]


def test_until_it_has_started_the_next_provider_is_asked() -> None:
    driver = Driver()
    driver.open()
    driver.start()
    driver.do(ConnectionFailed(1, FULL))
    assert driver.of(Open)[0].attempt.provider == "b"
    driver.open()
    assert driver.sent == ["session.start"]
    driver.hears("session.started")
    driver.do(ConnectionFailed(2, FULL))
    assert driver.told[0]["error"]["code"] == "upstream_overloaded"
    assert driver.of(Close)[0].code == 1011


def test_a_start_without_an_answer_is_asked_of_the_next() -> None:
    driver = Driver()
    driver.open()
    driver.start()
    driver.wait(CONFIG.response_timeout_s + DOUBT_S)
    assert driver.of(Open)[0].attempt.provider == "b"


def test_a_line_that_replaces_one_before_the_start_is_not_waited_for_without_end() -> None:
    driver = Driver()
    driver.open()
    driver.start()
    driver.do(SocketClosed(driver.number, 1006, ""))
    assert driver.number == 2
    driver.open()
    assert driver.sent == ["session.start"]
    driver.wait(CONFIG.response_timeout_s + DOUBT_S)
    assert driver.session.report.tries[1].failure is not None


def test_when_nobody_is_left_the_handshake_is_refused() -> None:
    driver = Driver()
    driver.do(ConnectionFailed(1, FULL))
    driver.do(ConnectionFailed(2, Failure(Kind.UPSTREAM_AUTH, "401")))
    driver.wait(1.0)
    driver.do(ConnectionFailed(3, FULL))
    assert driver.of(Refuse)


# -- a model that only session.start names


def test_a_model_may_be_named_by_the_start_alone() -> None:
    driver = Driver(named=False)
    assert isinstance(driver.actions[0], Accept)
    driver.start()
    assert driver.of(Open)
    assert driver.session.asked == "openai/gpt-live-1"
    driver.open()
    assert driver.sent == ["session.start"]
    driver.hears("session.started")
    assert driver.told[0]["type"] == "session.started"


def test_then_a_key_with_limits_is_asked_first() -> None:
    driver = Driver(named=False, charged=True)
    driver.start()
    assert driver.of(Admit) == [Admit(driver.plan)]
    driver.do(Admitted(driver.plan[1:]))
    assert driver.of(Open)[0].attempt.provider == "b"


def test_a_model_that_is_not_served_ends_it() -> None:
    driver = Driver(named=False)
    driver.says("session.start", session={"model": "another"})
    assert driver.told[0]["error"]["code"] == "model_not_found"
    assert driver.of(Close)[0].code == 1008


@pytest.mark.parametrize("session", [None, {}, {"model": 7}, {"model": ""}, {"model": "x" * 300}])
def test_a_start_without_a_model_is_a_mistake(session: Any) -> None:
    driver = Driver(named=False)
    driver.says("session.start", session=session)
    assert driver.told[0]["error"]["param"] == "session.model"
    assert not driver.of(Close)


def test_a_start_that_does_not_come_is_not_waited_for() -> None:
    driver = Driver(named=False)
    driver.wait(START_S)
    assert driver.told[0]["error"]["code"] == "idle"


# -- delegation


@pytest.mark.parametrize(
    ("responses", "code"),
    [
        ({"tools": [{"type": "mcp"}]}, "unsupported_server_tool"),
        ({"tools": ["x"]}, "unsupported_server_tool"),
        ({"service_tier": "flex"}, "unsupported_service_tier"),
        ({"model": "xai/grok"}, "unsupported_delegated_model"),
        ({"model": ["x"]}, "invalid_delegated_model"),
        ({"model": "gpt-dear"}, "invalid_delegated_model"),
    ],
)
def test_what_is_not_served_is_refused(responses: Any, code: str) -> None:
    driver = Driver(allowed="gpt-cheap")
    driver.open()
    driver.start(delegation={"type": "responses", "responses": responses})
    assert driver.told[0]["error"]["code"] == code
    assert driver.sent == []
    driver.start()
    driver.hears("session.started")
    driver.says("session.update", session={"delegation": {"type": "responses",
                                                          "responses": responses}})  # fmt: skip
    assert driver.told[0]["error"]["code"] == code


def test_what_is_served_is_passed_on() -> None:
    driver = Driver(allowed="gpt-cheap")
    driver.open()
    responses = {
        "model": "openai/gpt-cheap", "service_tier": "default",
        "tools": [{"type": "function", "name": "f"}],
    }  # fmt: skip
    driver.start(delegation={"type": "responses", "responses": responses})
    assert driver.sent == ["session.start"]


def test_tokens_are_those_of_the_model_that_was_delegated_to() -> None:
    driver = Driver()
    driver.begin()
    usage = {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 9}
    event = {"type": "response.completed", "response": {"model": "gpt-cheap", "usage": usage}}
    driver.hears("response.event", delegation_id="d", event=event)
    driver.hears("session.usage.updated", usage={"seconds": 3.5})
    voice, backend = driver.session.used(10.0)
    assert (voice.attempt.model, voice.told_s, voice.lines) == ("live", 3.5, 1)
    assert (backend.attempt.model, backend.tokens) == ("gpt-cheap", TokensUsed(40, 9, 8))
    assert backend.lines == 0


def test_what_costs_is_metered() -> None:
    driver = Driver(charged=True)
    driver.do(Admitted(driver.plan))
    driver.begin()
    driver.hears("session.usage.updated", usage={"seconds": 3.5})
    assert driver.of(Meter)


@pytest.mark.parametrize("event", [None, 7, {}, {"type": "response.completed", "response": 7}])
def test_nonsense_in_an_envelope_counts_nothing(event: Any) -> None:
    driver = Driver()
    driver.begin()
    driver.hears("response.event", event=event)
    assert driver.told


# -- the end


def test_a_session_that_was_closed_ends_well() -> None:
    driver = Driver()
    driver.begin()
    driver.says("session.close")
    driver.hears("session.closed", reason="close_requested", usage={"seconds": 1})
    assert driver.do(SocketClosed(1, 1000, "")) == [Drop(1), Close(1000)]
    assert driver.session.report.failure is None


def test_it_may_end_when_nobody_has_spoken_for_a_moment() -> None:
    driver = Driver()
    driver.begin()
    driver.hears("session.output_transcript.delta", delta="x")
    assert not driver.session.may_end(driver.now)
    assert driver.session.may_end(driver.now + CALM_S)
    driver.hears("response.event", delegation_id="d", event={"type": "response.created"})
    assert not driver.session.may_end(driver.now + 100)
    driver.hears("response.event", delegation_id="d", event={"type": "response.failed"})
    assert driver.session.may_end(driver.now + CALM_S)
