"""What Grok is asked."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.upstreams.chat import HasResponses
from gateway.upstreams.plan import Attempt
from tests.providers.chats import asked, upstream


def test_only_models_that_do_not_reason_take_penalties_and_stop_sequences() -> None:
    given: dict[str, Any] = {"presence_penalty": 1, "frequency_penalty": 1, "stop": ["x"]}
    assert not given.keys() & asked("xai", "grok-4", **given).keys()
    assert given.keys() <= asked("xai", "grok-4-fast-non-reasoning", **given).keys()


def test_responses_have_their_instructions_as_a_first_message_and_only_what_grok_takes() -> None:
    adapter = upstream("xai")
    assert isinstance(adapter, HasResponses)
    body = {
        "model": "m",
        "instructions": "Be brief.",
        "input": [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}],
        "metadata": {"a": "b"},
        "store": False,
    }
    dial = adapter.responses(body, Attempt("xai", "grok-4.5"))
    assert dial is not None
    assert dial.url == "https://api.x.ai/v1/responses"
    assert orjson.loads(dial.body) == {
        "model": "grok-4.5",
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "system", "content": "x"},
            {"role": "user", "content": "hi"},
        ],
        "store": False,
    }
    assert adapter.responses({}, Attempt("xai", "grok-4.5")) is not None
    assert adapter.responses_reader(stream=True).streamed
