"""What the multilingual plugin asks for."""

from __future__ import annotations

import pytest

from gateway.eot.multi import ITEMS_MAX, Conversation, Language, read_request
from gateway.eot.text import Turn
from gateway.errors import Failure


def test_a_conversation_is_what_user_and_assistant_said():
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


def test_the_plugin_asks_for_a_languages_threshold_at_the_same_address():
    assert read_request(b'{"language": "en-US"}') == Language("en-US")


def test_content_may_be_plain_text():
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
        (
            b'{"items": [' + b",".join([b"{}"] * (ITEMS_MAX + 1)) + b"]}",
            f"items: expected at most {ITEMS_MAX}",
        ),
    ],
)
def test_a_body_in_another_form_is_refused(body: bytes, expected: str):
    failure = read_request(body)

    assert isinstance(failure, Failure)
    assert failure.message.startswith(expected)
    assert failure.status == 400
