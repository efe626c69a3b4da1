"""What a vendor's file offers, how it is found, and the provider that its adapters are given."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.upstreams.dial import websocket_url
from gateway.upstreams.provider import (
    Account,
    Offer,
    ProviderSettings,
    Vendor,
    base_url_variable,
    find,
    type_names,
)


class Settings(ProviderSettings):
    region: str = "eu"


def region_of(account: Account[Settings]) -> str:
    return account.settings.region


ACME = Vendor(title="Acme", base_url="https://acme", key_variable=None, settings=Settings)


def test_a_type_is_named_as_its_file_with_dashes_and_shared_kits_are_none() -> None:
    assert "openai-compatible" in type_names()
    assert not [name for name in type_names() if name.startswith(("_", "-"))]
    assert type_names() == tuple(sorted(type_names()))
    assert find("openai-compatible").title == "OpenAI-compatible server"


@pytest.mark.parametrize("name", ["nobody", "openai_compatible", "_shared", "", "../config"])
def test_what_is_no_type_is_not_imported(name: str) -> None:
    with pytest.raises(KeyError):
        find(name)


def test_the_variable_of_an_address_is_made_from_the_type() -> None:
    assert base_url_variable("azure-openai") == "AZURE_OPENAI_BASE_URL"


def test_a_vendor_offers_what_it_has_an_adapter_for() -> None:
    assert not ACME.offers
    assert list(find("deepgram").offers) == ["stt", "tts"]
    assert find("deepgram").offers["tts"].models["deepgram"] == "aura-2"


def test_an_adapter_is_given_the_settings_of_its_vendor() -> None:
    account = ACME.account("mine", Settings(type="acme", region="us"))
    assert Offer(region_of).adapter(account) == "us"


def test_a_provider_lives_where_its_settings_say_or_else_where_its_vendor_does() -> None:
    assert ACME.account("mine", Settings(type="acme")).base_url == "https://acme"
    own = Settings(type="acme", base_url="http://127.0.0.1:1")
    assert ACME.account("mine", own).base_url == "http://127.0.0.1:1"


def test_secrets_reach_the_adapter_and_no_repr() -> None:
    settings = Settings.model_validate(
        {"type": "acme", "api_key": "secret-1", "headers": {"x-team": "secret-2"}}
    )
    account = ACME.account("mine", settings)
    assert (account.name, account.type) == ("mine", "acme")
    assert (account.api_key, account.headers) == ("secret-1", {"x-team": "secret-2"})
    assert "secret" not in repr(account)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected a URL that starts with http"):
        ProviderSettings(base_url="127.0.0.1:8000")
    assert ProviderSettings(base_url="wss://a").base_url == "wss://a"


def test_a_scheme_in_capitals_is_dialled_as_what_it_is() -> None:
    settings = ProviderSettings(base_url="HTTPS://api.example.com/V1")
    assert settings.base_url == "https://api.example.com/V1"
    assert websocket_url(settings.base_url) == "wss://api.example.com/V1"
