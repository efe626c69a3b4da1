"""What an answer costs, by a price table of the operator's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from gateway.settings.prices import Price
from gateway.settings.usage import UsageConfig
from gateway.telemetry.outcome import DEPLOYMENT_CHARS_MAX, NANO
from gateway.telemetry.price_list import SHIPPED
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, find
from gateway.upstreams.realtime import TokensUsed

_logger = logging.getLogger(__name__)

MILLION: Final = 1_000_000

LOOKUPS_MAX: Final = 4096
"""Names whose price is remembered: callers may invent names by a provider's prefix."""


class Prices:
    """Looks prices up: in the operator's table by deployment (`provider:model`), then by the names
    that callers use, a name there may end in `*`; then in the shipped one by the provider's type
    (`openai:gpt-4o`; `types`: by the provider's name)."""

    def __init__(
        self,
        table: Mapping[str, Price],
        types: Mapping[str, str] | None = None,
        shipped: Mapping[str, Price] | None = None,
        on_missing: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_missing` hears of a provider and its model, once, when something without a price is
        asked for."""
        self._table = dict(table)
        self._types = types or {}
        self._shipped = shipped or {}
        self._wild = sorted(
            ((name[:-1], price) for name, price in table.items() if name.endswith("*")),
            key=lambda one: -len(one[0]),
        )
        self._on_missing = on_missing
        self.of = lru_cache(LOOKUPS_MAX)(self._of)

    def of_attempt(self, attempt: Attempt) -> Price | None:
        """The price of what an attempt asks for."""
        if attempt.stand_in is not None:  # it has not the price of what it stands in for
            return self.of(attempt.provider, attempt.model, attempt.stand_in)
        return self.of(attempt.provider, attempt.model, *sorted(attempt.names))

    def _of(self, provider: str, deployment: str, *names: str) -> Price | None:
        known = (f"{provider}:{deployment}", *names)
        for name in known:
            if (price := self._table.get(name)) is not None:
                return price
        for name in known:
            for beginning, price in self._wild:
                if name.startswith(beginning):
                    return price
        vendor = self._types.get(provider, "")
        for model in (deployment, _DATE.sub("", deployment)):
            if (price := self._shipped.get(f"{vendor}:{model}")) is not None:
                return price
        if self._on_missing is not None:
            self._on_missing(provider, deployment)
        return None


def told_unpriced(accounts: Mapping[str, Account], level: int) -> Callable[[str, str], None]:
    """Says in the log, at `level`, that a model has no price; those that run here cost what the
    machine does."""

    def tell(provider: str, model: str) -> None:
        account = accounts.get(provider)
        if account is not None and find(account.type).available is None:
            _logger.log(
                level,
                "a model has no price: it costs nothing in usage, credits and budgets (`prices`)",
                extra={"provider": provider, "model": model[:DEPLOYMENT_CHARS_MAX]},
            )

    return tell


def prices_in(
    usage: UsageConfig,
    table: Mapping[str, Price],
    accounts: Mapping[str, Account],
    on_missing: Callable[[str, str], None] | None = None,
) -> Prices:
    """The operator's table, and for accounts at a vendor's own address the shipped one."""
    if not usage.shipped_prices or usage.currency != "USD":
        return Prices(table, on_missing=on_missing)
    types = {
        name: account.type
        for name, account in accounts.items()
        if account.base_url == find(account.type).base_url
    }
    return Prices(table, types, SHIPPED, on_missing)


_DATE: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""At the end of a model's name: a version of it costs what the model does."""


def tokens_cost(
    price: Price, prompt: int, completion: int, cached: int = 0, cache_write: int = 0
) -> int:
    """What an answer of so many tokens costs, in billionths; `cached` and `cache_write` are part of
    `prompt`."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    plain = max(0, prompt - cached - cache_write)
    tokens = (
        plain * price.input
        + cached * cached_price
        + cache_write * write_price
        + completion * price.output
    )
    return round(price.request * NANO + tokens * (NANO // MILLION))


def realtime_cost(price: Price, used: TokensUsed, open_s: float, lines: int) -> int:
    """What sessions of speech-to-speech cost, in billionths: `lines` to the provider, all together
    open for `open_s`, and tokens of text and audio."""
    audio = price.input if price.audio_input is None else price.audio_input
    cached_audio = audio if price.cached_audio_input is None else price.cached_audio_input
    spoken = price.output if price.audio_output is None else price.audio_output
    heard = max(0, used.audio_input - used.cached_audio)
    text = tokens_cost(
        price,
        used.input - used.audio_input,
        used.output - used.audio_output,
        used.cached - used.cached_audio,
    )
    tokens = heard * audio + used.cached_audio * cached_audio + used.audio_output * spoken
    minutes = price.session_minute * open_s / 60
    # `tokens_cost` counts one request
    return text + round(
        (lines - 1) * price.request * NANO + minutes * NANO + tokens * (NANO // MILLION)
    )


def speech_cost(price: Price, audio_s: float, characters: int, requests: int = 1) -> int:
    """What so much speech costs, heard or spoken, in billionths."""
    return round(
        requests * price.request * NANO
        + audio_s / 60 * price.audio_minute * NANO
        + characters * price.characters * (NANO // MILLION)
    )
