"""`inference.LLM` of the real clients, through the real server, to providers that misbehave."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import ALONE, FALLING_BACK, Upstreams
from tests.end_to_end.server import Server

SAID = "Hello there, how can I help?"
BEGUN = "Hello there,"
BROKEN_OFF = [
    "reset-after-content",
    "cut-after-content",
    "cut-in-event",
    "ends-without-finish",
    "error-after-content",
]
TOLD = ["text", "tools", "tools-two-in-one-chunk", "delta-null", "reasoning"]

UNASKED = ["endless", "named"]

Chats = dict[str, list[Event]]


@pytest.fixture(scope="module")
def chats(client: Client, server: Server, upstreams: Upstreams) -> Chats:
    """Every conversation of this module, all at once in one client: name -> events."""
    for name in ("endless", "named"):
        upstreams[name].forget()
    special = [
        {"name": "structured", "text": "say: structured", "structured": True, "tools": False},
        {"name": "leaving", "text": "Hello", "model": "test/endless", "stop_after": 3},
        {"name": "named", "text": "Hello", "model": "test/named", "provider": "good"},
        {"name": "extra", "text": "say: echo", "extra": {"seed": 7, "verbosity": "low"}},
    ]
    told = [f"say: {name}" for name in TOLD]
    models = [f"test/{name}::Hello" for name in {**FALLING_BACK, **ALONE} if name not in UNASKED]
    events = client.drive(
        "drive_llm", "--together", "--tools", "--follow-up", "--prewarm",
        *told, *models, *map(json.dumps, special),
        environment=server.agent_environment(),
    )  # fmt: skip
    found: Chats = {}
    for event in events:
        found.setdefault(event.get("chat", ""), []).append(event)
    return found


def last(events: list[Event]) -> Event:
    return events[-1]


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def test_a_reply_is_streamed_with_its_usage(chats: Chats) -> None:
    events = chats["say: text"]

    assert len(of_kind(events, "content")) == 6
    assert last(events)["text"] == SAID
    (usage,) = of_kind(events, "usage")
    counted = {key: usage[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert counted == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
    assert usage["prompt_cached_tokens"] == 4


@pytest.mark.parametrize("scenario", ["tools", "tools-two-in-one-chunk"])
def test_parallel_tool_calls_arrive_whole(chats: Chats, scenario: str) -> None:
    made = of_kind(chats[f"say: {scenario}"], "tool_call")

    heard = [(call["call_id"], call["name"], json.loads(call["arguments"])) for call in made[:2]]
    assert heard == [
        ("call_a1", "get_time", {"city": "Oslo"}),
        ("call_b2", "get_weather", {"city": "Rome"}),
    ]


def test_a_thought_signature_makes_the_round_trip(chats: Chats) -> None:
    events = chats["test/gemini::Hello"]

    (call,) = of_kind(events, "tool_call")
    assert call["extra"]["google"]["thought_signature"]
    assert last(events)["text"] == SAID


@pytest.mark.parametrize("scenario", ["delta-null", "reasoning"])
def test_what_providers_add_does_not_disturb_the_client(chats: Chats, scenario: str) -> None:
    assert last(chats[f"say: {scenario}"]).get("text") == SAID


@pytest.mark.parametrize("model", [name for name in FALLING_BACK if name not in UNASKED])
def test_the_first_upstreams_failure_goes_unnoticed(chats: Chats, model: str) -> None:
    events = chats[f"test/{model}::Hello"]

    assert of_kind(events, "error") == []
    assert last(events)["event"] == "answered"
    assert last(events)["text"] == SAID


@pytest.mark.parametrize("model", BROKEN_OFF)
def test_an_answer_that_breaks_off_is_an_error_and_no_short_answer(
    chats: Chats, model: str
) -> None:
    end = last(chats[f"test/{model}::Hello"])

    assert end["event"] == "failed"
    assert end["text"] == BEGUN
    assert end["retryable"] is False


@pytest.mark.parametrize("model", ["slow", "slow-headers"])
def test_comments_let_a_slow_first_token_through(chats: Chats, model: str) -> None:
    asked, *rest = chats[f"test/{model}::Hello"]

    assert last(rest)["event"] == "answered"
    assert last(rest)["text"] == SAID
    assert rest[0]["at"] - asked["at"] > 11.0


def test_a_mistake_of_the_clients_is_not_retried(chats: Chats) -> None:
    end = last(chats["test/bad-request::Hello"])

    assert (end["event"], end["status"], end["retryable"]) == ("failed", 400, False)


@pytest.mark.parametrize("model", ["bad-key", "cancelled-upstream"])
def test_an_upstreams_trouble_is_never_taken_for_the_clients(chats: Chats, model: str) -> None:
    end = last(chats[f"test/{model}::Hello"])

    assert end["event"] == "failed"
    assert end["status"] in (502, 503)


def test_the_upstream_gets_the_providers_key_and_name_of_the_model(
    chats: Chats, upstreams: Upstreams
) -> None:
    assert chats
    request = upstreams["slow"].completions[0]

    assert request.headers["authorization"] == "Bearer key-of-slow"
    assert request.body["model"] == "first"
    assert [tool["function"]["name"] for tool in request.body["tools"]] == [
        "get_time",
        "get_weather",
    ]


def test_a_structured_answer_is_asked_for_and_given(chats: Chats) -> None:
    assert json.loads(last(chats["structured"])["text"]) == {"city": "x", "floor": 1}


def test_what_the_server_does_not_know_is_passed_on(chats: Chats) -> None:
    asked = json.loads(last(chats["extra"])["text"])

    assert (asked["seed"], asked["verbosity"]) == (7, "low")


def test_a_client_that_leaves_takes_its_upstream_along(chats: Chats, upstreams: Upstreams) -> None:
    assert last(chats["leaving"])["event"] == "left"
    (request,) = upstreams["endless"].completions

    assert upstreams["endless"].wait_until(lambda: request.disconnected_early)


def test_a_provider_can_be_asked_for_by_name(chats: Chats, upstreams: Upstreams) -> None:
    assert last(chats["named"])["text"] == SAID
    assert upstreams["named"].completions == []


def test_a_wrong_secret_is_refused_for_good(client: Client, server: Server) -> None:
    environment = {**server.agent_environment(), "LIVEKIT_API_SECRET": "wrong" * 8}

    events = client.drive("drive_llm", "Hello", environment=environment)

    assert (last(events)["event"], last(events)["status"]) == ("failed", 401)
    assert last(events)["retryable"] is False
