"""What an answer costs, by a price table of the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from gateway.settings.prices import Price

MILLION: Final = 1_000_000

LOOKUPS_MAX: Final = 4096
"""Names whose price is remembered: callers may invent names by a provider's prefix."""


class Prices:
    """Looks prices up: by deployment (`provider:model`), then by the name that callers use. A name
    in the table may end in `*`."""

    def __init__(self, table: Mapping[str, Price]) -> None:
        self._table = dict(table)
        self._wild = sorted(
            ((name[:-1], price) for name, price in table.items() if name.endswith("*")),
            key=lambda one: -len(one[0]),
        )
        self.of = lru_cache(LOOKUPS_MAX)(self._of)

    def _of(self, provider: str, deployment: str, model: str) -> Price | None:
        for name in (f"{provider}:{deployment}", model):
            if (price := self._table.get(name)) is not None:
                return price
        for name in (f"{provider}:{deployment}", model):
            for beginning, price in self._wild:
                if name.startswith(beginning):
                    return price
        return None


FREE: Final = Prices({})
"""Nothing costs anything."""


def tokens_cost(
    price: Price, prompt: int, completion: int, cached: int = 0, cache_write: int = 0
) -> float:
    """What an answer of so many tokens costs; `cached` and `cache_write` are part of `prompt`."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    plain = max(0, prompt - cached - cache_write)
    return (
        price.request
        + (
            plain * price.input
            + cached * cached_price
            + cache_write * write_price
            + completion * price.output
        )
        / MILLION
    )


def speech_cost(price: Price, audio_s: float, characters: int) -> float:
    """What so much speech costs, heard or spoken."""
    return (
        price.request + audio_s / 60 * price.audio_minute + characters * price.characters / MILLION
    )
