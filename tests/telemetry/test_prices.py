"""What an answer costs."""

import logging

import pytest

from gateway.settings.prices import Price
from gateway.settings.usage import UsageConfig
from gateway.telemetry.prices import (
    Prices,
    prices_in,
    realtime_cost,
    speech_cost,
    tokens_cost,
    told_unpriced,
)
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.realtime import TokensUsed


def test_cached_tokens_have_their_own_price() -> None:
    price = Price(input=2.0, cached_input=0.5, output=8.0)
    assert tokens_cost(price, 1_000_000, 0, 400_000) == 1_400_000_000
    assert tokens_cost(price, 0, 250_000) == 2_000_000_000


def test_what_has_no_price_of_its_own_costs_as_input() -> None:
    assert tokens_cost(Price(input=2.0), 1_000_000, 0, 400_000, 100_000) == 2_000_000_000


def test_a_deployment_comes_before_a_name_and_a_name_before_a_star() -> None:
    prices = Prices(
        {
            "groq:openai/gpt-oss-120b": Price(input=1),
            "openai/gpt-oss-120b": Price(input=2),
            "openai/*": Price(input=3),
            "openai/gpt-5*": Price(input=4),
        }
    )

    def of(provider: str, deployment: str, model: str) -> float | None:
        price = prices.of(provider, deployment, model)
        return None if price is None else price.input

    assert of("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b") == 1
    assert of("cerebras", "gpt-oss-120b", "openai/gpt-oss-120b") == 2
    assert of("openai", "gpt-4o", "openai/gpt-4o") == 3
    assert of("openai", "gpt-5-mini", "openai/gpt-5-mini") == 4
    assert of("xai", "grok", "xai/grok") is None


def test_speech_is_paid_by_the_minute_and_by_the_character() -> None:
    assert speech_cost(Price(audio_minute=0.6), 30.0, 0) == 300_000_000
    assert speech_cost(Price(characters=10.0, request=1.0), 0, 100_000) == 2_000_000_000


def test_a_token_for_a_hundredth_a_million_has_a_price_of_its_own() -> None:
    assert tokens_cost(Price(input=0.01), 1, 0) == 10


def test_the_operators_table_comes_before_the_shipped_one() -> None:
    prices = Prices(
        {"mine": Price(input=1)},
        {"main": "openai", "here": "local"},
        {"openai:gpt-4o": Price(input=2.5), "deepgram:nova-3": Price(audio_minute=1)},
    )

    def of(attempt: Attempt) -> float | None:
        price = prices.of_attempt(attempt)
        return None if price is None else price.input

    assert of(Attempt("main", "gpt-4o", names=frozenset({"mine"}))) == 1
    assert of(Attempt("main", "gpt-4o", names=frozenset({"openai/gpt-4o"}))) == 2.5
    assert of(Attempt("main", "gpt-4o-2024-08-06")) == 2.5
    assert of(Attempt("main", "gpt-4o-audio")) is None
    assert of(Attempt("here", "base", names=frozenset({"mine"}), stand_in="local/base")) is None


def test_tokens_of_audio_have_prices_of_their_own() -> None:
    price = Price(
        input=4.0, cached_input=0.4, output=16.0,
        audio_input=32.0, cached_audio_input=0.5, audio_output=64.0,
    )  # fmt: skip
    used = TokensUsed(
        input=100, output=50, cached=40, audio_input=60, cached_audio=30, audio_output=20
    )
    # 30 of text in, 10 of them cached by text; 30 of audio in, 30 cached; 30 and 20 out
    expected = 30 * 4.0 + 10 * 0.4 + 30 * 32.0 + 30 * 0.5 + 30 * 16.0 + 20 * 64.0
    assert realtime_cost(price, used, 0.0, 1) == round(expected * 1000)


def test_without_a_price_of_its_own_audio_costs_as_text() -> None:
    price = Price(input=2.0, output=8.0)
    used = TokensUsed(input=10, output=5, audio_input=10, audio_output=5)
    assert realtime_cost(price, used, 0.0, 1) == (20 + 40) * 1000


def test_a_vendor_may_bill_by_the_minute_and_by_the_session() -> None:
    price = Price(session_minute=0.05, request=1.0)
    assert realtime_cost(price, TokensUsed(), 90.0, 2) == 2_075_000_000
    assert realtime_cost(price, TokensUsed(), 0.0, 0) == 0


def test_a_model_without_a_price_is_told_once_and_one_of_this_machine_never(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accounts = {
        name: Account(name, kind, "http://rack/v1", "k", settings=ProviderSettings())
        for name, kind in (("rack", "openai-compatible"), ("local", "local"))
    }
    tell = told_unpriced(accounts, logging.WARNING)
    prices = prices_in(UsageConfig(), {"rack:priced": Price(input=1)}, accounts, tell)
    for _ in range(3):
        assert prices.of_attempt(Attempt("rack", "m")) is None
        assert prices.of_attempt(Attempt("local", "kokoro")) is None
        assert prices.of_attempt(Attempt("rack", "priced")) is not None
    (line,) = caplog.records
    assert (vars(line)["provider"], vars(line)["model"]) == ("rack", "m")
    assert line.levelname == "WARNING"
