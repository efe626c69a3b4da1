"""What is configured as a secret is shown to nobody, whatever it looks like."""

import base64
from collections.abc import Iterator

import pytest

from gateway.providers._shared.chat_errors import failure_of
from gateway.upstreams.errors import error_body, presentable
from gateway.upstreams.secrets import SECRETS, KnownSecrets

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    SECRETS.learn([KEY])
    yield
    SECRETS.forget()


@pytest.mark.parametrize(
    "form", [KEY, base64.b64encode(KEY.encode()).decode(), f"https://u:{KEY}@h/x?key={KEY}"]
)
def test_a_secret_is_struck_out_in_every_form(form: str) -> None:
    assert KEY not in presentable(f"refused: {form}")
    assert form[8:24] not in presentable(f"refused: {form}") or "://" in form


@pytest.mark.parametrize("status", [400, 404, 422, 429, 503])
@pytest.mark.parametrize("field", ["message", "type", "code", "param"])
def test_no_field_of_a_providers_error_shows_it(status: int, field: str) -> None:
    body = f'{{"error": {{"message": "m", "{field}": "key {KEY} is bad"}}}}'.encode()
    assert KEY not in str(error_body(failure_of(status, {}, body)))


def test_a_code_of_thousands_of_digits_is_none() -> None:
    body = b'{"error": {"message": "m", "code": ' + b"9" * 5000 + b"}}"
    assert len(str(error_body(failure_of(400, {}, body)))) < 700


def test_a_year_without_end_is_no_time_to_wait() -> None:
    headers = {"retry-after": "Wed, 21 Oct 99999 07:28:10 GMT", "date": "nonsense"}
    assert failure_of(503, headers, b"").retry_after_s is None


def test_what_is_short_is_no_secret() -> None:
    known = KnownSecrets()
    known.learn(["secret", ""])
    assert known.strike("a secret") == "a secret"
