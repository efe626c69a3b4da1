"""What every vendor owes us."""

import pytest

from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, base_url_variable, find, type_names

KEY = "key-that-must-not-be-shown"


@pytest.mark.parametrize("type_name", type_names())
def test_a_vendor_says_what_it_is(type_name: str):
    provider = find(type_name)
    assert provider.title
    assert base_url_variable(type_name).replace("_", "").isalnum()
    assert provider.key_variable is None or provider.key_variable.isupper()
    for conversation in ("chat", "stt", "tts"):
        assert not provider.models(conversation) or provider.serves(conversation)
    assert any(provider.serves(c) for c in ("chat", "stt", "tts"))


@pytest.mark.parametrize("type_name", [n for n in type_names() if find(n).chat is not None])
def test_a_chat_adapter_dials_and_reads_errors_without_showing_its_key(type_name: str):
    provider = find(type_name)
    account = Account(
        "p",
        type_name,
        provider.base_url or "http://127.0.0.1:9/v1",
        KEY,
        settings=provider.settings(type=type_name),
    )
    upstream = provider.chat(account)
    request = ChatRequest(
        {"model": "x/m", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        "x/m",
        True,
    )
    dial = upstream.dial(request, Attempt("p", "m"))
    assert KEY not in repr(dial)
    assert KEY not in repr(account)
    for status in (400, 401, 404, 429, 500):
        failure = upstream.failure(status, {}, f'{{"error": "{KEY}"}}'.encode())
        assert isinstance(failure, Failure)


def test_an_unknown_vendor_is_a_key_error():
    with pytest.raises(KeyError):
        find("nobody")
    with pytest.raises(KeyError):
        find("_openai_dialect")
