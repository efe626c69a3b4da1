"""Models of our own in place of vendors that have no provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.routing.catalogue import Catalogue
from gateway.routing.stand_in import StandIns
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Modality, ProviderSettings, find

pytest.importorskip("espeakng_loader")
pytest.importorskip("phonemizer")

VOICE = Attempt("local", "kokoro", stand_in="local/kokoro")


@pytest.fixture
def local(tmp_path: Path) -> Account:
    vendor = find("local")
    settings = vendor.settings(type="local", voice_folder=tmp_path)
    return vendor.account("local", settings)


def provider(name: str, type_name: str) -> Account:
    return find(type_name).account(name, ProviderSettings(type=type_name))


def catalogue(*accounts: Account, modality: Modality = "tts") -> Catalogue:
    by_name = {account.name: account for account in accounts}
    return Catalogue({}, by_name, modality, stand_ins=StandIns(accounts, modality))


@pytest.mark.parametrize("model", ["cartesia/sonic-3", "cartesia/one-of-next-year", "elevenlabs/x"])
def test_a_vendor_without_a_provider_is_stood_in_for(local: Account, model: str) -> None:
    assert catalogue(local).plan(model) == (VOICE,)


def test_it_is_told_by_its_own_name(local: Account) -> None:
    made = catalogue(local)
    assert made.stand_in_name("cartesia/sonic-3", "local") == "local/kokoro"
    assert made.stand_in_name("local/kokoro", "local") is None
    assert made.model_label("local/kokoro") == "local/kokoro"


@pytest.mark.parametrize("model", ["cartesai/sonic-3", "sonic-3", "cartesian", "local/x"])
def test_a_name_that_is_nobodys_is_not_stood_in_for(local: Account, model: str) -> None:
    plan = catalogue(local).plan(model)
    assert isinstance(plan, Failure) or plan[0].stand_in is None


def test_a_vendor_with_a_provider_is_never_replaced(local: Account) -> None:
    made = catalogue(provider("my-cartesia", "cartesia"), local)
    assert made.plan("cartesia/sonic-3") == (Attempt("my-cartesia", "sonic-3"),)
    assert isinstance(made.plan("cartesia/unknown"), Failure)
    assert made.stand_in_name("cartesia/sonic-3", "local") is None


def test_the_clients_fallback_comes_before_what_stands_in(local: Account) -> None:
    made = catalogue(provider("elevenlabs", "elevenlabs"), local)
    plan = made.plan("cartesia/sonic-3", fallbacks=[("elevenlabs/eleven_flash_v2_5", {})])
    assert not isinstance(plan, Failure)
    assert [attempt.provider for attempt in plan] == ["elevenlabs", "local"]


def test_a_vendor_is_stood_in_for_only_in_what_it_does(local: Account) -> None:
    assert isinstance(catalogue(local, modality="chat").plan("cartesia/sonic-3"), Failure)


def test_without_an_engine_nothing_stands_in() -> None:
    made = catalogue(provider("elevenlabs", "elevenlabs"))
    assert made.stand_in is None
    assert isinstance(made.plan("cartesia/sonic-3"), Failure)
