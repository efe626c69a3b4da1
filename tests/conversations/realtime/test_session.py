from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.conversations.realtime.session import (
    CALM_S,
    DOUBT_S,
    METER_S,
    USED_UP_S,
    Accept,
    Action,
    Admit,
    Admitted,
    Begin,
    Close,
    Drop,
    Event,
    Meter,
    Metered,
    Open,
    RealtimeSession,
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
    Binary,
    ClientLeft,
    ConnectionFailed,
    DeadlinePassed,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt
from gateway.upstreams.realtime import (
    ClientEvent,
    LineFailed,
    ServerEvent,
    TokensUsed,
    server_event,
)

LOST = Failure(Kind.CONNECTION_LOST, "lost")
CONFIG = RealtimeConfig()
SECOND = base64.b64encode(bytes(48_000)).decode()


class PlainLine:
    """Speaks the client's protocol; `!kind` as a frame is a failure of that kind."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def dial(self) -> Dial:
        return Dial(f"ws://{self.attempt.provider}")

    def opening(self) -> Sequence[str]:
        return ("hello",) if self.attempt.provider == "hello" else ()

    def encode(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        return (event.text,)

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed | str]:
        assert isinstance(frame, str)
        if frame.startswith("!"):
            return (LineFailed(Failure(Kind(frame[1:]), "said")),)
        body = orjson.loads(frame)
        return (ServerEvent(body["type"], body, frame),)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.CONNECTION_LOST, f"closed {code} {reason}", upstream_status=code)


class Upstream:
    def line(self, attempt: Attempt) -> PlainLine:
        return PlainLine(attempt)


class Driver:
    """A session, its clock, and what it has asked for so far."""

    def __init__(
        self, *providers: str, config: RealtimeConfig = CONFIG, charged: bool = False
    ) -> None:
        plan = tuple(Attempt(name, "m") for name in providers or ("a",))
        self.now = 0.0
        self.breaker = Breaker()
        self.session = RealtimeSession(
            plan,
            {attempt.provider: Upstream() for attempt in plan},
            config,
            self.breaker,
            "s",
            self.now,
            charged=charged,
        )
        self.plan = plan
        self.number = 0
        self.actions: list[Action] = self.do(Begin())

    def do(self, event: Event | DeadlinePassed) -> list[Action]:
        self.actions = self.session.handle(event, self.now)
        for action in self.actions:
            if isinstance(action, Open):
                self.number = action.number
        return self.actions

    def wait(self, seconds: float) -> list[Action]:
        """Time passes; deadlines are kept."""
        until, found = self.now + seconds, []
        while (at := self.session.deadline) is not None and at <= until:
            self.now = max(at, self.now)
            found += self.do(DEADLINE_PASSED)
        self.now = until
        self.actions = found
        return found

    def hears(self, kind: str, **fields: Any) -> list[Action]:
        """The provider says this."""
        text = orjson.dumps({"type": kind, **fields}).decode()
        return self.do(SocketFrame(self.number, text))

    def says(self, kind: str, **fields: Any) -> list[Action]:
        """The client says this."""
        return self.do(Text(orjson.dumps({"type": kind, **fields}).decode()))

    def connect(self) -> list[Action]:
        self.do(SocketOpened(self.number))
        return self.hears("session.created")

    def respond(self, name: str = "r", **usage: Any) -> None:
        self.hears("response.created", response={"id": name})
        self.hears("response.done", response={"id": name, "status": "completed", "usage": usage})

    @property
    def told(self) -> list[Any]:
        return [orjson.loads(a.text) for a in self.actions if isinstance(a, SendToClient)]

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.told]

    @property
    def sent(self) -> list[str]:
        frames = [f for a in self.actions if isinstance(a, Send) for f in a.frames]
        return [orjson.loads(frame)["type"] for frame in frames]

    @property
    def opened(self) -> list[str]:
        return [a.attempt.provider for a in self.actions if isinstance(a, Open)]

    def of(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]


# -- before the upgrade


def test_the_client_is_let_in_when_the_line_greets() -> None:
    driver = Driver()
    assert driver.opened == ["a"]
    assert driver.do(SocketOpened(1)) == []
    actions = driver.hears("session.created")
    assert isinstance(actions[0], Accept)
    assert driver.types == ["session.created"]


def test_what_a_line_opens_with_is_sent_first() -> None:
    driver = Driver("hello")
    assert driver.do(SocketOpened(1)) == [Send(1, ["hello"])]


def test_a_refused_provider_is_replaced_before_the_client_is_let_in() -> None:
    driver = Driver("a", "b")
    driver.do(ConnectionFailed(1, Failure(Kind.UPSTREAM_AUTH, "401", upstream_status=401)))
    assert driver.opened == ["b"]
    driver.connect()
    assert driver.of(Accept)
    assert driver.session.report.failovers == 0
    assert [one.word for one in driver.session.report.tries] == ["upstream_auth", "ok"]


def test_when_nobody_is_left_the_handshake_is_refused() -> None:
    driver = Driver("a", "b")
    driver.do(ConnectionFailed(1, Failure(Kind.UPSTREAM_NOT_FOUND, "404")))
    driver.do(ConnectionFailed(2, Failure(Kind.UPSTREAM_AUTH, "401")))
    (refuse,) = driver.of(Refuse)
    assert refuse.failure.status == 502
    assert driver.told == []
    assert driver.session.report.failure == refuse.failure


def test_an_error_in_place_of_a_greeting_is_a_refusal() -> None:
    driver = Driver("a", "b")
    driver.do(SocketOpened(1))
    driver.hears("error", error={"message": "not today"})
    assert driver.opened == ["b"]
    assert driver.told == []


def test_a_provider_that_does_not_greet_is_left_in_time() -> None:
    driver = Driver("a", "b")
    driver.do(SocketOpened(1))
    driver.wait(CONFIG.open_timeout_s)
    assert driver.opened == ["b"]
    tried = driver.session.report.tries[0]
    assert tried.failure is not None
    assert tried.failure.kind is Kind.TIMEOUT


def test_all_providers_together_have_so_much_time() -> None:
    driver = Driver("a", "b", "c")
    driver.wait(CONFIG.connect_s)
    (refuse,) = driver.of(Refuse)
    assert refuse.failure.status == 504
    assert driver.of(Drop) == [Drop(1), Drop(2)]
    assert driver.session.deadline is None


def test_a_passing_failure_is_tried_again() -> None:
    driver = Driver()
    driver.do(ConnectionFailed(1, Failure(Kind.UNREACHABLE, "down")))
    driver.wait(0.25)
    assert driver.opened == ["a"]
    driver.do(ConnectionFailed(2, Failure(Kind.UNREACHABLE, "down")))
    assert driver.of(Refuse)


def test_a_client_that_leaves_meanwhile_ends_it() -> None:
    driver = Driver()
    driver.do(ClientLeft())
    assert driver.actions == [Drop(1), Close(1000)]
    assert driver.session.report.left
    assert driver.session.report.tries[0].word == "left"


class TalkativeLine(PlainLine):
    """Greets and answers by itself, and has something to say to its provider."""

    def greeting(self) -> Sequence[ServerEvent]:
        return (server_event("session.created", session={}),)

    def encode(self, event: ClientEvent) -> Sequence[str | ServerEvent]:
        return (event.text, server_event("session.updated", session={}))

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed | str]:
        return ("pong", server_event("of.tomorrow"))


class TalkativeUpstream:
    def line(self, attempt: Attempt) -> TalkativeLine:
        return TalkativeLine(attempt)


def talkative() -> Driver:
    driver = Driver("a", "b")
    upstreams = {"a": TalkativeUpstream(), "b": TalkativeUpstream()}
    driver.session = RealtimeSession(driver.plan, upstreams, CONFIG, Breaker(), "s", 0.0)
    driver.do(Begin())
    return driver


def test_a_line_may_greet_by_itself() -> None:
    driver = talkative()
    driver.do(SocketOpened(driver.number))
    assert driver.of(Accept)
    assert driver.types == ["session.created"]


def test_a_line_speaks_to_both_sides() -> None:
    driver = talkative()
    driver.do(SocketOpened(driver.number))
    driver.says("session.update", session={})
    assert driver.sent == ["session.update"]
    assert driver.types == ["session.updated"]
    driver.do(SocketFrame(driver.number, "{}"))
    assert driver.of(Send) == [Send(driver.number, ["pong"])]
    assert driver.types == ["of.tomorrow"]


def test_what_a_line_has_answered_is_not_told_again_by_the_next() -> None:
    driver = talkative()
    driver.do(SocketOpened(driver.number))
    driver.says("session.update", session={})
    driver.do(ConnectionFailed(driver.number, Failure(Kind.OVERLOADED, "full")))
    driver.do(SocketOpened(driver.number))
    assert driver.sent == ["session.update"]
    assert driver.types == []


# -- passing on


def test_events_go_both_ways_as_they_are() -> None:
    driver = Driver()
    driver.connect()
    text = '{ "type" : "of.tomorrow" }'
    assert driver.do(Text(text)) == [Send(1, [text])]
    assert driver.do(SocketFrame(1, text)) == [SendToClient(text)]


def test_a_late_word_of_a_dropped_line_is_not_heard() -> None:
    driver = Driver("a", "b")
    driver.connect()
    driver.do(SocketClosed(1, 1006, ""))
    assert driver.do(SocketFrame(1, '{"type":"x"}')) == []
    assert driver.do(SocketClosed(1, 1006, "")) == []


@pytest.mark.parametrize("event", [Text("{"), Text("{}"), Binary(b"x")])
def test_a_mistake_of_the_clients_is_told_and_the_session_goes_on(event: Event) -> None:
    driver = Driver()
    driver.connect()
    driver.do(event)
    (error,) = driver.told
    assert error["type"] == "error"
    assert error["error"]["code"] == "bad_request"
    assert not driver.of(Close)
    assert driver.says("response.create")


# -- a line that is lost


def history(driver: Driver) -> None:
    driver.connect()
    driver.says("session.update", session={"instructions": "be kind"})
    driver.hears("session.updated")
    driver.says("conversation.item.create", item={"id": "mine"})
    driver.hears("conversation.item.added", item={"id": "mine"})
    driver.says("input_audio_buffer.append", audio=SECOND)
    driver.says("input_audio_buffer.commit")
    driver.hears("input_audio_buffer.committed", item_id="theirs")
    driver.hears("conversation.item.added", item={"id": "theirs"})
    driver.says("response.create")


def test_before_the_first_response_the_next_one_hears_everything_again() -> None:
    driver = Driver("a", "b")
    history(driver)
    driver.do(SocketClosed(1, 1006, ""))
    assert driver.opened == ["a"]  # the same once more, at once
    driver.do(ConnectionFailed(2, LOST))
    assert driver.opened == ["b"]
    driver.connect()
    assert driver.sent == [
        "session.update",
        "conversation.item.create",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
    ]
    assert driver.session.report.failovers == 2


def test_the_client_is_not_told_twice() -> None:
    driver = Driver("a", "b")
    history(driver)
    driver.do(ConnectionFailed(1, Failure(Kind.OVERLOADED, "full")))
    assert driver.told == [
        {"type": "conversation.item.deleted", "event_id": "event_s_1", "item_id": "theirs"}
    ]
    driver.connect()
    assert driver.types == []
    driver.hears("session.updated")
    assert driver.types == []
    driver.hears("conversation.item.added", item={"id": "mine"})
    assert driver.types == []
    driver.hears("conversation.item.added", item={"id": "another"})
    assert driver.types == ["conversation.item.added"]
    driver.says("session.update", session={})
    driver.hears("session.updated")
    assert driver.types == ["session.updated"]


def test_what_is_said_while_nobody_listens_is_not_lost() -> None:
    driver = Driver("a", "b")
    driver.connect()
    driver.do(ConnectionFailed(1, Failure(Kind.OVERLOADED, "full")))
    driver.says("session.update", session={})
    assert driver.sent == []
    driver.connect()
    assert driver.sent == ["session.update"]


def test_when_nobody_is_left_an_error_and_a_close_tell_it() -> None:
    driver = Driver()
    driver.connect()
    driver.do(ConnectionFailed(1, Failure(Kind.UPSTREAM_QUOTA, "the account is empty")))
    assert driver.types == ["error"]
    assert driver.told[0]["error"]["code"] == "upstream_quota"
    assert driver.of(Close) == [Close(1011, "the account is empty")]


def test_after_the_first_response_has_begun_nobody_else_is_asked() -> None:
    driver = Driver("a", "b")
    history(driver)
    driver.hears("response.created", response={"id": "r"})
    driver.do(SocketClosed(1, 1006, "gone"))
    assert driver.opened == []
    assert driver.types == ["error"]
    (close,) = driver.of(Close)
    assert close.code == 1011
    failure = driver.session.report.failure
    assert failure is not None
    assert (failure.kind, failure.provider) == (Kind.CONNECTION_LOST, "a")


def test_a_session_that_has_lasted_too_long_is_told_as_the_vendor_does() -> None:
    driver = Driver()
    history(driver)
    driver.hears("response.created", response={"id": "r"})
    driver.do(SocketFrame(1, "!upstream_session_limit"))
    assert driver.told[0]["error"]["code"] == "session_expired"
    assert driver.of(Close)[0].code == 1001


def test_a_session_with_more_than_may_be_kept_stays_where_it_is() -> None:
    config = RealtimeConfig(replay_bytes=64 << 10)
    driver = Driver("a", "b", config=config)
    driver.connect()
    driver.says("conversation.item.create", item={"id": "x", "content": "y" * (65 << 10)})
    driver.do(ConnectionFailed(1, Failure(Kind.OVERLOADED, "full")))
    assert driver.opened == []
    assert driver.of(Close)


def test_the_breaker_learns_of_what_failed_and_of_what_worked() -> None:
    driver = Driver("a", "b")
    driver.do(ConnectionFailed(1, Failure(Kind.UPSTREAM_AUTH, "401")))
    assert driver.breaker.resting(driver.plan[0], driver.now)
    assert driver.session.report.tries[0].rests


# -- silence


def test_a_response_that_does_not_begin_is_asked_of_the_next() -> None:
    driver = Driver("a", "b")
    driver.connect()
    driver.says("response.create")
    driver.wait(CONFIG.response_timeout_s + DOUBT_S)
    assert driver.opened == ["b"]
    driver.connect()
    assert driver.sent == ["response.create"]
    driver.wait(CONFIG.response_timeout_s + 1.0)  # it is expected of the next one too
    assert driver.opened == ["a"]


def test_a_later_one_is_given_more_time() -> None:
    driver = Driver("a", "b")
    driver.connect()
    driver.respond()
    driver.says("response.create")
    assert driver.wait(CONFIG.response_timeout_s) == []
    driver.wait(CONFIG.stall_s)
    assert driver.of(Close)


def test_an_error_is_an_answer_too() -> None:
    driver = Driver()
    driver.connect()
    driver.says("response.create")
    driver.hears("error", error={"message": "no"})
    assert driver.types == ["error"]
    assert driver.wait(60.0) == []


def test_a_response_that_stalls_is_ended() -> None:
    driver = Driver("a", "b")
    driver.connect()
    driver.hears("response.created", response={"id": "r"})
    driver.wait(CONFIG.stall_s - 1)
    driver.hears("response.output_text.delta", delta="x")
    assert driver.wait(CONFIG.stall_s - 1) == []
    driver.wait(2)
    assert driver.told[0]["error"]["code"] == "upstream_timeout"
    assert driver.of(Close)


def test_what_waited_behind_a_client_that_does_not_read_is_no_stall() -> None:
    driver = Driver()
    driver.connect()
    driver.hears("response.created", response={"id": "r"})
    driver.now += CONFIG.stall_s + 1  # the session was not asked for so long
    assert driver.do(DEADLINE_PASSED) == []
    driver.hears("response.output_text.delta", delta="x")
    assert driver.wait(CONFIG.stall_s - 1) == []
    driver.wait(3)
    assert driver.of(Close)


def test_between_responses_nothing_has_to_come() -> None:
    driver = Driver()
    driver.connect()
    driver.respond()
    assert driver.wait(CONFIG.idle_s - 1) == []


def test_a_client_that_says_nothing_is_let_go_in_the_end() -> None:
    driver = Driver()
    driver.connect()
    driver.wait(10)
    driver.says("input_audio_buffer.append", audio="")
    driver.wait(CONFIG.idle_s)
    assert driver.told[0]["error"]["code"] == "idle"
    assert driver.of(Close)


# -- what was used


def test_tokens_of_every_response_are_counted() -> None:
    driver = Driver()
    driver.connect()
    details = {"audio_tokens": 4, "cached_tokens": 2}
    for name in ("r1", "r2"):
        driver.respond(name, input_tokens=10, output_tokens=5, input_token_details=details)
    driver.now = 7.0
    (used,) = driver.session.used(driver.now)
    assert used.tokens == TokensUsed(20, 10, 4, 8, 0, 0)
    assert (used.lines, used.open_s) == (1, 7.0)
    assert driver.session.report.responses == 2


def test_a_cancelled_response_is_counted_as_such() -> None:
    driver = Driver()
    driver.connect()
    driver.hears("response.created", response={"id": "r"})
    driver.hears("response.done", response={"id": "r", "status": "cancelled"})
    assert (driver.session.report.responses, driver.session.report.cancelled) == (1, 1)


def test_audio_of_the_client_is_counted_by_its_format() -> None:
    driver = Driver()
    driver.connect()
    driver.says("input_audio_buffer.append", audio=SECOND)
    phone = {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    driver.says("session.update", session=phone)
    driver.says("input_audio_buffer.append", audio=SECOND)
    assert driver.session.report.audio_s == pytest.approx(1 + 6)


def test_the_first_answer_is_timed_from_the_end_of_the_turn() -> None:
    driver = Driver()
    driver.connect()
    driver.now = 1.0
    driver.hears("input_audio_buffer.speech_stopped")
    driver.now = 1.5
    driver.hears("response.created", response={"id": "r"})
    driver.now = 1.75
    driver.hears("response.output_audio.delta", delta="")
    assert driver.session.report.first_s == pytest.approx(0.75)


# -- a key with limits


def test_a_key_with_limits_is_asked_before_anybody_is() -> None:
    driver = Driver("a", "b", charged=True)
    assert driver.actions == [Admit(driver.plan)]
    driver.do(Admitted(driver.plan[1:]))
    assert driver.opened == ["b"]


def test_what_the_quota_refuses_is_refused_before_the_upgrade() -> None:
    driver = Driver(charged=True)
    failure = Failure(Kind.QUOTA, "used up")
    assert driver.do(Admitted(failure)) == [Refuse(failure)]


def charged() -> Driver:
    driver = Driver(charged=True)
    driver.do(Admitted(driver.plan))
    driver.connect()
    return driver


def test_audio_and_responses_are_metered() -> None:
    driver = charged()
    for _ in range(int(METER_S) - 1):
        assert not any(isinstance(a, Meter) for a in driver.says("x", audio=SECOND))
        driver.says("input_audio_buffer.append", audio=SECOND)
    driver.says("input_audio_buffer.append", audio=SECOND)
    assert driver.of(Meter)
    driver.respond()
    assert driver.of(Meter)


def test_a_session_without_anything_left_ends_after_the_response() -> None:
    driver = charged()
    driver.hears("response.created", response={"id": "r"})
    used_up = Failure(Kind.QUOTA, "used up")
    assert driver.do(Metered(used_up)) == []
    driver.hears("response.done", response={"id": "r"})
    assert driver.types == ["response.done", "error"]
    assert driver.of(Close) == [Close(1008, "used up")]


def test_or_at_once_if_none_is_open() -> None:
    driver = charged()
    driver.do(Metered(Failure(Kind.QUOTA, "used up")))
    assert driver.of(Close)


def test_or_when_the_response_takes_too_long() -> None:
    driver = charged()
    driver.hears("response.created", response={"id": "r"})
    driver.do(Metered(Failure(Kind.QUOTA, "used up")))
    for _ in range(int(USED_UP_S)):
        driver.hears("response.output_text.delta", delta="x")
        driver.wait(1.0)
    assert driver.of(Close)


# -- when it may be ended from outside


def test_it_may_end_between_turns_only() -> None:
    driver = Driver()
    assert not driver.session.may_end(0.0)
    driver.connect()
    assert driver.session.may_end(driver.now)
    driver.hears("input_audio_buffer.speech_started")
    assert not driver.session.may_end(driver.now)
    driver.hears("input_audio_buffer.speech_stopped")
    assert not driver.session.may_end(driver.now)
    driver.hears("response.created", response={"id": "r"})
    driver.hears("response.output_audio.delta", delta="")
    assert not driver.session.may_end(driver.now + 100)
    driver.hears("response.done", response={"id": "r"})
    assert driver.session.may_end(driver.now)


def test_a_turn_without_an_answer_is_waited_for_a_moment_only() -> None:
    driver = Driver()
    driver.connect()
    driver.hears("input_audio_buffer.committed", item_id="i")
    assert not driver.session.may_end(driver.now + CALM_S / 2)
    assert driver.session.may_end(driver.now + CALM_S)


def test_a_response_that_was_asked_for_is_waited_for() -> None:
    driver = Driver()
    driver.connect()
    driver.says("response.create")
    assert not driver.session.may_end(driver.now + 100)


@pytest.mark.parametrize(("code", "left"), [(1000, False), (1001, False), (1006, True)])
def test_the_client_leaves(code: int, left: bool) -> None:
    driver = Driver()
    driver.connect()
    driver.do(ClientLeft(code))
    assert driver.actions == [Drop(1), Close(1000)]
    assert driver.session.report.left is left
    assert driver.do(SocketFrame(1, '{"type":"x"}')) == []


def test_transcripts_are_counted_by_the_model_that_made_them() -> None:
    driver = Driver()
    driver.connect()
    for model in ("a", "b"):
        session = {"audio": {"input": {"transcription": {"model": model}}}}
        driver.says("session.update", session=session)
        for _ in range(2):
            driver.hears(
                "conversation.item.input_audio_transcription.completed",
                usage={"type": "duration", "seconds": 1.5},
            )
    (used,) = driver.session.used(driver.now)
    assert used.transcribed_s == {"a": 3.0, "b": 3.0}
