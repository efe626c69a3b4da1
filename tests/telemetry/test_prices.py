"""What an answer costs."""

from gateway.settings.prices import Price
from gateway.telemetry.prices import Prices, speech_cost, tokens_cost
from gateway.upstreams.plan import Attempt


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
