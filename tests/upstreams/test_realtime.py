from __future__ import annotations

from gateway.upstreams.realtime import TokensUsed


def test_tokens_are_added_kind_by_kind() -> None:
    assert TokensUsed(1, 2, 3, 4, 5, 6) + TokensUsed(10, 20, 30, 40, 50, 60) == TokensUsed(
        11, 22, 33, 44, 55, 66
    )
