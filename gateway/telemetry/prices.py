"""What an answer costs, by a price table of the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pydantic import Field

from gateway.settings.section import Section

MILLION: Final = 1_000_000

LOOKUPS_MAX: Final = 4096
"""Names whose price is remembered: callers may invent names by a provider's prefix."""


class Price(Section):
    """Prices of one model, in whatever currency the operator thinks in."""

    input: float = Field(0.0, ge=0)
    """A million prompt tokens."""
    cached_input: float | None = Field(None, ge=0)
    """A million prompt tokens that the provider had in its cache. Default: as `input`."""
    cache_write: float | None = Field(None, ge=0)
    """A million prompt tokens that it put there. Default: as `input`."""
    output: float = Field(0.0, ge=0)
    """A million completion tokens, reasoning among them."""
    audio_minute: float = Field(0.0, ge=0)
    """A minute of audio that is heard."""
    characters: float = Field(0.0, ge=0)
    """A million characters that are spoken."""
    request: float = Field(0.0, ge=0)
    """One request or session."""


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
