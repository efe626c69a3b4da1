"""URLs are really parsed, and shown without what nobody may read."""

import pytest

from gateway.settings.urls import UPSTREAM_SCHEMES, problem, shown


@pytest.mark.parametrize(
    "url",
    [
        "http://a", "https://api.openai.com/v1", "ws://h:1/x", "wss://h:65535", "http://[::1]:8000/v1",
        "http://my_host:8080", "http://user:password@host/v1", "HTTP://HOST",
    ],
)  # fmt: skip
def test_an_address_of_a_server_is_taken(url: str) -> None:
    assert problem(url, UPSTREAM_SCHEMES) == ""


@pytest.mark.parametrize(
    "url",
    [
        "", "host", "host:80", "//host", "http:", "http://", "http:///v1", "http://:80", "ftp://h",
        "http://h:0", "http://h:65536", "http://h:-1", "http://h:x", "http://[::1", "http://[x]:1",
        "http://h\n", "http://h h", "http://h\x00", "http://<host>/v1", "http://{host}",
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_with_what_was_expected(url: str) -> None:
    assert problem(url, UPSTREAM_SCHEMES).startswith("expected ")


def test_a_store_may_be_reached_without_a_host() -> None:
    assert problem("postgresql:///db", ("postgresql", "postgres"), host=False) == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/v1", "http://h/v1"),
        ("http://u:p@h:1/v1", "http://***@h:1/v1"),
        ("redis://:p@h/0", "redis://***@h/0"),
        ("http://u:p@ss@h", "http://***@h"),
        ("http://[u:p@h", "***"),
    ],
)
def test_users_and_passwords_are_not_shown(url: str, expected: str) -> None:
    assert shown(url) == expected
