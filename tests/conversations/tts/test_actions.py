"""What a session hears and asks for are values."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from gateway.conversations.tts import actions


@pytest.mark.parametrize("one", [*get_args(actions.Action), *get_args(actions.Event)])
def test_every_event_and_action_is_an_immutable_value_with_a_meaning(one: Any) -> None:
    if not issubclass(one, tuple):
        assert dataclasses.is_dataclass(one)
        params: Any = vars(one)["__dataclass_params__"]
        assert params.frozen
    assert not hasattr(one, "__dict__") or "__slots__" in vars(one)
    assert one.__doc__


def test_no_name_stands_for_an_event_and_for_an_action() -> None:
    events = {one.__name__ for one in get_args(actions.Event)}
    assert not events & {one.__name__ for one in get_args(actions.Action)}
