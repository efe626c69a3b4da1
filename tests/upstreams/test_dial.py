"""Where to reach a provider, as data."""

from __future__ import annotations

import pytest
from yarl import URL

from gateway.upstreams.dial import Dial, join_url, path_segment, websocket_url


def test_credentials_and_what_is_said_are_not_shown() -> None:
    dial = Dial("https://a/v1", {"authorization": "Bearer secret"}, body=b"my words")
    assert "secret" not in repr(dial)
    assert "my words" not in repr(dial)


@pytest.mark.parametrize("base", ["https://a/v1", "https://a/v1/"])
@pytest.mark.parametrize("path", ["models", "/models"])
def test_a_path_is_joined_with_one_slash(base: str, path: str) -> None:
    assert join_url(base, path) == "https://a/v1/models"


@pytest.mark.parametrize(
    ("base", "socket"),
    [
        ("https://a/v1", "wss://a/v1"),
        ("http://127.0.0.1:80", "ws://127.0.0.1:80"),
        ("wss://a", "wss://a"),
        ("ws://a", "ws://a"),
    ],
)
def test_the_scheme_becomes_that_of_a_websocket_as_secure_as_before(base: str, socket: str) -> None:
    assert websocket_url(base) == socket


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "../x", "a?b", "a#b", "a b", "%2e%2e", "ü", "a\\b", "...", "a&b=c"]
)
def test_a_name_is_one_segment_of_a_path_whatever_it_holds(name: str) -> None:
    url = URL(f"https://a/v1/{path_segment(name)}/chat?x=1")
    assert url.raw_parts[1::2] == ("v1", "chat")
    assert len(url.raw_parts) == 4
    assert dict(url.query) == {"x": "1"}
    assert not url.raw_fragment
