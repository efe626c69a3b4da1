"""Model names to plans."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, load
from gateway.routing.catalogue import NAME_CHARS_MAX, Catalogue
from gateway.settings.models import Deployment
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, find

PROVIDERS = """
providers:
  openai: {api_key: x}
  east: {type: openai-compatible, base_url: "http://east/v1", models: [llama]}
  west: {type: openai-compatible, base_url: "http://west/v1"}
"""


def accounts(name: str) -> dict[str, Account]:
    """A server of one's own."""
    settings = find("openai-compatible").settings(type="openai-compatible")
    return {name: Account(name, "openai-compatible", "http://x/v1", settings=settings)}


def routes(tmp_path: Path, models: str = "", seed: int = 1) -> Catalogue:
    file = tmp_path / "c.yaml"
    file.write_text(PROVIDERS + models)
    config = load(file, {})
    return Catalogue(config.models, config.accounts(), "chat", random.Random(seed))


def asked(routes: Catalogue, model: str, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    plan = routes.plan(model, *args, **kwargs)
    assert not isinstance(plan, Failure), plan
    return [(attempt.provider, attempt.model) for attempt in plan]


def test_the_configuration_comes_before_the_catalogue(tmp_path: Path) -> None:
    made = routes(tmp_path, "models: {openai/gpt-4.1: [{provider: west, model: w}]}")
    assert asked(made, "openai/gpt-4.1") == [("west", "w")]
    assert asked(made, "openai/gpt-4o") == [("openai", "gpt-4o")]
    assert asked(made, "east/llama") == [("east", "llama")]


def test_an_alias_stands_for_another_names_deployments(tmp_path: Path) -> None:
    made = routes(
        tmp_path,
        """
models:
  fast: [openai/gpt-4.1-mini, {provider: east, model: llama}]
  usual: fast
  cold: {model: usual}
""".replace("  cold: {model: usual}\n", "  cold: [{model: usual, options: {temperature: 0}}]\n"),
    )
    expected = [("openai", "gpt-4.1-mini"), ("east", "llama")]
    assert asked(made, "usual") == expected
    assert asked(made, "cold") == expected
    cold = made.plan("cold")
    assert not isinstance(cold, Failure)
    assert cold[1].options == {"temperature": 0}


def test_an_alias_in_a_circle_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leads back"):
        routes(tmp_path, "models: {a: b, b: [c], c: a}")


def test_a_star_stands_for_the_rest_of_the_name(tmp_path: Path) -> None:
    made = routes(
        tmp_path,
        """
models:
  "local/*": [{provider: east, model: "*"}]
  "local/big-*": [{provider: west, model: "huge-*"}, {provider: east, model: fixed}]
""",
    )
    assert asked(made, "local/qwen:7b") == [("east", "qwen:7b")]
    assert asked(made, "local/big-one") == [("west", "huge-one"), ("east", "fixed")]
    assert isinstance(made.plan("local/"), Failure)


def test_weights_draw_the_first_and_keep_the_others_behind(tmp_path: Path) -> None:
    made = routes(
        tmp_path,
        """
models:
  m:
    - {provider: east, model: e, weight: 3}
    - {provider: west, model: w, weight: 1}
    - {provider: openai, model: o}
""",
    )
    first = Counter(asked(made, "m")[0][0] for _ in range(2000))
    assert 0.7 < first["east"] / 2000 < 0.8
    assert all(asked(made, "m")[2] == ("openai", "o") for _ in range(20))
    assert len(asked(made, "m")) == 3


def test_a_clients_fallbacks_follow_with_parameters_of_their_own(tmp_path: Path) -> None:
    made = routes(tmp_path)
    plan = made.plan("openai/gpt-4o", None, [("east/llama", {"temperature": 0.1})])
    assert not isinstance(plan, Failure)
    assert [(a.provider, a.options) for a in plan] == [
        ("openai", {}),
        ("east", {"temperature": 0.1}),
    ]
    unknown = made.plan("openai/gpt-4o", None, [("nobody/x", {})])
    assert isinstance(unknown, Failure)
    assert unknown.param == "fallback"


def test_a_fallbacks_parameters_leave_the_operators_as_they_are(tmp_path: Path) -> None:
    made = routes(
        tmp_path,
        """
models:
  m: [{provider: east, model: e, options: {max_tokens: 100, logit_bias: null}}]
""",
    )
    extra = {"max_tokens": 9000, "logit_bias": {"1": 5}, "seed": 1}
    plan = made.plan("openai/gpt-4o", None, [("m", extra)])
    assert not isinstance(plan, Failure)
    assert plan[1].options == {"max_tokens": 100, "logit_bias": None, "seed": 1}


def test_a_pinned_provider_serves_alone_or_says_that_it_does_not(tmp_path: Path) -> None:
    made = routes(tmp_path, "models: {m: [{provider: east, model: e}, {provider: west, model: w}]}")
    assert asked(made, "m", "west") == [("west", "w")]
    refused = made.plan("m", "openai")
    assert isinstance(refused, Failure)
    assert refused.status == 400


@pytest.mark.parametrize("name", ["nobody/x", "openai", "/x", "openai/", "x" * 100_000])
def test_an_unknown_name_is_a_short_404(tmp_path: Path, name: str) -> None:
    failure = routes(tmp_path).plan(name)
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.NOT_FOUND
    assert len(failure.message) < 300


def test_a_name_beyond_the_bound_reaches_nobody_by_prefix(tmp_path: Path) -> None:
    assert isinstance(routes(tmp_path).plan("openai/" + "x" * NAME_CHARS_MAX), Failure)


def test_limits_are_for_one_deployment(tmp_path: Path) -> None:
    made = routes(tmp_path, "models: {m: [{provider: east, model: e, concurrency: 2}]}")
    assert made.limits[("east", "e")].concurrency == 2
    with pytest.raises(ConfigError, match="limits are for one model"):
        routes(tmp_path, 'models: {"m/*": [{provider: east, model: "*", concurrency: 2}]}')


def test_a_configured_name_is_listed_only_for_what_it_is() -> None:
    models = {
        "openai/gpt-4.1-mini": [Deployment(provider="rack", model="llama")],
        "cartesia/sonic-3": [Deployment(provider="rack", model="m")],
        "ears": [Deployment(provider="rack", model="whisper-large")],
    }
    listed = {
        modality: set(Catalogue(models, accounts("rack"), modality).names())
        for modality in ("chat", "stt", "tts")
    }
    assert listed == {"chat": {"openai/gpt-4.1-mini"}, "stt": {"ears"}, "tts": {"cartesia/sonic-3"}}


def test_a_name_that_is_not_listed_is_served_all_the_same() -> None:
    models = {"mine": [Deployment(provider="rack", model="unheard-of")]}
    catalogue = Catalogue(models, accounts("rack"), "stt")
    assert "mine" not in catalogue.names()
    assert catalogue.plan("mine") == (Attempt("rack", "unheard-of"),)
    assert catalogue.model_label("mine") == "mine"


def test_names_with_a_star_are_listed_as_patterns() -> None:
    models = {"mine/*": [Deployment(provider="rack", model="*")]}
    catalogue = Catalogue(models, accounts("rack"), "chat")
    assert catalogue.names() == {}
    assert catalogue.patterns() == {"mine/*": (Attempt("rack", "*"),)}


def test_an_attempt_knows_the_names_by_which_it_came_into_the_plan(tmp_path: Path) -> None:
    made = routes(tmp_path, "models: {fast: middle, middle: [{provider: east, model: m}]}")
    plan = made.plan("middle", fallbacks=[("fast", {})])
    assert not isinstance(plan, Failure)
    direct, fallback = plan
    assert direct.names == {"middle"}
    assert fallback.names == {"fast", "middle"}


KEYS: dict[str, str] = {
    "DEEPSEEK_API_KEY": "a",
    "XAI_API_KEY": "b",
    "GOOGLE_API_KEY": "c",
}


def built_in(environ: dict[str, str], *, successors: bool = False) -> Catalogue:
    config = load(None, environ, dev=True)
    return Catalogue(config.models, config.accounts(), "chat", successors=successors)


def test_a_model_that_its_vendor_has_ended_is_refused_with_what_took_its_place() -> None:
    for name in ("deepseek-ai/deepseek-v3.2", "xai/grok-4-1-fast-reasoning"):
        found = built_in(KEYS).plan(name)
        assert isinstance(found, Failure)
        assert found.kind is Kind.NOT_FOUND
        assert "ended" in found.message
        assert "took its place" in found.message
    assert "2026-07-24" in str(built_in(KEYS).plan("deepseek-ai/deepseek-v3"))
    assert "xai/grok-4-1-fast-reasoning" in built_in(KEYS).ended()


def test_the_successor_serves_where_the_operator_wants_it() -> None:
    made = built_in(KEYS, successors=True)
    assert asked(made, "deepseek-ai/deepseek-v3") == [("deepseek", "deepseek-flash")]
    assert asked(made, "xai/grok-4-1-fast-reasoning") == [("xai", "grok-4.3")]
    assert made.ended() == {}


def test_a_model_that_one_vendor_has_ended_is_served_by_another() -> None:
    made = built_in({"DEEPSEEK_API_KEY": "a", "BASETEN_API_KEY": "b"})
    assert asked(made, "deepseek-ai/deepseek-v3.1") == [("baseten", "deepseek-ai/DeepSeek-V3.1")]
    assert "deepseek-ai/deepseek-v3.1" not in made.ended()


def test_a_name_that_the_operator_has_set_is_not_ended(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: {deepseek-ai/deepseek-v3: [{provider: deepseek, model: mine}]}")
    config = load(file, KEYS, dev=True)
    made = Catalogue(config.models, config.accounts(), "chat")
    assert asked(made, "deepseek-ai/deepseek-v3") == [("deepseek", "mine")]


def test_clients_names_of_previews_reach_the_ids_that_the_vendor_has() -> None:
    made = built_in(KEYS)
    assert asked(made, "google/gemini-3-flash") == [("google", "gemini-3-flash-preview")]
    assert asked(made, "google/gemini-3.1-pro-preview") == [("google", "gemini-3.1-pro-preview")]


AZURE = {
    "AZURE_OPENAI_API_KEY": "a",
    "AZURE_OPENAI_BASE_URL": "https://a.openai.azure.com",
}


def test_a_pin_means_a_provider_by_its_vendors_type_or_by_livekits_word(tmp_path: Path) -> None:
    made = built_in({"OPENAI_API_KEY": "o", **AZURE})
    assert asked(made, "openai/gpt-4o", "azure") == [("azure-openai", "gpt-4o")]
    assert asked(made, "openai/gpt-4o", "openai") == [("openai", "gpt-4o")]
    assert asked(built_in(AZURE), "openai/gpt-4o", "azure") == [("azure-openai", "gpt-4o")]
    file = tmp_path / "c.yaml"
    file.write_text(
        "providers: {eu: {type: openai, api_key: x}, us: {type: openai, api_key: y}}\n"
        "models: {m: [{provider: us, model: u}, {provider: eu, model: e}]}"
    )
    config = load(file, {})
    made = Catalogue(config.models, config.accounts(), "chat")
    assert asked(made, "m", "openai") == [("us", "u"), ("eu", "e")]
    assert asked(made, "m", "eu") == [("eu", "e")]


def test_without_a_pin_nobody_guesses_at_a_deployment() -> None:
    assert isinstance(built_in(AZURE).plan("openai/gpt-4o"), Failure)
