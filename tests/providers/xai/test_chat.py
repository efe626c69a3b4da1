"""What Grok is asked."""

from __future__ import annotations

from typing import Any

from tests.providers.chats import asked


def test_only_models_that_do_not_reason_take_penalties_and_stop_sequences() -> None:
    given: dict[str, Any] = {"presence_penalty": 1, "frequency_penalty": 1, "stop": ["x"]}
    assert not given.keys() & asked("xai", "grok-4", **given).keys()
    assert given.keys() <= asked("xai", "grok-4-fast-non-reasoning", **given).keys()
