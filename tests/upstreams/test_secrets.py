"""What is configured as a secret is shown to nobody, whatever it looks like."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from gateway.providers._shared.chat_errors import failure_of
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.errors import Failure, Kind, error_body, presentable, quoted
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import find
from gateway.upstreams.secrets import MASK, SECRETS, KnownSecrets

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


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "form",
    [
        KEY.upper(),
        KEY.encode().hex(),
        "".join(f"%{ord(letter):02X}" for letter in KEY),
        *(
            base64_of(f"{before}{KEY}{after}")
            for before in ("", "u:", "me:")
            for after in ("", "xy")
        ),
    ],
)
def test_nothing_of_a_secret_is_left_whatever_it_was_written_in(form: str) -> None:
    struck = presentable(f"refused: {form}")
    assert MASK in struck
    assert form[6:-6] not in struck


@pytest.mark.parametrize("secret", ['pass"word\\1', "gehe im Grün", "a/b+c=d&e?f", "line\nbreak1"])
def test_a_secret_with_odd_letters_is_struck_out_of_logs_and_urls(secret: str) -> None:
    known = KnownSecrets()
    known.learn([secret])
    escaped = json.dumps({"x": secret})
    plain = orjson.dumps({"x": secret}).decode()
    for text in (secret, escaped, plain, quote(secret, safe="")):
        assert known.strike(text).count(MASK) == 1
        assert secret[:6] not in known.strike(text)


def test_a_secret_that_is_repeated_until_the_text_is_cut_leaves_no_half() -> None:
    for count in range(40, 800, 37):
        for space in ("", " ", "  "):
            assert KEY[:6] not in presentable(f"{space}{KEY}" * count)
    assert KEY[:6] not in quoted("x" * 50 + KEY)


def test_no_failure_holds_one_whoever_made_its_words() -> None:
    failure = Failure(Kind.UPSTREAM_ERROR, f"it is {KEY}", KEY, upstream_text=f"said {KEY}")
    assert KEY not in repr(failure)
    assert replace(failure, message=f"and {KEY}").message == f"and {MASK}"


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": KEY}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "x" * 40 + KEY}]},
        {"error": {"message": KEY, "code": KEY, "type": KEY, "param": KEY}},
        {"error": KEY},
        {"type": "error", "message": KEY},
        {"detail": KEY},
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_no_event_of_a_stream_shows_it(event: dict[str, Any], clean: bool) -> None:
    vendor = find("openai-compatible")
    given = {"type": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "clean": clean}
    assert vendor.chat is not None
    adapter = vendor.chat.adapter(vendor.account("p", vendor.settings.model_validate(given)))
    reader = adapter.reader(ChatRequest({}, "m", True, usage=True), Attempt("p", "m"))
    update = reader.feed(b"data: " + orjson.dumps(event) + b"\n\n")
    assert update.failure is not None
    assert KEY[:12] not in repr(update.failure)


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
