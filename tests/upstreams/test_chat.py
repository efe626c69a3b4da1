"""What a chat provider may say of tokens."""

from __future__ import annotations

import pytest

from gateway.upstreams.chat import TOKENS_MAX, token_count


@pytest.mark.parametrize("value", [0, 1, TOKENS_MAX])
def test_a_count_of_tokens_is_taken(value: int) -> None:
    assert token_count(value) == value


@pytest.mark.parametrize("value", [None, True, "3", 3.0, -1, TOKENS_MAX + 1, 1 << 63, [], {}])
def test_what_no_database_takes_as_a_count_is_none(value: object) -> None:
    assert token_count(value) is None
