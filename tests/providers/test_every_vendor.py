"""What every vendor owes us."""

from __future__ import annotations

import pytest

from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, base_url_variable, find, type_names
from tests.end_to_end import test_stt_providers
from tests.providers import recognizers
from tests.providers.recognizers import recognizer

KEY = "key-that-must-not-be-shown"


def account(type_name: str) -> Account:
    """A provider of this vendor, with the vendor's own settings at their defaults."""
    vendor = find(type_name)
    settings = {"type": type_name, "api_key": KEY}
    if vendor.base_url is None:
        settings["base_url"] = "http://127.0.0.1:9/v1"
    return vendor.account("p", vendor.settings.model_validate(settings))


@pytest.mark.parametrize("type_name", type_names())
def test_a_vendor_says_what_it_is(type_name: str) -> None:
    vendor = find(type_name)
    assert vendor.title
    assert base_url_variable(type_name).replace("_", "").isalnum()
    assert vendor.key_variable is None or vendor.key_variable.isupper()
    assert vendor.offers


@pytest.mark.parametrize("type_name", type_names())
def test_its_adapters_are_made_from_its_own_settings(type_name: str) -> None:
    # an adapter that wants a class of settings which the vendor does not name fails here
    for offer in find(type_name).offers.values():
        assert offer.adapter(account(type_name)) is not None


@pytest.mark.parametrize("type_name", [n for n in type_names() if find(n).chat is not None])
def test_a_chat_adapter_dials_and_reads_errors_without_showing_its_key(type_name: str) -> None:
    offer = find(type_name).chat
    assert offer is not None
    upstream = offer.adapter(account(type_name))
    request = ChatRequest(
        {"model": "x/m", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        "x/m",
        True,
    )
    dial = upstream.dial(request, Attempt("p", "m"))
    assert KEY not in repr(dial)
    assert KEY not in repr(account(type_name))
    for status in (400, 401, 404, 429, 500):
        failure = upstream.failure(status, {}, f'{{"error": "{KEY}"}}'.encode())
        assert isinstance(failure, Failure)


RECOGNISERS = [
    (name, model)
    for name in type_names()
    if (offer := find(name).stt) is not None
    for model in dict.fromkeys(offer.models.values())
    if isinstance(recognizer(name, model).dial(), Dial)
]
"""Those that are reached by a socket: vendors and their models."""


@pytest.mark.parametrize(("type_name", "model"), RECOGNISERS)
def test_a_recognisers_key_travels_in_a_header_alone(type_name: str, model: str) -> None:
    dialled = recognizer(type_name, model).dial()
    assert isinstance(dialled, Dial)
    assert recognizers.KEY not in dialled.url
    assert any(recognizers.KEY in value for value in dialled.headers.values())
    assert recognizers.KEY not in repr(dialled)


@pytest.mark.parametrize(("type_name", "model"), RECOGNISERS)
def test_a_recogniser_can_be_dialled_without_a_language(type_name: str, model: str) -> None:
    assert isinstance(recognizer(type_name, model, None).dial(), Dial)


def test_every_recogniser_is_tried_behind_the_real_server() -> None:
    assert {name for name, _ in RECOGNISERS} <= set(test_stt_providers.FAKES)


def test_an_unknown_vendor_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        find("nobody")
    with pytest.raises(KeyError):
        find("_openai")
