"""A chat request: falling back without a trace, and never after the first content."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway.conversations.chat.protocol import KEEPALIVE, LOADING
from gateway.conversations.chat.session import (
    ENDING_S,
    LOADING_S_MAX,
    Action,
    AwaitModel,
    Begin,
    BreakOff,
    ChatSession,
    Drop,
    Finish,
    Granted,
    Leave,
    Loaded,
    Open,
    Refuse,
    Reply,
    Shared,
    Start,
    Wait,
    Write,
)
from gateway.providers._openai.dialect import OpenAIChat
from gateway.routing.breaker import Breaker
from gateway.routing.capacity import RANKS, ConcurrencyLimiter, Limits
from gateway.routing.hedging import HedgeBudget
from gateway.settings.chat import ChatConfig, HedgeConfig
from gateway.upstreams.chat import (
    ChatRequest,
    ChatUpstream,
    HasProcesses,
    ManagedProcess,
    Reader,
    ReaderUpdate,
)
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind, error_body
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    BodyChunk,
    BodyEnd,
    ClientLeft,
    ConnectionFailed,
    ResponseHead,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.provider import Account, ProviderSettings

CONFIG = ChatConfig(
    first_token_timeout_s=5, idle_timeout_s=4, total_timeout_s=60, keepalive_s=3, rounds=1
)
PLAN = (Attempt("acme", "a-1"), Attempt("zeus", "z-1"))
UPSTREAMS = {
    name: OpenAIChat(
        Account(
            name,
            "openai-compatible",
            f"http://{name}/v1",
            api_key=f"k-{name}",
            settings=ProviderSettings(),
        )
    )
    for name in ("acme", "zeus")
}
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
HELLO = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
WORLD = b'data: {"choices":[{"delta":{"content":" world"}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
REFUSED = Failure(Kind.UNREACHABLE, "the provider could not be reached")
SILENT = Failure(Kind.TIMEOUT, "the provider could not be reached in time")


def a_session(plan: Plan = PLAN, *, stream: bool = True, **body: Any) -> ChatSession:
    request = ChatRequest(
        {"model": "m", "messages": [{"role": "user"}], "stream": stream, **body}, "m", stream
    )
    return ChatSession(request, plan, UPSTREAMS, CONFIG, now=0.0)


def begun(**kwargs: Any) -> ChatSession:
    session = a_session(**kwargs)
    session.handle(Begin(), 0.0)
    return session


def names(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def written(actions: list[Action]) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Write))


def error_of(data: bytes) -> dict[str, Any]:
    assert data.startswith(b"data: {")
    error: dict[str, Any] = orjson.loads(data.removeprefix(b"data: "))["error"]
    return error


def test_a_request_is_passed_on_with_what_we_do_not_know_and_the_providers_name_for_it() -> None:
    (action,) = a_session(verbosity="low", tools=[{"x": 1}]).handle(Begin(), 0.0)
    assert isinstance(action, Open)
    assert action.dial.url == "http://acme/v1/chat/completions"
    assert action.dial.headers["authorization"] == "Bearer k-acme"
    body = orjson.loads(action.dial.body)
    assert body["model"] == "a-1"
    assert body["verbosity"] == "low"
    assert body["tools"] == [{"x": 1}]


def test_a_deployments_options_are_merged_and_null_removes_one() -> None:
    plan = (Attempt("acme", "a-1", {"seed": None, "temperature": 0.5}),)
    (action,) = a_session(plan=plan, seed=1).handle(Begin(), 0.0)
    assert isinstance(action, Open)
    body = orjson.loads(action.dial.body)
    assert "seed" not in body
    assert body["temperature"] == 0.5


def test_credentials_stay_out_of_what_is_printed() -> None:
    (action,) = a_session().handle(Begin(), 0.0)
    assert "k-acme" not in repr(action)


def test_an_answer_is_relayed_and_ends_cleanly() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    assert session.handle(BodyChunk(1, ROLE), 0.2) == []
    assert session.handle(BodyChunk(1, HELLO), 0.3) == [Start(), Write(ROLE + HELLO)]
    assert session.handle(BodyChunk(1, WORLD + FINISH), 0.4) == [Write(WORLD + FINISH)]
    actions = session.handle(BodyChunk(1, DONE), 0.5)
    assert names(actions) == ["Write", "Leave", "Finish"]
    assert session.report.first_content_at == 0.3
    assert session.report.failure is None


@pytest.mark.parametrize(
    "events",
    [
        [ConnectionFailed(1, SILENT)],
        [ResponseHead(1, 500, {}), BodyEnd(1)],
        [ResponseHead(1, 503, {}), BodyChunk(1, b"<html>"), BodyEnd(1)],
        [ResponseHead(1, 408, {}), BodyEnd(1)],
        [ResponseHead(1, 429, {"retry-after": "30"}), BodyEnd(1)],
        [ResponseHead(1, 401, {}), BodyEnd(1)],
        [ResponseHead(1, 302, {"location": "http://elsewhere"}), BodyEnd(1)],
        [
            ResponseHead(1, 200, {}),
            BodyChunk(1, ROLE),
            ConnectionFailed(1, Failure(Kind.CONNECTION_LOST, "x")),
        ],
        [ResponseHead(1, 200, {}), BodyChunk(1, ROLE), BodyEnd(1)],
        [ResponseHead(1, 200, {}), BodyChunk(1, ROLE + FINISH + DONE)],
        [ResponseHead(1, 200, {}), BodyChunk(1, b'data: {"error": {"message": "x"}}\n\n')],
        [ResponseHead(1, 200, {}), BodyChunk(1, b"data: garbage\n\n")],
        [ResponseHead(1, 200, {}), BodyChunk(1, b"<html>" * 100), BodyEnd(1)],
        [ResponseHead(1, 500, {}), BodyChunk(1, b"x" * 70_000)],
        [ResponseHead(1, 200, {}), BodyChunk(1, b"data: " + b"x" * 2_000_000)],
    ],
)
def test_a_failure_before_the_first_content_leads_to_the_next_without_a_trace(
    events: list[Any],
) -> None:
    session = begun()
    *before, last = events
    for event in before:
        assert session.handle(event, 0.1) == []
    drop, opened = session.handle(last, 0.2)
    assert drop == Drop(1)
    assert isinstance(opened, Open)
    assert opened.attempt == 2
    assert opened.dial.url.startswith("http://zeus/")
    session.handle(ResponseHead(2, 200, {}), 0.3)
    assert session.handle(BodyChunk(2, HELLO), 0.4) == [Start(), Write(HELLO)]
    assert session.report.tries[0].failure is not None
    assert session.report.tries[1].failure is None


def test_a_first_token_that_does_not_come_leads_to_the_next() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, b": still thinking\n\n"), 4.9)
    assert session.handle(DEADLINE_PASSED, 3.0) == [Start(), Write(KEEPALIVE)]
    actions = session.handle(DEADLINE_PASSED, 5.0)
    assert names(actions) == ["Drop", "Open"]


def test_a_late_word_of_an_upstream_that_was_let_go_is_ignored() -> None:
    session = begun()
    session.handle(ConnectionFailed(1, REFUSED), 0.1)
    for late in (
        ResponseHead(1, 200, {}),
        BodyChunk(1, HELLO),
        BodyEnd(1),
        ConnectionFailed(1, REFUSED),
    ):
        assert session.handle(late, 0.2) == []


@pytest.mark.parametrize(
    "event",
    [
        BodyEnd(1),
        ConnectionFailed(1, Failure(Kind.CONNECTION_LOST, "broke")),
        BodyChunk(1, b'data: {"error": {"message": "x"}}\n\n'),
    ],
)
def test_after_the_first_content_a_failure_is_told_and_the_answer_never_ends_cleanly(
    event: Any,
) -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, HELLO), 0.2)
    actions = session.handle(event, 0.3)
    assert names(actions) == ["Drop", "Write", "BreakOff"]
    assert error_of(written(actions))["message"]
    assert not any(isinstance(action, Open | Finish) for action in actions)


def test_half_an_event_is_not_passed_on_before_the_error() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, HELLO), 0.2)
    assert session.handle(BodyChunk(1, WORLD[:20]), 0.3) == []
    actions = session.handle(ConnectionFailed(1, Failure(Kind.CONNECTION_LOST, "broke")), 0.4)
    assert error_of(written(actions))["code"] == "stream_interrupted"


def test_a_pause_in_the_answer_that_is_too_long_is_a_failure() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, HELLO), 1.0)
    actions = session.handle(DEADLINE_PASSED, 5.0)
    assert names(actions) == ["Drop", "Write", "BreakOff"]
    assert error_of(written(actions))["code"] == "upstream_timeout"


def test_a_silent_upstream_is_covered_by_comments_well_under_the_clients_ten_seconds() -> None:
    session = begun()
    assert session.deadline == 3.0
    assert session.handle(DEADLINE_PASSED, 3.0) == [Start(), Write(KEEPALIVE)]
    assert session.deadline == 5.0


def test_when_all_fail_the_last_failure_is_answered() -> None:
    session = begun()
    session.handle(ConnectionFailed(1, SILENT), 0.1)
    session.handle(ResponseHead(2, 429, {"retry-after": "7"}), 0.2)
    drop, refused = session.handle(BodyEnd(2), 0.3)
    assert drop == Drop(2)
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 429
    assert refused.failure.retry_after_s == 7
    assert refused.failure.provider == "zeus"


def test_when_all_fail_after_a_comment_was_sent_the_error_is_an_event() -> None:
    session = begun()
    session.handle(DEADLINE_PASSED, 3.0)
    session.handle(ConnectionFailed(1, SILENT), 3.1)
    actions = session.handle(ConnectionFailed(2, SILENT), 3.2)
    assert names(actions) == ["Drop", "Write", "BreakOff"]


def test_a_refusal_that_nobody_else_can_be_asked_about_is_told() -> None:
    session = begun(plan=PLAN[:1])
    session.handle(ResponseHead(1, 400, {}), 0.1)
    body = b'{"error": {"message": "messages[0].content: too long", "param": "messages"}}'
    session.handle(BodyChunk(1, body), 0.1)
    _, refused = session.handle(BodyEnd(1), 0.2)
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 400
    assert refused.failure.param == "messages"


def test_a_refused_key_is_not_tried_again_at_the_same_provider() -> None:
    session = begun(plan=(PLAN[0], Attempt("acme", "a-2"), PLAN[1]))
    session.handle(ResponseHead(1, 401, {}), 0.1)
    _, opened = session.handle(BodyEnd(1), 0.2)
    assert isinstance(opened, Open)
    assert opened.dial.url.startswith("http://zeus/")


def test_the_operators_bad_key_is_never_the_callers_401() -> None:
    session = begun(plan=PLAN[:1])
    session.handle(ResponseHead(1, 401, {}), 0.1)
    _, refused = session.handle(BodyEnd(1), 0.2)
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 502


def test_an_empty_answer_of_the_last_upstream_is_passed_on() -> None:
    session = begun(plan=PLAN[:1])
    session.handle(ResponseHead(1, 200, {}), 0.1)
    assert names(session.handle(BodyChunk(1, ROLE + FINISH + DONE), 0.2)) == [
        "Start",
        "Write",
        "Leave",
        "Finish",
    ]


def test_a_client_that_leaves_cancels_its_upstream() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    assert session.handle(ClientLeft(), 0.2) == [Drop(1), BreakOff()]
    assert session.report.left
    assert session.deadline is None


def test_all_time_together_is_bounded() -> None:
    session = begun(plan=PLAN * 50)
    now, opened = 0.0, 1
    while session.deadline is not None and now < 100:
        now = session.deadline
        opened += sum(isinstance(action, Open) for action in session.handle(DEADLINE_PASSED, now))
    assert now == 60.0
    assert opened == 12


def test_an_answer_that_is_not_streamed_comes_whole() -> None:
    session = begun(stream=False)
    body = b'{"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}'
    session.handle(ResponseHead(1, 200, {}), 0.1)
    assert session.handle(BodyChunk(1, body[:9]), 0.2) == []
    assert session.handle(BodyChunk(1, body[9:]), 0.3) == []
    assert session.handle(BodyEnd(1), 0.4) == [Leave(1), Reply(body)]
    assert session.report.usage is not None


def test_an_answer_that_is_not_streamed_falls_back_whenever_it_breaks() -> None:
    session = begun(stream=False)
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, b'{"choices"'), 0.2)
    actions = session.handle(ConnectionFailed(1, Failure(Kind.CONNECTION_LOST, "broke")), 0.3)
    assert names(actions) == ["Drop", "Open"]


def test_reasoning_is_not_held_without_bound() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    thought = b'data: {"choices":[{"delta":{"reasoning":"' + b"x" * 600_000 + b'"}}]}\n\n'
    assert session.handle(BodyChunk(1, thought), 0.2) == []
    assert names(session.handle(BodyChunk(1, thought), 0.3)) == ["Start", "Write"]


# -- the same once more, and whom to turn to


def answered(
    session: ChatSession, number: int, status: int, body: bytes = b"", now: float = 0.2
) -> list[Action]:
    session.handle(ResponseHead(number, status, {}), now)
    session.handle(BodyChunk(number, body), now)
    return session.handle(BodyEnd(number), now)


def opened(actions: list[Action]) -> list[str]:
    return [action.dial.url.split("/")[2] for action in actions if isinstance(action, Open)]


def asked(actions: list[Action]) -> dict[str, Any]:
    (action,) = (action for action in actions if isinstance(action, Open))
    body: dict[str, Any] = orjson.loads(action.dial.body)
    return body


def test_an_upstream_that_cannot_be_reached_is_tried_once_more_at_once_then_the_next() -> None:
    session = begun()
    assert opened(session.handle(ConnectionFailed(1, REFUSED), 0.1)) == ["acme"]
    assert opened(session.handle(ConnectionFailed(2, REFUSED), 0.2)) == ["zeus"]


@pytest.mark.parametrize("status", [409, 499])
def test_a_conflict_is_tried_once_more_at_once_then_the_next(status: int) -> None:
    session = begun()
    assert opened(answered(session, 1, status)) == ["acme"]
    assert opened(answered(session, 2, status)) == ["zeus"]


@pytest.mark.parametrize("status", [408, 498, 500, 502, 503, 504, 520])
def test_a_server_error_is_tried_once_more_after_a_pause_only_if_nobody_else_is_left(
    status: int,
) -> None:
    assert opened(answered(begun(), 1, status)) == ["zeus"]
    alone = begun(plan=PLAN[:1])
    assert answered(alone, 1, status, now=1.0) == [Drop(1)]
    assert alone.deadline == 1.25
    assert opened(alone.handle(DEADLINE_PASSED, 1.25)) == ["acme"]
    assert names(answered(alone, 2, status, now=1.5)) == ["Drop", "Refuse"]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 424, 429, 434, 529])
def test_what_would_fail_again_is_not_tried_again(status: int) -> None:
    assert names(answered(begun(plan=PLAN[:1]), 1, status)) == ["Drop", "Refuse"]


def test_a_parameter_that_is_refused_is_left_out_and_the_same_provider_asked() -> None:
    session = begun(seed=1, temperature=0.5)
    body = b'{"error": {"message": "m", "code": "unsupported_parameter", "param": "seed"}}'
    sent = asked(answered(session, 1, 400, body))
    assert sent["model"] == "a-1"
    assert "seed" not in sent
    assert sent["temperature"] == 0.5


@pytest.mark.parametrize("param", ["tools", "messages[0].name", "verbosity", None])
def test_a_parameter_that_cannot_be_left_out_leads_to_the_next_and_last_to_a_400(
    param: str | None,
) -> None:
    session = begun(tools=[{}])
    error = {"message": "m", "code": "unsupported_parameter", "param": param}
    body = orjson.dumps({"error": error})
    assert opened(answered(session, 1, 400, body)) == ["zeus"]
    refused = answered(session, 2, 400, body)[-1]
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 400


def test_only_so_many_parameters_are_left_out() -> None:
    session = begun(plan=PLAN[:1], **dict.fromkeys("abcdef", 1))
    actions: list[Action] = []
    for number, name in enumerate("abcdef", 1):
        error = {"message": "m", "code": "unsupported_parameter", "param": name}
        actions = answered(session, number, 400, orjson.dumps({"error": error}))
        if not opened(actions):
            break
    assert number == 4
    assert isinstance(actions[-1], Refuse)


def test_a_request_too_long_for_one_goes_where_there_may_be_more_room() -> None:
    small, same, unknown, large = (
        Attempt("acme", "a-1", context_tokens=8_000),
        Attempt("zeus", "z-0", context_tokens=8_000),
        Attempt("zeus", "z-1"),
        Attempt("zeus", "z-2", context_tokens=128_000),
    )
    session = begun(plan=(small, same, unknown, large))
    too_long = b'{"error": {"code": "context_length_exceeded", "message": "too long"}}'
    assert asked(answered(session, 1, 400, too_long))["model"] == "z-1"
    assert asked(answered(session, 2, 400, too_long))["model"] == "z-2"
    refused = answered(session, 3, 400, too_long)[-1]
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 400


POLICY = b'{"error": {"code": "content_filter", "message": "no"}}'


def test_what_a_policy_forbids_is_answered_at_once() -> None:
    (_, refused) = answered(begun(), 1, 400, POLICY)
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 400


def test_what_a_policy_forbids_is_tried_elsewhere_if_the_operator_says_so() -> None:
    config = CONFIG.model_copy(update={"retry_content_policy": True})
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    session = ChatSession(request, PLAN, UPSTREAMS, config, now=0.0)
    session.handle(Begin(), 0.0)
    assert opened(answered(session, 1, 400, POLICY)) == ["zeus"]


def test_a_callers_own_fault_keeps_the_providers_words() -> None:
    body = b'{"error": {"message": "bad", "type": "t", "code": "c", "param": "p"}}'
    (_, refused) = answered(begun(plan=PLAN[:1]), 1, 400, body)
    assert isinstance(refused, Refuse)
    assert error_body(refused.failure)["error"] == {
        "message": "bad",
        "type": "t",
        "code": "c",
        "param": "p",
    }


def test_when_all_fail_the_operators_troubles_are_told_last() -> None:
    session = begun()
    answered(session, 1, 429)
    refused = answered(session, 2, 401)[-1]
    assert isinstance(refused, Refuse)
    assert refused.failure.status == 429


# -- health


def test_a_resting_provider_is_asked_last() -> None:
    shared = Shared(CONFIG, Breaker({("acme", "a-1"), ("zeus", "z-1")}))
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)

    def one() -> ChatSession:
        session = ChatSession(request, PLAN, UPSTREAMS, CONFIG, 0.0, shared)
        assert opened(session.handle(Begin(), 0.0))
        return session

    first = one()
    first.handle(ResponseHead(1, 429, {"retry-after": "5"}), 0.1)
    assert opened(first.handle(BodyEnd(1), 0.1)) == ["zeus"]
    assert first.report.tries[0].rests
    second = ChatSession(request, PLAN, UPSTREAMS, CONFIG, 0.2, shared)
    assert opened(second.handle(Begin(), 0.2)) == ["zeus"]
    third = ChatSession(request, PLAN, UPSTREAMS, CONFIG, 6.0, shared)
    assert opened(third.handle(Begin(), 6.0)) == ["acme"]


def test_headers_that_say_nothing_is_left_spare_the_next_caller_a_refusal() -> None:
    shared = Shared(CONFIG, Breaker({("acme", "a-1"), ("zeus", "z-1")}))
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    session = ChatSession(request, PLAN, UPSTREAMS, CONFIG, 0.0, shared)
    session.handle(Begin(), 0.0)
    head = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}
    session.handle(ResponseHead(1, 200, head), 0.1)
    other = ChatSession(request, PLAN, UPSTREAMS, CONFIG, 0.2, shared)
    assert opened(other.handle(Begin(), 0.2)) == ["zeus"]


# -- hedging


def hedged(plan: Plan = PLAN, **hedge: Any) -> ChatSession:
    config = CONFIG.model_copy(
        update={"hedge": HedgeConfig(**{"enabled": True, "after_s": 1.0, **hedge})}
    )
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    session = ChatSession(request, plan, UPSTREAMS, config, 0.0)
    session.handle(Begin(), 0.0)
    return session


def test_a_silent_upstream_gets_company_and_the_first_to_speak_wins() -> None:
    session = hedged()
    assert session.deadline == 1.0
    assert opened(session.handle(DEADLINE_PASSED, 1.0)) == ["zeus"]
    session.handle(ResponseHead(1, 200, {}), 1.1)
    session.handle(ResponseHead(2, 200, {}), 1.1)
    session.handle(BodyChunk(1, ROLE), 1.2)
    assert session.handle(BodyChunk(2, ROLE + HELLO), 1.3) == [
        Drop(1),
        Start(),
        Write(ROLE + HELLO),
    ]
    assert session.handle(BodyChunk(1, HELLO), 1.4) == []
    assert names(session.handle(BodyChunk(2, FINISH + DONE), 1.5)) == ["Write", "Leave", "Finish"]
    first, second = session.report.tries
    assert (first.lost, first.hedge) == (True, False)
    assert (second.lost, second.hedge) == (False, True)
    assert session.report.served is second


def test_the_first_may_still_win() -> None:
    session = hedged()
    session.handle(DEADLINE_PASSED, 1.0)
    assert session.handle(BodyChunk(1, HELLO), 1.2) == [Drop(2), Start(), Write(HELLO)]


def test_a_failure_beside_a_hedge_costs_nothing() -> None:
    session = hedged()
    session.handle(DEADLINE_PASSED, 1.0)
    assert session.handle(ConnectionFailed(1, SILENT), 1.2) == [Drop(1)]
    assert session.handle(BodyChunk(2, HELLO), 1.3) == [Start(), Write(HELLO)]


def test_an_upstream_that_reasons_gets_no_company() -> None:
    session = hedged()
    thought = b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'
    assert session.handle(BodyChunk(1, thought), 0.5) == []
    assert session.deadline == 3.0  # the comment


def test_so_many_are_asked_and_no_more() -> None:
    session = hedged(plan=(*PLAN, PLAN[0]), extra_max=1)
    session.handle(DEADLINE_PASSED, 1.0)
    assert session.handle(DEADLINE_PASSED, 2.0) == [Start(), Write(KEEPALIVE)]


def test_hedges_are_a_share_of_all_requests() -> None:
    hedges = HedgeBudget(0.25)
    spent = 0
    for _ in range(100):
        hedges.earn()
        spent += hedges.spend()
    assert 25 <= spent <= 26


def test_without_a_time_the_deployments_own_p95_decides() -> None:
    config = CONFIG.model_copy(update={"hedge": HedgeConfig(enabled=True)})
    shared = Shared(config)
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    for i in range(30):
        shared.breaker.record_ttft(PLAN[0], 0.5 + i / 1000)
    session = ChatSession(request, PLAN, UPSTREAMS, config, 0.0, shared)
    session.handle(Begin(), 0.0)
    assert session.deadline is not None
    assert 0.5 < session.deadline < 0.6


def test_a_client_that_leaves_cancels_both() -> None:
    session = hedged()
    session.handle(DEADLINE_PASSED, 1.0)
    assert session.handle(ClientLeft(), 1.1) == [Drop(1), Drop(2), BreakOff()]


# -- places


def limited(
    shared: Shared, priority: str = "standard", plan: Plan = PLAN[:1], now: float = 0.0
) -> tuple[ChatSession, list[Action]]:
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    session = ChatSession(request, plan, UPSTREAMS, CONFIG, now, shared, RANKS[priority])
    return session, session.handle(Begin(), now)


def one_place() -> Shared:
    return Shared(CONFIG, None, ConcurrencyLimiter({("acme", "a-1"): Limits(concurrency=1)}))


def test_a_request_waits_for_a_place_and_is_asked_once_it_is_granted() -> None:
    shared = one_place()
    first, _ = limited(shared)
    second, (wait,) = limited(shared)
    assert isinstance(wait, Wait)
    granted: list[int] = []
    wait.place.on_grant = lambda: granted.append(wait.attempt)
    first.handle(BodyChunk(1, HELLO + FINISH + DONE), 1.0)
    assert granted == [1]
    assert opened(second.handle(Granted(1), 1.0)) == ["acme"]


def test_a_place_is_returned_however_an_attempt_ends() -> None:
    for ending in (ClientLeft(), ConnectionFailed(1, SILENT), BodyEnd(1)):
        shared = one_place()
        first, _ = limited(shared)
        first.handle(ending, 0.5)
        _, (action,) = limited(shared, now=0.6)
        assert isinstance(action, Open)


def test_a_free_deployment_is_taken_before_waiting_for_a_full_one() -> None:
    shared = one_place()
    limited(shared)
    _, actions = limited(shared, plan=PLAN)
    assert opened(actions) == ["zeus"]


def test_nothing_waits_past_its_deadline() -> None:
    shared = one_place()
    limited(shared)
    second, _ = limited(shared)
    assert second.handle(DEADLINE_PASSED, 3.0) == [Start(), Write(KEEPALIVE)]
    assert second.deadline == 4.0
    drop, error, _ = second.handle(DEADLINE_PASSED, 4.0)
    assert drop == Drop(1)
    assert isinstance(error, Write)
    assert b"rate_limited" in error.data


# -- rounds


def rounds(of: int = 3, **hedge: Any) -> ChatSession:
    update = {"rounds": of, "hedge": HedgeConfig(**hedge)}
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", True)
    session = ChatSession(request, PLAN, UPSTREAMS, CONFIG.model_copy(update=update), 0.0)
    session.handle(Begin(), 0.0)
    return session


def test_when_all_have_failed_for_the_moment_they_are_asked_again_after_a_pause() -> None:
    session = rounds()
    session.handle(ConnectionFailed(1, SILENT), 0.1)
    assert answered(session, 2, 503, now=0.2) == [Drop(2)]
    assert session.deadline == 0.45
    assert opened(session.handle(DEADLINE_PASSED, 0.45)) == ["acme"]
    assert session.handle(BodyChunk(3, HELLO), 0.5) == [Start(), Write(HELLO)]


def test_a_short_wish_to_wait_is_kept_to_and_a_long_one_is_not_waited_for() -> None:
    session = rounds()
    session.handle(ResponseHead(1, 429, {"retry-after": "1"}), 0.1)
    session.handle(BodyEnd(1), 0.1)
    session.handle(ResponseHead(2, 429, {"retry-after": "30"}), 0.2)
    assert session.handle(BodyEnd(2), 0.2) == [Drop(2)]
    assert session.deadline == 1.2
    assert opened(session.handle(DEADLINE_PASSED, 1.2)) == ["acme"]
    session.handle(ResponseHead(3, 401, {}), 1.3)
    assert names(session.handle(BodyEnd(3), 1.3)) == ["Drop", "Refuse"]


def test_there_are_only_so_many_rounds_with_longer_pauses() -> None:
    session = rounds(3)
    now, pauses, number = 0.0, [], 0
    while session.deadline is not None:
        number += 1
        actions = answered(session, number, 503, now=now)
        if actions == [Drop(number)]:
            pauses.append(session.deadline - now)
            now = session.deadline
            session.handle(DEADLINE_PASSED, now)
    assert number == 6
    assert pauses == [0.25, 0.5]


def test_what_will_not_pass_is_not_asked_again() -> None:
    session = rounds()
    answered(session, 1, 401)
    assert names(answered(session, 2, 404)) == ["Drop", "Refuse"]


def test_beside_one_that_stalls_the_others_are_gone_through_again() -> None:
    session = rounds(enabled=True, after_s=0.5)
    assert opened(session.handle(DEADLINE_PASSED, 0.5)) == ["zeus"]
    assert answered(session, 2, 503, now=0.6) == [Drop(2)]
    assert session.deadline == 0.85
    assert opened(session.handle(DEADLINE_PASSED, 0.85)) == ["zeus"]
    assert session.handle(BodyChunk(3, HELLO), 0.9) == [Drop(1), Start(), Write(HELLO)]


def test_an_answer_that_comes_in_one_piece_is_not_asked_for_twice() -> None:
    config = CONFIG.model_copy(update={"hedge": HedgeConfig(enabled=True, after_s=1.0)})
    request = ChatRequest({"model": "m", "messages": [{}]}, "m", False)
    session = ChatSession(request, PLAN, UPSTREAMS, config, 0.0)
    session.handle(Begin(), 0.0)
    assert session.deadline == 60.0


def test_an_answer_whose_end_alone_is_missing_is_whole() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, HELLO + FINISH), 0.2)
    actions = session.handle(DEADLINE_PASSED, 4.2)
    assert names(actions) == ["Write", "Leave", "Finish"]
    assert written(actions) == DONE


def test_a_providers_refusal_is_tried_elsewhere_and_the_first_one_told_if_all_refuse() -> None:
    session = begun()
    first = b'{"error": {"message": "first: no"}}'
    assert isinstance(answered(session, 1, 400, first)[-1], Open)
    refused = answered(session, 2, 400, b'{"error": {"message": "second: no"}}')[-1]
    assert isinstance(refused, Refuse)
    assert (refused.failure.status, refused.failure.message) == (400, "first: no")


@pytest.mark.parametrize("status", [406, 407, 415, 418, 421, 425, 431, 451, 494, 600, 999])
def test_a_status_that_nobody_listed_is_tried_elsewhere(status: int) -> None:
    assert isinstance(answered(begun(), 1, status, b"")[-1], Open)


@pytest.mark.parametrize(
    "beat", [b": ping\n\n", b'data: {"choices":[{"delta":{"content":""}}]}\n\n']
)
def test_bytes_are_not_progress(beat: bytes) -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, ROLE + HELLO), 0.2)
    for second in range(1, 4):
        session.handle(BodyChunk(1, beat), float(second))
    assert session.deadline is not None
    assert session.deadline <= 0.2 + CONFIG.idle_timeout_s
    ended = session.handle(DEADLINE_PASSED, 0.2 + CONFIG.idle_timeout_s)
    assert names(ended)[-2:] == ["Write", "BreakOff"]


def test_an_answer_is_over_soon_after_its_finish_reason_whatever_still_comes() -> None:
    session = begun()
    session.handle(ResponseHead(1, 200, {}), 0.1)
    session.handle(BodyChunk(1, ROLE + HELLO), 0.2)
    session.handle(BodyChunk(1, FINISH), 1.0)
    session.handle(BodyChunk(1, b": ping\n\n"), 1.5)
    assert session.deadline == 1.0 + ENDING_S
    assert names(session.handle(DEADLINE_PASSED, 1.0 + ENDING_S))[-1] == "Finish"


class Raising:
    """An adapter that raises wherever it is asked something."""

    streamed = True

    def __init__(self, at: str) -> None:
        self._at = at

    def _maybe(self, what: str) -> None:
        if what == self._at:
            raise TypeError("what a provider sends is without end")

    def warm(self) -> None:
        return None

    def dial(self, request: ChatRequest, attempt: Attempt) -> Dial:
        self._maybe("dial")
        return UPSTREAMS["acme"].dial(request, attempt)

    def reader(self, request: ChatRequest, attempt: Attempt) -> Reader:
        return self

    def exhausted_for_s(self, headers: Mapping[str, str]) -> float | None:
        return None

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        self._maybe("failure")
        return Failure(Kind.UPSTREAM_ERROR, "x")

    def feed(self, data: bytes) -> ReaderUpdate:
        self._maybe("feed")
        return ReaderUpdate(forward=data, content=True, progress=True)

    def finish(self) -> ReaderUpdate:
        self._maybe("finish")
        return ReaderUpdate(finished=True)


@pytest.mark.parametrize("at", ["dial", "feed", "finish", "failure"])
def test_an_adapter_that_raises_is_its_providers_failure(at: str) -> None:
    request = a_session()._request
    upstreams: dict[str, ChatUpstream] = {"acme": Raising(at), "zeus": UPSTREAMS["zeus"]}
    session = ChatSession(request, PLAN, upstreams, CONFIG, 0.0)
    actions = session.handle(Begin(), 0.0)
    if at == "failure":
        session.handle(ResponseHead(1, 500, {}), 0.1)
        actions = session.handle(BodyEnd(1), 0.1)
    elif at == "feed":
        actions = session.handle(BodyChunk(1, b"x"), 0.1)
    elif at == "finish":
        actions = session.handle(BodyEnd(1), 0.1)
    opened = [action for action in actions if isinstance(action, Open)]
    assert "http://zeus" in opened[-1].dial.url


class LocalModel(OpenAIChat, HasProcesses):
    """A model in a process of its own."""

    def __init__(self) -> None:
        account = Account(
            "here", "openai-compatible", "http://here/v1", settings=ProviderSettings()
        )
        super().__init__(account)
        self.process = ManagedProcess("small", ("run",), "{}")
        self.companions = {"small": self.process}


def with_a_local_model(*plan: Attempt) -> tuple[ChatSession, LocalModel]:
    local = LocalModel()
    request = ChatRequest({"model": "m", "messages": [], "stream": True}, "m", True)
    return ChatSession(request, plan, {**UPSTREAMS, "here": local}, CONFIG, now=0.0), local


HERE = Attempt("here", "small")


def test_a_model_that_is_being_loaded_is_waited_for_with_comments() -> None:
    session, local = with_a_local_model(HERE)
    assert session.handle(Begin(), 0.0) == [AwaitModel(1, local.process)]
    assert session.deadline == 3.0
    assert session.handle(DEADLINE_PASSED, 3.0) == [Start(), Write(LOADING)]
    assert session.handle(DEADLINE_PASSED, 6.0) == [Write(LOADING)]
    local.process.address = "http://127.0.0.1:4"
    (opened,) = session.handle(Loaded(1, ready=True), 7.0)
    assert isinstance(opened, Open)
    session.handle(ResponseHead(1, 200, {}), 7.1)
    assert session.handle(BodyChunk(1, HELLO), 7.2) == [Write(HELLO)]


def test_a_model_that_cannot_be_loaded_is_refused_with_words_and_does_not_rest() -> None:
    session, _ = with_a_local_model(HERE)
    session.handle(Begin(), 0.0)
    (_, refused) = session.handle(Loaded(1, ready=False), 1.0)
    assert isinstance(refused, Refuse)
    assert refused.failure.kind is Kind.OVERLOADED
    assert not session.report.tries[0].rests


def test_a_model_is_not_waited_for_without_end() -> None:
    session, _ = with_a_local_model(HERE)
    session.handle(Begin(), 0.0)
    now = 0.0
    actions: list[Action] = []
    while not any(isinstance(action, BreakOff) for action in actions):
        assert session.deadline is not None
        now = session.deadline
        actions = session.handle(DEADLINE_PASSED, now)
    assert now <= LOADING_S_MAX


def test_whoever_is_ready_is_asked_before_a_model_that_is_being_loaded() -> None:
    session, _ = with_a_local_model(HERE, PLAN[0])
    (opened,) = session.handle(Begin(), 0.0)
    assert isinstance(opened, Open)
    assert opened.dial.url == "http://acme/v1/chat/completions"
