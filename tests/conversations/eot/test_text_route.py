"""What the multilingual plugin asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given

from gateway.conversations.eot import text_route
from gateway.conversations.eot.text_route import (
    ITEMS_MAX,
    NO_PREDICTION,
    Conversation,
    EotMultiRoute,
    Language,
    read_request,
)
from gateway.engines.turn_detection.text import Turn
from gateway.settings.eot import EotConfig
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.errors import Failure
from tests.conversations.hostile import anything, assert_is_a_clear_refusal


def test_a_conversation_is_what_user_and_assistant_said() -> None:
    body = b"""{"items": [
        {"type": "message", "role": "system", "content": ["Be kind."]},
        {"type": "message", "role": "assistant", "content": ["Hello.", {"type": "image"}, "You?"]},
        {"type": "agent_handoff", "new_agent_id": "x"},
        {"type": "message", "role": "user", "content": ["I was"], "interrupted": false},
        {"type": "message", "role": "user", "content": []}
    ], "jobId": "AJ_1", "workerId": "AW_1"}"""

    assert read_request(body) == Conversation(
        [Turn("assistant", "Hello.\nYou?"), Turn("user", "I was")]
    )


def test_the_plugin_asks_for_a_languages_threshold_at_the_same_address() -> None:
    assert read_request(b'{"language": "en-US"}') == Language("en-US")


def test_content_may_be_plain_text() -> None:
    body = b'{"items": [{"type": "message", "role": "user", "content": "hello"}]}'

    assert read_request(body) == Conversation([Turn("user", "hello")])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "the body is not JSON"),
        (b"[]", "the body: expected a JSON object"),
        (b"{}", "items: expected a list of messages"),
        (b'{"items": {}}', "items: expected a list of messages"),
        (b'{"language": 3}', "items: expected a list of messages"),
        (b'{"items": [3]}', "items[0]: expected an object"),
        (b'{"items": [{"role": "user", "content": 3}]}', "items[0].content: expected a list"),
        (b'{"items": [{"role": "user"}]}', "items[0].content: expected a list"),
        (b'{"items": [{"role": []}]}', "items[0].role: expected a string"),
        (b'{"items": [{}, {"role": {}}]}', "items[1].role: expected a string"),
        (b'{"language": "en\\u0000"}', "language: expected a name"),
        (
            b'{"items": [' + b",".join([b"{}"] * (ITEMS_MAX + 1)) + b"]}",
            f"items: expected at most {ITEMS_MAX}",
        ),
    ],
)
def test_a_body_in_another_form_is_refused(body: bytes, expected: str) -> None:
    failure = read_request(body)

    assert isinstance(failure, Failure)
    assert failure.message.startswith(expected)
    assert failure.status == 400


def test_what_is_no_message_may_have_any_form() -> None:
    body = b"""{"items": [
        {"type": "function_call", "content": 5},
        {"type": ["new"], "content": {}},
        {"role": "system", "content": null},
        {"type": "message"}
    ]}"""

    assert read_request(body) == Conversation([])


CONVERSATION: dict[str, Any] = {
    "items": [
        {"type": "message", "role": "assistant", "content": ["Hello.", {"type": "image"}]},
        {"type": "agent_handoff", "new_agent_id": "x"},
        {"type": "message", "role": "user", "content": "I was"},
    ],
    "jobId": "AJ_1",
    "workerId": "AW_1",
}


@given(anything(CONVERSATION, {"language": "en-US"}))
def test_whatever_comes_is_a_request_or_a_clear_refusal(text: str) -> None:
    request = read_request(text.encode("utf-8", "surrogatepass"))
    if isinstance(request, Failure):
        assert_is_a_clear_refusal(request)
    elif isinstance(request, Conversation):
        assert all(turn.role in ("user", "assistant") for turn in request.turns)


class Engine:
    """Stands for the batcher: answers with `said` at once, or never."""

    def __init__(self, *said: float | None) -> None:
        self.said = said
        self.left = 0

    def place(self, answered: Callable[..., None]) -> Engine:
        self.answered = answered
        return self

    def ask(self, question: Sequence[Turn]) -> None:
        for one in self.said:
            self.answered(question, one, None)

    def leave(self) -> None:
        self.left += 1


def endpoint(engine: Engine) -> EotMultiRoute:
    made = EotMultiRoute(EotConfig(), Metrics(), 1 << 20)
    made._batcher = engine  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(("said", "told"), [(0.25, 0.25), (None, NO_PREDICTION)])
async def test_a_model_that_was_too_busy_has_no_prediction(said: float | None, told: float) -> None:
    engine = Engine(said)

    assert await endpoint(engine)._probability([Turn("user", "I was")]) == told
    assert engine.left == 1


async def test_a_model_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_route, "ANSWER_S_MAX", 0.0)
    engine = Engine()

    assert await endpoint(engine)._probability([Turn("user", "I was")]) == NO_PREDICTION
    assert engine.left == 1


async def test_where_nobody_said_anything_the_model_is_not_asked() -> None:
    engine: Any = None  # it would break

    assert await endpoint(engine)._probability([]) == NO_PREDICTION
